"""The verb export."""

from __future__ import annotations

from typing import Annotated

import typer

from distill.cli.endings import print_next
from distill.cli.options import AsJson, Out, one_of, print_json
from distill.storage.path import StoragePath, as_path


def export(
    student: Annotated[StoragePath, typer.Argument(help="run folder or .keras file", parser=as_path, metavar="STUDENT")],
    out: Out,
    format: Annotated[str, typer.Option(**one_of("saved_model"), help="file format to write")] = "saved_model",
    force: Annotated[bool, typer.Option("--force", help="replace an earlier export at OUT")] = False,
    as_json: AsJson = False,
) -> None:
    """Export a student as a SavedModel. It is loaded again first, and has to give the same embeddings.

    \b
    Example: distill export runs/joint exported
    """
    from distill import api

    made = api.export_model(student, out, format=format, force=force)
    if as_json:
        print_json(made.as_dict())
        return
    print(made.in_words())
    print(f"in Python: import distill; model = distill.load_model({str(out)!r})  # uint8 [N, {made.height}, {made.width}, 3] -> float32 [N, {made.dimension}]")
    print_next(["evaluate", out, "--pairs", "FOLDER"])
