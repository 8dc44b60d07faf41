"""The verb report."""

from __future__ import annotations

from typing import Annotated

import typer

from distill.cli.options import OUTPUT, AsJson, print_json
from distill.storage.path import StoragePath, as_path


def report(
    runs: Annotated[list[StoragePath], typer.Argument(help="run folder; several are set side by side in one page", parser=as_path, metavar="RUN...")],
    out: Annotated[
        StoragePath | None,
        typer.Option(
            parser=as_path, metavar="FILE", rich_help_panel=OUTPUT, help="the HTML file to write; needed for several runs", show_default="RUN/report.html"
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the page of a run: the verdict first, then all that is known of it, in one HTML file.

    \b
    Example: distill report runs/joint
    """
    from distill import api

    made = api.write_report(runs, out=out)
    if as_json:
        print_json(made.as_dict())
    else:
        print(made.in_words())
