"""The verb inspect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distill.cli.options import AsJson, open_described, print_json
from distill.remote import place


def inspect(path: Annotated[Path, typer.Argument(help="anything that distill reads or writes", parser=place, metavar="PATH")], as_json: AsJson = False) -> None:
    """Say what lies at a path, and what to do with it next.

    \b
    Example: distill inspect out
    """
    from distill.describe import describe, in_words

    found = describe(path, lambda model: open_described(str(model)).load().describe())
    if as_json:
        print_json(found)
    else:
        print(in_words(found))
