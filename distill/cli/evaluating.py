"""The verb evaluate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill.cli.endings import print_next
from distill.cli.options import HANDED, OUTPUT, PIXELS, TEACHER, AsJson, Model, RootOfSet, print_json, takes
from distill.errors import Unfinished
from distill.storage.path import StoragePath, as_path

if TYPE_CHECKING:
    from distill.results import EvaluateResult


@takes(PIXELS, HANDED)
def evaluate(
    model: Model,
    pairs: Annotated[
        list[StoragePath] | None,
        typer.Option(
            parser=as_path,
            metavar="PAIRS",
            rich_help_panel="Pairs",
            help="class folders of identities never trained on: pairs are drawn from them; or a .bin file, or a text list of pairs; may be given several times",
        ),
    ] = None,
    pairs_root: Annotated[
        StoragePath | None,
        typer.Option(
            parser=as_path,
            metavar="FOLDER",
            rich_help_panel="Pairs",
            help="folder of the images that a text list of pairs names",
            show_default="the folder of the list",
        ),
    ] = None,
    number: Annotated[
        int | None,
        typer.Option(metavar="N", rich_help_panel="Pairs", help="how many pairs to draw, half of them genuine", show_default="6000, or as many as there are"),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", rich_help_panel="Pairs", help="another seed draws other pairs")] = 0,
    identify: Annotated[
        StoragePath | None,
        typer.Option(
            parser=as_path,
            metavar="FOLDER",
            rich_help_panel="Pairs",
            help="class folders of identities never trained on: is each photo nearest to the first one of its own person (rank 1)",
        ),
    ] = None,
    flip: Annotated[
        bool, typer.Option("--flip", rich_help_panel="Pairs", help="embed each image and its mirror image, and take the sum, as in most published figures")
    ] = False,
    resamples: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            rich_help_panel="Pairs",
            help="how often identities (or pairs) are drawn again for 95 % intervals; 0: no intervals",
            show_default="1000, none of more than 100,000 pairs",
        ),
    ] = None,
    groups: Annotated[
        StoragePath | None,
        typer.Option(
            parser=as_path, metavar="FILE", rich_help_panel="Pairs", help="text, IDENTITY<TAB>GROUP on each line: the figures of each group, the worst first"
        ),
    ] = None,
    shards: Annotated[
        StoragePath | None,
        typer.Option(parser=as_path, metavar="SHARDS", rich_help_panel=TEACHER, help="a set of shards: how far the model agrees with the teacher that made it"),
    ] = None,
    teacher: Annotated[str | None, typer.Option(metavar="MODEL", rich_help_panel=TEACHER, help="evaluate this teacher too, on the same pairs")] = None,
    root: RootOfSet = None,
    out: Annotated[
        StoragePath | None,
        typer.Option(parser=as_path, metavar="FOLDER", rich_help_panel=OUTPUT, help="also write evaluation.json and scores-*.npz into this folder"),
    ] = None,
    as_json: AsJson = False,
    **options: Any,
) -> None:
    """Evaluate a model on unseen identities, and beside its teacher.

    The options under Preprocessing are those of the teacher where --teacher is given, else those of MODEL.

    \b
    Example: distill evaluate runs/joint --pairs faces/unseen --shards out
    """
    from distill import api

    asked: dict[str, Any] = {
        "pairs": pairs,
        "pairs_root": pairs_root,
        "number": number,
        "seed": seed,
        "identify": identify,
        "flip": flip,
        "resamples": resamples,
        "groups": groups,
    }
    found = api.evaluate(model, **asked, shards=shards, teacher=teacher, root=root, out=out, **options)
    if as_json:
        print_json(found.as_dict())
    else:
        print(found.in_words())
        print_next(*_after_evaluate(model, found))
    if left := [who for who, one in found.judged.items() if one.left_out]:
        raise Unfinished(f"{shards}: no agreement of the {' and the '.join(left)} with it could be told.")


def _after_evaluate(model: str, found: EvaluateResult) -> list[list[object]]:
    """Returns what a person does with a model that was judged: pairs with its threshold, and the export of a student that is none yet."""
    threshold = found.model.threshold
    words: list[list[object]] = [] if threshold is None else [["compare", model, "ONE.jpg", "OTHER.jpg", "--threshold", f"{threshold:.3f}"]]
    if model.endswith(".keras") or (as_path(model) / "student.keras").is_file():
        words.append(["export", model, "OUT"])
    return words
