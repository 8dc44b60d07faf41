"""What is said of the models of an evaluation when all have been judged: differences, the student against the teacher's gallery, leaks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distill.data.shards import ShardSet, open_shards
from distill.evaluation.asymmetric import asymmetric_figures, projected
from distill.evaluation.disagreement import shown_pairs
from distill.evaluation.leak_search import Looker, bound_of, leak_figures
from distill.evaluation.on_pairs import Found
from distill.evaluation.request import Bar, EvaluationRequest
from distill.training.origin import origin_of, projection_of


@dataclass(frozen=True)
class Evaluated:
    """figures: of a model; arrays: behind them; on_pairs: what was found on each set of pairs, and on people; on_probe: by a classifier."""

    figures: dict[str, Any]
    arrays: dict[str, Any] = field(default_factory=dict)
    on_pairs: list[Found] = field(default_factory=list)
    on_probe: list[Found] = field(default_factory=list)


def add_differences(found: Mapping[str, Evaluated], request: EvaluationRequest) -> None:
    """Adds "minus_teacher" or "minus_first" to the figures of each model but the one that they are differences to."""
    for who, one in found.items():
        if who != request.reference and request.reference in found:
            other = found[request.reference]
            for own, others in zip([*one.on_pairs, *one.on_probe], [*other.on_pairs, *other.on_probe], strict=True):
                own.figures.update(own.against(others, "minus_teacher" if request.reference == "teacher" else "minus_first"))


def add_shown(found: Mapping[str, Evaluated], request: EvaluationRequest) -> None:
    """Adds, for each set of pairs, those that a model and its teacher see most differently, as small images; nothing where no files are written."""
    if request.out is None or "teacher" not in found:
        return
    teacher = found["teacher"]
    for who in found.keys() - {"teacher"}:
        for number, (pair_set, theirs, own) in enumerate(zip(request.sets, teacher.on_pairs, found[who].on_pairs, strict=False), 1):
            end, cuts = "" if number == 1 else f"_{number}", (theirs.figures["threshold"], own.figures["threshold"])
            shown = shown_pairs(teacher.arrays[f"scores{end}"], found[who].arrays[f"scores{end}"], cuts, pair_set)
            found[who].arrays.update({f"{name}{end}": array for name, array in shown.items()})


def add_asymmetric(found: Mapping[str, Evaluated], request: EvaluationRequest) -> None:
    """Adds "asymmetric" of each model beside its teacher, or "asymmetric_left_out" with the reason."""
    teacher = found.get("teacher")
    for one in found.values():
        if teacher is not None and one is not teacher and one.on_pairs:
            figures, arrays = asymmetric_figures(one.figures["path"], one.on_pairs, teacher.on_pairs, request)
            one.figures.update(figures)
            one.arrays.update(arrays)


def add_leaks(found: Mapping[str, Evaluated], request: EvaluationRequest, bar: Bar) -> None:
    """Adds "leaks" to the first model, where there are a set and images that may leak from it."""
    first = next(iter(found.values()), None)
    if first is not None and first.on_pairs and request.shards is not None:
        shards = open_shards(request.shards)
        learned = origin_of(first.figures["path"]).learned(shards.identity, None)
        first.figures["leaks"] = {"trained_on": learned, **leak_figures(shards, request, _looker(found, shards, request), bar)}


def _looker(found: Mapping[str, Evaluated], shards: ShardSet, request: EvaluationRequest) -> Looker | str:
    """Returns who has embedded the images of an evaluation as those of a set are: the model that made it, else a student that is close enough to it;
    or why there is none."""
    if request.flip:
        return "embeddings are sums with those of mirrored images, and those of the set are not: leave --flip out"
    if request.made_by is not None and request.made_by in found:
        tables = [one.embeddings for one in found[request.made_by].on_pairs if one.embeddings is not None]
        return Looker(request.made_by, tables)
    who, first = next(iter(found.items()))
    needed, close = f"the model that made {request.shards} is needed, as --teacher", first.figures.get("agreement", {}).get("quantiles", {}).get("50")
    if close is None:
        return needed
    if close < bound_of(request):
        return f"{needed}; the cosine of {who} to it is {close:.3f} in the median, less than the bound"
    kernel = None if first.on_pairs[0].dimension == shards.dimension else projection_of(first.figures["path"], shards.dimension)
    return Looker(who, [projected(one.embeddings, kernel) for one in first.on_pairs if one.embeddings is not None], close)
