"""The verb demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distill.cli.options import Out


def demo(
    out: Out = Path("demo"),
    small: Annotated[bool, typer.Option("--small", help="a minute instead of five, with figures that say little; for tests")] = False,
) -> None:
    """Show the whole job on drawn faces, in three to seven minutes.

    \b
    Example: distill demo
    """
    from distill.cli.main import run
    from distill.demo import demo as show

    show(out, small, run)
