"""The verb compare."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill.cli.endings import print_next
from distill.cli.help import in_colour
from distill.cli.options import HANDED, OUTPUT, PIXELS, TEACHER, AsJson, Model, Resize, print_json, takes
from distill.storage.files import is_there
from distill.storage.path import StoragePath, as_path

if TYPE_CHECKING:
    from distill.results import CompareResult

VERDICTS = "Verdicts"


@takes({**PIXELS, "resize": (Resize, "crop")}, HANDED)
def compare(
    model: Model,
    images: Annotated[list[StoragePath], typer.Argument(help="two photos or more, of any size", parser=as_path, metavar="IMAGES...")],
    threshold: Annotated[
        float | None, typer.Option(metavar="X", rich_help_panel=VERDICTS, help="two photos of at least this cosine are called the same person, -1 to 1")
    ] = None,
    evaluation: Annotated[
        StoragePath | None,
        typer.Option(
            parser=as_path, metavar="RUN|FILE", rich_help_panel=VERDICTS, help="take the threshold that an evaluation found: its evaluation.json, or the folder"
        ),
    ] = None,
    far: Annotated[
        float | None, typer.Option(metavar="X", rich_help_panel=VERDICTS, help="false accept rate of the threshold of --evaluation", show_default="0.01")
    ] = None,
    teacher: Annotated[str | None, typer.Option(metavar="MODEL", rich_help_panel=TEACHER, help="show the cosines of this teacher too")] = None,
    plot: Annotated[
        StoragePath | None, typer.Option(parser=as_path, metavar="FILE", rich_help_panel=OUTPUT, help="draw the photos and the matrix as a PNG")
    ] = None,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Compare photos by the cosines of their embeddings. 1 is the same direction; two persons are near 0.

    Photos of another size than the model takes are cropped in the middle and scaled; faces are neither found nor aligned. In a terminal a
    higher cosine is a darker cell. With --teacher the options of preprocessing are the teacher's.

    \b
    Example: distill compare runs/joint anna1.jpg anna2.jpg bea.jpg --plot all.png
    """
    from distill import api

    found = api.compare(model, images, threshold=threshold, evaluation=evaluation, far=far, teacher=teacher, plot=plot, **options)
    _tell(found, options["resize"])
    if as_json:
        print_json(found.as_dict())
        return
    print(found.in_words(colours=in_colour()))
    if found.plot:
        print(f"{found.plot} shows the photos and the matrix")
    if found.threshold is None:
        _next(model, images)


def _tell(found: CompareResult, resize: str) -> None:
    """What was done to the photos, on stderr."""
    of = len(found.images)
    if found.resized:
        how = "cropped in the middle and scaled" if resize == "crop" else "stretched"
        other = "stretch" if resize == "crop" else "crop"
        told = f"{len(found.resized)} of {of} photos have another size than the model takes and were {how}, {found.resized[0]} for one"
        print(f"{told}; --resize {other} or none does otherwise. Faces that are not aligned as in training compare badly", file=sys.stderr)
    if found.turned:
        told = f"{len(found.turned)} of {of} images carry an EXIF rotation that is not applied, {found.turned[0]} for one"
        print(f"{told}; --exif apply turns them", file=sys.stderr)


def _next(model: str, images: Sequence[StoragePath]) -> None:
    place = as_path(model)
    if any(is_there(place / name) for name in ("evaluation.json", "evaluation/evaluation.json")):
        print_next(["compare", model, *images, "--evaluation", model], note="says who is the same person")
    else:
        print_next(["evaluate", model, "--pairs", "FOLDER"], note="finds a threshold for --threshold")
