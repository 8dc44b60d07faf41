"""What `distill evaluate` does: it evaluates models on the same pairs and rows of shards, and writes the files that the report reads.

OUT/evaluation.json           {"model": {"path", "pairs", "more_pairs": [...], "identification", "agreement"}, "teacher": {...}}
OUT/scores-<who>.npz          scores, same, first, second of the pairs, roc_far, roc_tar, roc_thresholds (of further sets: scores_2, ...); identified, of
                              each probe; cosines of the agreement

Nothing is written before all figures are there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.config.data import Holdout
from distill.data.shards import ShardSet, open_shards
from distill.data.sources import ShardSource
from distill.errors import DistillError
from distill.evaluation.agreement import evaluate_shards
from distill.evaluation.embed import Model, Progress, embed_images, spec_for
from distill.evaluation.identification import People, identify
from distill.evaluation.pair_sets import PairSet
from distill.evaluation.verification import evaluate_pairs
from distill.storage.files import committed
from distill.storage.json_files import write_json
from distill.storage.path import StoragePath, as_path
from distill.training.origin import Origin, origin_of, projection_of, trained_names


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate. sets: verification of each; people: identification; shards: agreement, on the rows that `holdout` kept from training."""

    sets: tuple[PairSet, ...] = ()
    shards: StoragePath | None = None
    holdout: Holdout | None = None
    root: str | None = None
    resize: str = "none"
    size: tuple[int, int] | None = None
    out: StoragePath | None = None
    exif: str = "ignore"
    people: People | None = None
    flip: bool = False


Bar = Callable[[str], AbstractContextManager[Progress]]  # (label) -> a context that gives a function of (done, of)


def _silent(label: str) -> AbstractContextManager[Progress]:
    return nullcontext(lambda done, of: None)


def evaluate_models(models: Mapping[str, tuple[str, Callable[[], Model]]], request: EvaluationRequest, bar: Bar = _silent) -> dict[str, Any]:
    """Returns {name: figures} of {name: (path, function that loads it)}; each model is loaded when its turn comes."""
    found = {who: _evaluate_one(who, path, load(), request, bar) for who, (path, load) in models.items()}
    result = {who: figures for who, (figures, _) in found.items()}
    if request.out is not None:
        request.out.mkdir(parents=True, exist_ok=True)
        for who, (_, arrays) in found.items():
            with committed(request.out / f"scores-{who}.npz") as temporary, open(temporary, "wb") as file:
                np.savez(file, **arrays)
        write_json(request.out / "evaluation.json", result)
    return result


def _evaluate_one(who: str, path: str, model: Model, request: EvaluationRequest, bar: Bar) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the figures of a model, and the arrays behind them."""
    found: dict[str, Any] = {"path": path}
    arrays: dict[str, Any] = {}
    origin = origin_of(path)
    shards = None if request.shards is None else open_shards(request.shards)
    comparable = None if shards is None else _comparable(path, model, shards.dimension)
    reason = ""
    if shards is not None and comparable is None:
        reason = (
            f"its embeddings have {model.dimension} numbers, those of {request.shards} have {shards.dimension}, and the projection between them is "
            "no part of it; the run folder that it was trained in has one, if it learned from them"
        )
    if reason and not request.sets and request.people is None:
        raise DistillError(f"{path}: {reason}.")
    for number, pair_set in enumerate(request.sets, 1):
        figures, held = _verified(who, model, pair_set, request, bar)
        figures |= _identities(pair_set, request, origin)
        if number == 1:
            found["pairs"] = figures
        else:
            found.setdefault("more_pairs", []).append(figures)
        arrays |= {name if number == 1 else f"{name}_{number}": array for name, array in held.items()}
    if request.people is not None:
        found["identification"], arrays["identified"] = _identified(who, model, request.people, request, bar)
    if reason:
        found["agreement_left_out"] = reason
    if shards is not None and comparable is not None:
        with bar(f"{who}: agreement") as progress:
            found["agreement"], arrays["cosines"] = _agreement(comparable, shards, request, origin, progress)
    return found, arrays


def _verified(who: str, model: Model, pair_set: PairSet, request: EvaluationRequest, bar: Bar) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the figures of a model on a set of pairs, and the arrays behind them."""
    label = f"{who}: pairs" if len(request.sets) == 1 else f"{who}: {as_path(pair_set.name).name}"
    with bar(label) as progress:
        one = evaluate_pairs(
            model,
            pair_set.name,
            pair_set.pairs,
            folds=pair_set.folds,
            resize=request.resize,
            size=request.size,
            exif=request.exif,
            progress=progress,
            read=pair_set.read,
            flip=request.flip,
        )
    pairs, curve = pair_set.pairs, one.verification.curve.corners()
    arrays = {"scores": one.scores, "same": pairs.same, "first": pairs.first, "second": pairs.second}
    arrays |= {"roc_far": curve.far, "roc_tar": curve.tar, "roc_thresholds": curve.thresholds}
    return {"folder": pair_set.name, **_flipped(request), **one.verification.as_dict()}, arrays


def _identified(who: str, model: Model, people: People, request: EvaluationRequest, bar: Bar) -> tuple[dict[str, Any], np.ndarray]:
    """Returns the figures of an identification, and of each probe whether it was found."""
    with bar(f"{who}: identities") as progress:
        spec = spec_for(model, request.resize, request.size, request.exif)
        embeddings = embed_images(model, people.name, people.keys, spec, progress=progress, flip=request.flip)
    found = identify(embeddings, people)
    return {"folder": people.name, **_flipped(request), **found.as_dict()}, found.found


def _flipped(request: EvaluationRequest) -> dict[str, Any]:
    return {"flip": True} if request.flip else {}


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


def _agreement(model: Model, shards: ShardSet, request: EvaluationRequest, origin: Origin, progress: Progress) -> tuple[dict[str, Any], np.ndarray]:
    part = "held_out" if request.holdout else "all"
    source = ShardSource(str(request.shards), batch=256, seed=0, part=part, holdout=request.holdout, root=request.root, views="plain")
    found_on: dict[str, Any] = {"shards": str(request.shards), "part": "held-out rows" if request.holdout else "all rows"}
    found_on["trained_on"] = origin.learned(shards.identity, request.holdout)
    if isinstance(model, _Projected):
        found_on["projected"] = True
    found = evaluate_shards(model, source, progress)
    return {**found_on, **found.as_dict()}, found.cosines


def _identities(pair_set: PairSet, request: EvaluationRequest, origin: Origin) -> dict[str, Any]:
    """Returns how many identities the pairs show, and how many of their names the model was trained on; None where that is unknown."""
    if pair_set.identities is None:
        return {"identities": None, "trained_identities": None}
    shown = {name for side in pair_set.identities for name in side}
    trained = origin.identities
    if trained is None and request.shards is not None:
        shards = open_shards(request.shards)
        if shards.labelled and origin.donor is None and dict(origin.sets) == {"shards": shards.identity}:
            trained = trained_names(shards.classes, origin.holdout)
    return {"identities": len(shown), "trained_identities": None if trained is None else len(shown & trained)}
