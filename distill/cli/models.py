"""Verbs of finished models: evaluate, compare, export."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from distill import DistillError, Unfinished
from distill.cli.options import (
    AsJson,
    Color,
    Exif,
    Feed,
    Offset,
    Out,
    Output,
    Preset,
    Resize,
    Root,
    Scale,
    Signature,
    Size,
    Tags,
    open_described,
    parse_size,
    print_json,
)
from distill.remote import place


def evaluate(
    model: Annotated[str, typer.Argument(help="run folder, SavedModel, .keras or .onnx")],
    pairs: Annotated[Path | None, typer.Option(parser=place, metavar="FOLDER", help="folder of identities never trained on: pairs are drawn from it")] = None,
    number: Annotated[int | None, typer.Option(help="how many pairs, half of them genuine; default: 6000, or as many as there are")] = None,
    seed: Annotated[int, typer.Option(help="of the drawing")] = 0,
    shards: Annotated[Path | None, typer.Option(parser=place, metavar="SHARDS", help="shards: how far the model agrees with the teacher that made them")] = None,
    teacher: Annotated[str | None, typer.Option(help="evaluate this teacher on the same pairs, beside the model")] = None,
    root: Root = None,
    resize: Resize = "none",
    exif: Exif = "ignore",
    size: Size = None,
    signature: Signature = None,
    output: Output = None,
    scale: Scale = None,
    offset: Offset = None,
    color: Color = None,
    preset: Preset = None,
    feed: Feed = None,
    tags: Tags = None,
    out: Annotated[Path | None, typer.Option(parser=place, metavar="FOLDER", help="folder for evaluation.json and scores-*.npz")] = None,
    as_json: AsJson = False,
) -> None:
    """Judge a model: verification on pairs of unseen identities, agreement with its teacher on shards.

    --signature, --output, --scale, --offset, --color, --preset, --feed and --tags are those of TEACHER where one is given, else of MODEL.

    \b
    Example: distill evaluate runs/joint --pairs faces/unseen --shards out
    """
    if pairs is None and shards is None:
        raise DistillError("Nothing to evaluate on. Give --pairs FOLDER (a folder of class folders), --shards SHARDS, or both.")
    reading = (signature, output, scale, offset, color, preset, feed, tags)
    described = {"model": open_described(model, *(() if teacher else reading))}
    if teacher is not None:
        described["teacher"] = open_described(teacher, *reading)
    from distill.api import load_steady
    from distill.evaluation import draw_pairs
    from distill.folders import check_apart, check_folder
    from distill.judge import Question, in_words, judge
    from distill.origin import origin_of

    if out is not None:
        check_folder(out, "evaluation", "run")
    if out is not None and pairs is not None:
        check_apart(pairs, out, "evaluation")
    drawn = None if pairs is None else draw_pairs(pairs, number, seed)
    question = Question(pairs, drawn, shards, origin_of(model).holdout, root, resize, parse_size(size), out, exif)
    result = judge({who: (one.path, partial(load_steady, one, parse_size(size))) for who, one in described.items()}, question)
    if as_json:
        print_json(result)
    else:
        print(in_words(result))
    if left := [who for who, judged in result.items() if "agreement_left_out" in judged]:
        raise Unfinished(f"{shards}: no agreement of the {' and the '.join(left)} with it could be told.")


def compare(
    model: Annotated[str, typer.Argument(help="run folder, SavedModel, .keras or .onnx")],
    images: Annotated[list[Path], typer.Argument(help="two photos or more", parser=place, metavar="IMAGES...")],
    resize: Resize = "none",
    exif: Exif = "ignore",
    size: Size = None,
    signature: Signature = None,
    output: Output = None,
    scale: Scale = None,
    offset: Offset = None,
    color: Color = None,
    preset: Preset = None,
    feed: Feed = None,
    tags: Tags = None,
    as_json: AsJson = False,
) -> None:
    """Print the matrix of cosines of photos: 1 is the same direction, about 0 another person.

    \b
    Example: distill compare runs/joint anna1.jpg anna2.jpg bea.jpg
    """
    from distill.api import load_steady
    from distill.evaluation import compare as cosines
    from distill.images import orientation

    described = open_described(model, signature, output, scale, offset, color, preset, feed, tags)
    matrix = cosines(load_steady(described), images, resize, parse_size(size), exif)
    turned = [str(image) for image in images if exif == "ignore" and orientation(image.read_bytes()) != 1]
    if turned:
        print(f"{len(turned)} of {len(images)} images carry an EXIF rotation that is not applied, {turned[0]} for one; --exif apply turns them", file=sys.stderr)
    if as_json:
        print_json({"images": [str(image) for image in images], "cosines": matrix.round(6).tolist()})
        return
    print(
        "\n".join(
            f"{str(image)[-40:]:>40} " + " ".join(f"{value:6.3f}" for value in row) for image, row in zip(images, matrix, strict=True)
        )
    )


def export(
    student: Annotated[Path, typer.Argument(help="run folder or .keras file", parser=place, metavar="STUDENT")],
    out: Out,
    format: Annotated[str, typer.Option(help="saved_model")] = "saved_model",
    force: Annotated[bool, typer.Option(help="replace an earlier export at OUT")] = False,
    as_json: AsJson = False,
) -> None:
    """Write the student for others to load; done only after it was loaded again and gave the same embeddings.

    \b
    Example: distill export runs/joint exported
    """
    from distill.export import export as write

    card = write(student, out, format, force=force)
    if as_json:
        print_json(card)
    else:
        print(f"{out}: {format}, loaded again and equal to the student")
