"""The verb demo. Short, because distill.demo does the work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distill.cli.options import Out


def demo(
    out: Out = Path("demo"),
    small: Annotated[bool, typer.Option("--small", help="about a minute instead of three; its figures mean little")] = False,
    train_teacher: Annotated[
        bool, typer.Option("--train-teacher", help="train the teacher here instead of using the one that ships with distill; takes some minutes more")
    ] = False,
) -> None:
    """Show the whole job on drawn faces, in about three minutes.

    \b
    Example: distill demo
    """
    from distill.cli.main import run
    from distill.data.folders import check_local
    from distill.demo import demo as show

    show(check_local(out, "demo"), small, run, train_teacher)
