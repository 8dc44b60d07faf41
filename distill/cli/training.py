"""The verb train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distill.cli.endings import print_next
from distill.cli.options import AsJson, print_json
from distill.remote import place


def train(
    run: Annotated[Path, typer.Argument(help="run file (TOML), or run.toml of an earlier run", parser=place, metavar="RUN")],
    out: Annotated[Path, typer.Option(help="the run folder to write, or to go on in", parser=place, metavar="FOLDER")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="change a value of the run file: student.embedding=256; may be given several times")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train a student as a run file says. Running it again goes on where it stopped.

    \b
    Example: distill train docs/examples/joint.toml --out runs/joint \\
               --set data.shards=out
    """
    from distill import api

    done = api.train(run, out, set=set_ or (), progress=not as_json)
    if as_json:
        print_json(done.as_dict())
        return
    print(done.in_words())
    print_next(["evaluate", out, "--pairs", "FOLDER"], ["export", out, "OUT"])
