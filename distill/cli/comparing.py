"""The verb compare."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from distill.cli.endings import print_next
from distill.cli.options import HANDED, PIXELS, AsJson, Model, print_json, takes
from distill.storage.path import StoragePath, as_path


@takes(PIXELS, HANDED)
def compare(
    model: Model,
    images: Annotated[list[StoragePath], typer.Argument(help="two photos or more", parser=as_path, metavar="IMAGES...")],
    threshold: Annotated[
        float | None, typer.Option(metavar="X", help="two photos of at least this cosine are called the same person, -1 to 1; distill evaluate finds one")
    ] = None,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Compare photos by the cosines of their embeddings. 1 is the same direction; two persons are near 0.

    \b
    Example: distill compare runs/joint anna1.jpg anna2.jpg bea.jpg
    """
    from distill import api

    found = api.compare(model, images, threshold=threshold, **options)
    if found.turned:
        told = f"{len(found.turned)} of {len(images)} images carry an EXIF rotation that is not applied, {found.turned[0]} for one"
        print(f"{told}; --exif apply turns them", file=sys.stderr)
    if as_json:
        print_json(found.as_dict())
        return
    print(found.in_words())
    if threshold is None:
        print_next(["evaluate", model, "--pairs", "FOLDER"], note="finds a threshold for --threshold")
