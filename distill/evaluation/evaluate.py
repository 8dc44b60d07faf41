"""What `distill evaluate` does: it evaluates models on the same pairs and rows of shards, and writes the files that the report reads.

OUT/evaluation.json           {who: {"path", "sha256" (of a model in one file), "pairs", "more_pairs": [...], "identification", "templates", "agreement", "asymmetric",
                              "leaks"}}; who: see `distill.evaluate`
OUT/scores-<who>.npz          scores, same, first, second of the pairs, roc_far, roc_tar, roc_thresholds (of further sets: scores_2, ...); identified, of
                              each probe; probed, of each image that --probe held out; cosines of the agreement, similarity_teacher and similarity_student of pairs of its
                              rows, worst_keys, worst_cosines and worst_images of its worst images; shown, shown_first, shown_second:
                              rows and small images of the pairs that differ most from the teacher's; template_scores, template_same
                              and the template_roc_... of pairs of templates; asymmetric_scores and asymmetric_identified

Nothing is written before all figures are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.shards import ShardSet, open_shards
from distill.data.sources import ShardSource
from distill.errors import BadImage, DistillError, Interrupted, StoreError
from distill.evaluation.agreement import evaluate_shards
from distill.evaluation.embed import Model, Progress
from distill.evaluation.features import StoredFeatures
from distill.evaluation.on_pairs import judge_pairs, judge_people, judge_probe
from distill.evaluation.on_templates import ImageReading, judge_templates
from distill.evaluation.pair_sets import PairSet
from distill.evaluation.request import Bar, EvaluationRequest, silent
from distill.evaluation.together import Evaluated, add_asymmetric, add_differences, add_leaks, add_shown
from distill.storage.files import committed, sha256_file
from distill.storage.json_files import write_json
from distill.storage.path import as_path
from distill.training.origin import Origin, origin_of, projection_of, trained_names


def evaluate_models(models: Mapping[str, tuple[str, Callable[[], Model]]], request: EvaluationRequest, bar: Bar = silent) -> dict[str, Any]:
    """Returns {name: figures} of {name: (path, function that loads it)}; each model is loaded when its turn comes, and not kept here afterwards.

    Figures have their differences to those of `request.reference` with them, as "minus_teacher" where that is the teacher, else as "minus_first".
    """
    found = {who: _named(who, len(models), partial(_evaluate_one, who, path, load, request, bar)) for who, (path, load) in models.items()}
    add_differences(found, request)
    add_shown(found, request)
    for who, one in found.items():
        _add_latency(who, one, request, bar)
    add_asymmetric(found, request)
    add_leaks(found, request, bar)
    return _written(found, request)


def evaluate_features(paths: Mapping[str, str], request: EvaluationRequest, bar: Bar = silent) -> dict[str, Any]:
    """Returns {name: figures} of {name: path of stored features} on the templates of a request."""
    found = {who: Evaluated({"path": path}) for who, path in paths.items()}
    for who, one in found.items():
        _named(who, len(found), partial(_judge_templates, who, StoredFeatures(one.figures["path"]), one, request, bar))
    return _written(found, request)


def _written(found: Mapping[str, Evaluated], request: EvaluationRequest) -> dict[str, Any]:
    """Returns {name: figures}, which are written where a request has a folder for them."""
    result = {who: one.figures for who, one in found.items()}
    if request.out is not None:
        request.out.mkdir(parents=True, exist_ok=True)
        for who, one in found.items():
            with committed(request.out / f"scores-{who}.npz") as temporary, open(temporary, "wb") as file:
                np.savez(file, **one.arrays)
        write_json(request.out / "evaluation.json", result)
    return result


@dataclass(frozen=True)
class _Turn:
    """A model at its turn. origin: what it learned from; shards: the opened set that agreement is taken on, None for none."""

    who: str
    path: str
    model: Model
    request: EvaluationRequest
    bar: Bar
    origin: Origin
    shards: ShardSet | None


def _named(who: str, models: int, judge: Callable[[], Evaluated]) -> Evaluated:
    """Returns what `judge` does; what it cannot do is said with the model's name, where there are several."""
    try:
        return judge()
    except (BadImage, StoreError, Interrupted):
        raise
    except DistillError as error:
        if models == 1:
            raise
        raise type(error)(f"{who}: {error}") from error


def _proof(path: str) -> dict[str, str]:
    """Returns the SHA-256 of a model that is one file on this machine, by which a page or an export knows its figures; {} of others."""
    file = as_path(path)
    return {"sha256": sha256_file(file)} if isinstance(file, Path) and file.is_file() else {}


def _evaluate_one(who: str, path: str, load: Callable[[], Model], request: EvaluationRequest, bar: Bar) -> Evaluated:
    turn = _Turn(who, path, load(), request, bar, origin_of(path), None if request.shards is None else open_shards(request.shards))
    found = Evaluated({"path": path, **_proof(path)})
    asked = request.sets or request.people is not None or request.probe is not None or request.templates is not None
    if (reason := _no_agreement(turn)) and not asked:
        raise DistillError(f"{path}: {reason}.")
    for kind in (_on_pairs, _on_people, _on_templates, _on_probe, _agreement, _cost):
        kind(turn, found)
    return found


def _on_pairs(turn: _Turn, found: Evaluated) -> None:
    """Adds "pairs" and "more_pairs"."""
    for number, pair_set in enumerate(turn.request.sets, 1):
        one = judge_pairs(turn.who, turn.model, pair_set, turn.request, turn.bar)
        one.figures.update(_identities(pair_set, turn.request, turn.origin))
        if number == 1:
            found.figures["pairs"] = one.figures
        else:
            found.figures.setdefault("more_pairs", []).append(one.figures)
        found.arrays.update({name if number == 1 else f"{name}_{number}": array for name, array in one.arrays.items()})
        found.on_pairs.append(one)


def _on_people(turn: _Turn, found: Evaluated) -> None:
    """Adds "identification"."""
    if turn.request.people is not None:
        one = judge_people(turn.who, turn.model, turn.request.people, turn.request, turn.bar)
        found.figures["identification"] = one.figures
        found.arrays.update(one.arrays)
        found.on_pairs.append(one)


def _on_probe(turn: _Turn, found: Evaluated) -> None:
    """Adds "probe"."""
    if turn.request.probe is not None:
        one = judge_probe(turn.who, turn.model, turn.request.probe, turn.request, turn.bar)
        one.figures.update(_known(turn.request.probe.shown, turn.request, turn.origin))
        found.figures["probe"] = one.figures
        found.arrays.update(one.arrays)
        found.on_probe.append(one)


def _on_templates(turn: _Turn, found: Evaluated) -> None:
    """Adds "templates"."""
    _judge_templates(turn.who, turn.model, found, turn.request, turn.bar)


def _judge_templates(who: str, source: Model | StoredFeatures, found: Evaluated, request: EvaluationRequest, bar: Bar) -> Evaluated:
    if request.templates is not None:
        reading = ImageReading(request.resize, request.size, request.exif, request.flip)
        with bar(f"{who}: templates") as progress:
            found.figures["templates"], arrays = judge_templates(source, request.templates, reading, progress)
        found.arrays.update(arrays)
    return found


def _agreement(turn: _Turn, found: Evaluated) -> None:
    """Adds "agreement", or "agreement_left_out" with the reason."""
    if turn.shards is None:
        return
    comparable = _comparable(turn.path, turn.model, turn.shards.dimension)
    if comparable is None:
        found.figures["agreement_left_out"] = _no_agreement(turn)
        return
    with turn.bar(f"{turn.who}: agreement") as progress:
        found.figures["agreement"], arrays = _agreed(comparable, turn.shards, turn.request, turn.origin, progress)
        found.arrays.update(arrays)


def _cost(turn: _Turn, found: Evaluated) -> None:
    """Adds "cost"."""
    if turn.request.cost is not None:
        found.figures["cost"] = turn.request.cost(turn.model)


def _add_latency(who: str, found: Evaluated, request: EvaluationRequest, bar: Bar) -> None:
    """Adds "latency" to "cost"; None, with the reason in "left_out", where it was not asked for or could not be measured."""
    if "cost" not in found.figures:
        return
    cost, reason = found.figures["cost"], "not measured (--no-speed)"
    cost["latency"] = None
    if request.latency is not None:
        try:
            with bar(f"{who}: latency") as progress:
                cost["latency"] = request.latency(who, progress)
            return
        except DistillError as error:
            reason = str(error)
    cost["left_out"] = {**cost.get("left_out", {}), "latency": reason}


def _no_agreement(turn: _Turn) -> str:
    """Returns why the agreement of a model cannot be told, or ""."""
    if turn.shards is None or _comparable(turn.path, turn.model, turn.shards.dimension) is not None:
        return ""
    return (
        f"its embeddings have {turn.model.dimension} numbers, those of {turn.request.shards} have {turn.shards.dimension}, and the projection between them "
        "is no part of it; the run folder that it was trained in has one, if it learned from them"
    )


@dataclass(frozen=True)
class _Projected:
    """The student of a run behind the projection to the teacher's dimension that it was trained with."""

    student: Model
    kernel: np.ndarray

    @property
    def height(self) -> int | None:
        return self.student.height

    @property
    def width(self) -> int | None:
        return self.student.width

    @property
    def dimension(self) -> int:
        return self.kernel.shape[1]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return np.asarray(self.student(images)) @ self.kernel


def _comparable(path: str, model: Model, dimension: int) -> Model | None:
    """Returns a model whose embeddings have `dimension` numbers: itself, or behind the projection of its run, else None."""
    if model.dimension == dimension:
        return model
    kernel = projection_of(path, dimension)
    return None if kernel is None or kernel.shape != (model.dimension, dimension) else _Projected(model, kernel)


def _agreed(model: Model, shards: ShardSet, request: EvaluationRequest, origin: Origin, progress: Progress) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    part = "held_out" if request.holdout else "all"
    source = ShardSource(str(request.shards), batch=256, seed=0, part=part, holdout=request.holdout, root=request.root, views="plain")
    found_on: dict[str, Any] = {"shards": str(request.shards), "part": "held-out rows" if request.holdout else "all rows"}
    found_on["trained_on"] = origin.learned(shards.identity, request.holdout)
    if isinstance(model, _Projected):
        found_on["projected"] = True
    found = evaluate_shards(model, source, progress)
    return {**found_on, **found.as_dict()}, found.arrays()


def _identities(pair_set: PairSet, request: EvaluationRequest, origin: Origin) -> dict[str, Any]:
    """Returns how many identities the pairs show, and how many of their names the model was trained on; None where that is unknown."""
    if pair_set.identities is None:
        return {"identities": None, "trained_identities": None}
    return _known({name for side in pair_set.identities for name in side}, request, origin)


def _known(shown: set[str], request: EvaluationRequest, origin: Origin) -> dict[str, Any]:
    trained = origin.identities
    if trained is None and request.shards is not None:
        shards = open_shards(request.shards)
        if shards.labelled and origin.donor is None and dict(origin.sets) == {"shards": shards.identity}:
            trained = trained_names(shards.classes, origin.holdout)
    return {"identities": len(shown), "trained_identities": None if trained is None else len(shown & trained)}
