"""The verb export."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from distill.cli.endings import print_next
from distill.cli.options import IMAGES, AsJson, Exif, Out, Resize, RootOfSet, one_of, print_json
from distill.storage.path import StoragePath, as_path

FORMATS = ("saved_model", "onnx", "litert", "litert_float16", "litert_int8", "openvino", "all")
PAIRS = "Pairs"


def export(
    student: Annotated[StoragePath, typer.Argument(help="run folder, .keras or .h5 file", parser=as_path, metavar="STUDENT")],
    out: Out,
    format: Annotated[
        str,
        typer.Option(
            **one_of(*FORMATS), help="file format to write; all: each one that this machine has the libraries for, the others are named, which is no failure"
        ),
    ] = "saved_model",
    force: Annotated[bool, typer.Option("--force", help="replace an earlier export at OUT")] = False,
    images: Annotated[
        StoragePath | None,
        typer.Option(
            parser=as_path,
            metavar="SOURCE",
            rich_help_panel=IMAGES,
            help="photos that each file is compared on, and that show an int8 file its ranges: folder, list, .rec or .tar",
            show_default="those of the run's shards",
        ),
    ] = None,
    shards: Annotated[
        StoragePath | None, typer.Option(parser=as_path, metavar="SHARDS", rich_help_panel=IMAGES, help="a set of shards whose images are taken for that")
    ] = None,
    root: RootOfSet = None,
    resize: Resize = "none",
    exif: Exif = "ignore",
    pairs: Annotated[
        list[StoragePath] | None,
        typer.Option(
            parser=as_path,
            metavar="PAIRS",
            rich_help_panel=PAIRS,
            help="pairs as for distill evaluate, several times too: no file may lose more than a point of TAR at FAR 1 % on them",
        ),
    ] = None,
    pairs_root: Annotated[
        StoragePath | None, typer.Option(parser=as_path, metavar="FOLDER", rich_help_panel=PAIRS, help="folder of the images that a text list of pairs names")
    ] = None,
    number: Annotated[
        int | None, typer.Option(metavar="N", rich_help_panel=PAIRS, help="how many pairs to draw from a folder", show_default="6000, or as many as there are")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Export a student for others to load: SavedModel, ONNX, LiteRT, OpenVINO.

    Each file is loaded in its own engine first, and has to give the same embeddings as the student, or nothing is written.

    \b
    Example: distill export runs/joint exported --format all
    """
    from distill import api

    asked: dict[str, Any] = {
        "images": images,
        "shards": shards,
        "root": root,
        "resize": resize,
        "exif": exif,
        "pairs": pairs,
        "pairs_root": pairs_root,
        "number": number,
    }
    made = api.export_model(student, out, format=format, force=force, **asked)
    if as_json:
        print_json(made.as_dict())
        return
    print(made.in_words())
    first = next(iter(made.files().values()), out)
    model = out if format == "saved_model" else first
    print(
        f"in Python: import distill; model = distill.load_model({str(model)!r})  # uint8 [N, {made.height}, {made.width}, 3] -> float32 [N, {made.dimension}]"
    )
    print_next(["evaluate", model, "--pairs", "FOLDER"])
