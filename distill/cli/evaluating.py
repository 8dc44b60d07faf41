"""The verb evaluate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distill.cli.endings import print_next
from distill.cli.options import A_MODEL, HANDED, OUTPUT, PIXELS, TEACHER, WORK, AsJson, Options, RootOfSet, one_of, print_json, takes
from distill.errors import DistillError, Unfinished
from distill.storage.path import StoragePath, as_path

if TYPE_CHECKING:
    from distill.results import EvaluateResult

PAIRS = "Pairs"
Pairs = Annotated[
    list[StoragePath] | None,
    typer.Option(
        parser=as_path,
        metavar="PAIRS",
        rich_help_panel=PAIRS,
        help="class folders of identities never trained on: pairs are drawn from them; or a .bin file, or a text list of pairs; may be given several times",
    ),
]
PairsRoot = Annotated[
    StoragePath | None,
    typer.Option(
        parser=as_path,
        metavar="FOLDER",
        rich_help_panel=PAIRS,
        help="folder of the images that a text list of pairs names",
        show_default="the folder of the list",
    ),
]
Number = Annotated[
    int | None,
    typer.Option(metavar="N", rich_help_panel=PAIRS, help="how many pairs to draw, half of them genuine", show_default="6000, or as many as there are"),
]
Seed = Annotated[int, typer.Option(metavar="N", rich_help_panel=PAIRS, help="another seed draws other pairs")]
Identify = Annotated[
    StoragePath | None,
    typer.Option(
        parser=as_path,
        metavar="FOLDER",
        rich_help_panel=PAIRS,
        help="class folders of identities never trained on: is each photo nearest to the first one of its own person (rank 1)",
    ),
]
Flip = Annotated[
    bool, typer.Option("--flip", rich_help_panel=PAIRS, help="embed each image and its mirror image, and take the sum, as in most published figures")
]
Resamples = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        rich_help_panel=PAIRS,
        help="how often identities (or pairs) are drawn again for 95 % intervals; 0: no intervals",
        show_default="1000, none of more than 100,000 pairs",
    ),
]
Groups = Annotated[
    StoragePath | None,
    typer.Option(
        parser=as_path, metavar="FILE", rich_help_panel=PAIRS, help="text, IDENTITY<TAB>GROUP on each line: the figures of each group, the worst first"
    ),
]
Probe = Annotated[
    StoragePath | None,
    typer.Option(
        parser=as_path,
        metavar="FOLDER|SHARDS",
        rich_help_panel=PAIRS,
        help="labelled images: how well a linear classifier on the embeddings tells their identities, on a fifth of each one's images",
    ),
]
Shards = Annotated[
    StoragePath | None,
    typer.Option(parser=as_path, metavar="SHARDS", rich_help_panel=TEACHER, help="a set of shards: how far the model agrees with the teacher that made it"),
]
Leaks = Annotated[
    bool | None,
    typer.Option(
        "--leaks/--no-leaks",
        rich_help_panel=TEACHER,
        help="look through all of SHARDS for files and pictures that the pairs show",
        show_default="of a set on this machine",
    ),
]
LeakBound = Annotated[
    float | None,
    typer.Option(metavar="COSINE", rich_help_panel=TEACHER, help="from which cosine on a picture of the pairs is one of SHARDS", show_default="0.95"),
]
Teacher = Annotated[str | None, typer.Option(metavar="MODEL", rich_help_panel=TEACHER, help="evaluate this teacher too, on the same pairs")]
Out = Annotated[
    StoragePath | None,
    typer.Option(parser=as_path, metavar="FOLDER", rich_help_panel=OUTPUT, help="also write evaluation.json and scores-*.npz into this folder"),
]

TEMPLATES = "Templates (IJB-B, IJB-C)"
Templates = Annotated[
    StoragePath | None,
    typer.Option(
        parser=as_path,
        metavar="LIST",
        rich_help_panel=TEMPLATES,
        help="IMAGE TEMPLATE MEDIA on each line; MODEL may then be the features of these images, in an .npy, an .npz or a set of shards",
    ),
]
TemplatePairs = Annotated[
    StoragePath | None, typer.Option(parser=as_path, metavar="LIST", rich_help_panel=TEMPLATES, help="TEMPLATE TEMPLATE 1 on each line, 0 for two people")
]
TemplateRoot = Annotated[
    StoragePath | None,
    typer.Option(parser=as_path, metavar="FOLDER", rich_help_panel=TEMPLATES, help="folder of the images, for models", show_default="the folder of the list"),
]
TemplateNorm = Annotated[
    str, typer.Option(**one_of("keep", "unit"), rich_help_panel=TEMPLATES, help="keep: long features count for more; unit: all images of a media alike")
]
DetectorScores = Annotated[bool, typer.Option("--detector-scores", rich_help_panel=TEMPLATES, help="each image counts as the fourth number of its line says")]

ON_PAIRS: Options = {
    "pairs": (Pairs, None),
    "pairs_root": (PairsRoot, None),
    "number": (Number, None),
    "seed": (Seed, 0),
    "identify": (Identify, None),
    "flip": (Flip, False),
    "resamples": (Resamples, None),
    "groups": (Groups, None),
    "probe": (Probe, None),
}
Speed = Annotated[
    bool | None,
    typer.Option(
        "--speed/--no-speed",
        rich_help_panel=WORK,
        help="measure how long each model takes on the CPU (up to 40 s a model), and say its size and operations",
        show_default="of several models",
    ),
]
FORMS = ("text", "json", "csv", "markdown")
Form = Annotated[
    str, typer.Option("--format", **one_of(*FORMS), rich_help_panel=OUTPUT, help="how the result is printed; csv and markdown: a row a model and set")
]
COST: Options = {"speed": (Speed, None)}
ON_TEMPLATES: Options = {
    "templates": (Templates, None),
    "template_pairs": (TemplatePairs, None),
    "template_root": (TemplateRoot, None),
    "template_norm": (TemplateNorm, "keep"),
    "detector_scores": (DetectorScores, False),
}
ON_TEACHER: Options = {"shards": (Shards, None), "leaks": (Leaks, None), "leak_bound": (LeakBound, None), "teacher": (Teacher, None), "root": (RootOfSet, None)}


@takes(ON_PAIRS, ON_TEMPLATES, ON_TEACHER, PIXELS, HANDED, COST)
def evaluate(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help=f"{A_MODEL}; several are judged on the same pairs, in one table")],
    out: Out = None,
    as_json: AsJson = False,
    form: Form = "text",
    **options: Any,
) -> None:
    """Evaluate models on unseen identities, and beside their teacher.

    The options under Preprocessing are those of the teacher where --teacher is given, else those of the only MODEL; of several, each has its own in the
    model.json beside it. Differences are to the teacher, or without --teacher to the first MODEL.

    \b
    Example: distill evaluate runs/joint --pairs faces/unseen --shards out
    """
    from distill import api

    if form not in FORMS or as_json and form not in ("text", "json"):
        raise DistillError(f"--format {form}{' and --json' * as_json}: expected one of {', '.join(FORMS)}.")
    found = api.evaluate(models, out=out, **options)
    _print(found, "json" if as_json else form, models)
    if left := [who for who, one in found.judged.items() if one.left_out]:
        raise Unfinished(f"{options['shards']}: no agreement of the {' and the '.join(left)} with it could be told.")
    if missing := _asked_and_left_out(found, options):
        raise Unfinished(f"not done, though it was asked for: {'; '.join(missing)}.")


def _asked_and_left_out(found: EvaluateResult, options: Mapping[str, Any]) -> list[str]:
    """Returns what --speed and --leaks were given for and what could not be found out, with the reasons; what is done unasked is a note."""
    told = list[str]()
    for who, one in found.judged.items():
        cost, leaks = one.figures.get("cost") or {}, one.figures.get("leaks") or {}
        if options.get("speed") and (reason := (cost.get("left_out") or {}).get("latency")):
            told.append(f"the time of {who} ({reason})")
        if options.get("leaks"):
            told += [f"{kind.replace('_', ' ')} ({each['left_out']})" for kind, each in leaks.items() if isinstance(each, dict) and "left_out" in each]
    return told


def _print(found: EvaluateResult, form: str, models: Sequence[str]) -> None:
    if form == "json":
        print_json(found.as_dict())
    elif form == "csv":
        print(found.as_csv(), end="")
    elif form == "markdown":
        print(found.as_markdown())
    else:
        print(found.in_words())
        print_next(*_after_evaluate(models, found))


def _after_evaluate(models: Sequence[str], found: EvaluateResult) -> list[list[object]]:
    """Returns what a person does with a model that was judged: pairs with its threshold, and the export of a student that is none yet."""
    at = 1 if len(models) > 1 and found.teacher is None else 0  # the first of several is what the others are compared with
    model, threshold = models[at], list(found.judged.values())[at].threshold
    words: list[list[object]] = [] if threshold is None else [["compare", model, "ONE.jpg", "OTHER.jpg", "--threshold", f"{threshold:.3f}"]]
    if model.endswith(".keras") or (as_path(model) / "student.keras").is_file():
        words.append(["export", model, "OUT"])
    return words
