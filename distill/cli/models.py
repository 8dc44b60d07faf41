"""Verbs of finished models: evaluate, compare, export."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from distill import DistillError, Unfinished
from distill.cli.options import (
    OUTPUT,
    TEACHER,
    AsJson,
    Color,
    Exif,
    Feed,
    Model,
    Offset,
    Out,
    Output,
    Preset,
    Resize,
    RootOfSet,
    Scale,
    Signature,
    Size,
    Tags,
    one_of,
    open_described,
    parse_size,
    print_json,
)
from distill.remote import place


def evaluate(
    model: Model,
    pairs: Annotated[
        Path | None,
        typer.Option(parser=place, metavar="FOLDER", rich_help_panel="Pairs", help="class folders of identities never trained on: pairs are drawn from them"),
    ] = None,
    number: Annotated[
        int | None,
        typer.Option(metavar="N", rich_help_panel="Pairs", help="how many pairs, half of them genuine", show_default="6000, or as many as there are"),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", rich_help_panel="Pairs", help="another seed draws other pairs")] = 0,
    shards: Annotated[
        Path | None,
        typer.Option(parser=place, metavar="SHARDS", rich_help_panel=TEACHER, help="a set of shards: how far the model agrees with the teacher that made it"),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(metavar="MODEL", rich_help_panel=TEACHER, help="evaluate this teacher too, on the same pairs")
    ] = None,
    root: RootOfSet = None,
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
    out: Annotated[
        Path | None, typer.Option(parser=place, metavar="FOLDER", rich_help_panel=OUTPUT, help="also write evaluation.json and scores-*.npz into this folder")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate a model on unseen identities, and beside its teacher.

    The options under Preprocessing are those of the teacher where --teacher is given, else those of MODEL.

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
    model: Model,
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
    """Compare photos by the cosines of their embeddings. 1 is the same direction; two persons are near 0.

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
    format: Annotated[str, typer.Option(**one_of("saved_model"), help="file format to write")] = "saved_model",
    force: Annotated[bool, typer.Option("--force", help="replace an earlier export at OUT")] = False,
    as_json: AsJson = False,
) -> None:
    """Export a student as a SavedModel. It is loaded again first, and has to give the same embeddings.

    \b
    Example: distill export runs/joint exported
    """
    from distill.export import export as write

    card = write(student, out, format, force=force)
    if as_json:
        print_json(card)
    else:
        print(f"{out}: {format}, loaded again and equal to the student")
