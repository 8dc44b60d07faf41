"""The verb demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distill.remote import place


def demo(
    out: Annotated[Path, typer.Argument(help="folder to write", parser=place, metavar="OUT")] = Path("demo"),
    small: Annotated[bool, typer.Option(help="a minute instead of five, with figures that say little; for tests")] = False,
) -> None:
    """All of it on drawn faces: teacher, shards, student, comparison, export, report.

    \b
    Example: distill demo
    """
    from distill.cli.main import run
    from distill.demo import demo as show

    show(out, small, run)
