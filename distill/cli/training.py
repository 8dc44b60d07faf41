"""The verb train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
    from distill.api import load_model
    from distill.config import load_run

    loaded = load_run(run, set_ or ())
    from distill.process import quiet_import
    from distill.report import write_run_report

    with quiet_import():
        from distill.training import train as run_stages

    summary = run_stages(loaded, out, open_teacher=load_model, quiet=as_json)
    write_run_report(out)
    if as_json:
        print_json(summary)
