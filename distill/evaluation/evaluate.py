"""What `distill evaluate` does: it evaluates models on the same pairs and rows of shards, and writes the files that the report reads.

OUT/evaluation.json           {"model": {"path", "pairs", "agreement"}, "teacher": {...}}
OUT/scores-<who>.npz          scores, same, first, second of the pairs; cosines of the agreement
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
from distill.evaluation.embed import Model, Progress
from distill.evaluation.pairs import Pairs
from distill.evaluation.verification import evaluate_pairs
from distill.storage.files import committed
from distill.storage.json_files import write_json
from distill.storage.path import StoragePath
from distill.training.origin import Origin, origin_of, projection_of, trained_names


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate. folder and pairs: verification; shards: agreement, on the rows that `holdout` kept from training."""

    folder: StoragePath | None = None
    pairs: Pairs | None = None
    shards: StoragePath | None = None
    holdout: Holdout | None = None
    root: str | None = None
    resize: str = "none"
    size: tuple[int, int] | None = None
    out: StoragePath | None = None
    exif: str = "ignore"


Bar = Callable[[str], AbstractContextManager[Progress]]  # (label) -> a context that gives a function of (done, of)


def _silent(label: str) -> AbstractContextManager[Progress]:
    return nullcontext(lambda done, of: None)


def evaluate_models(models: Mapping[str, tuple[str, Callable[[], Model]]], request: EvaluationRequest, bar: Bar = _silent) -> dict[str, Any]:
    """Returns {name: figures} of {name: (path, function that loads it)}; each model is loaded when its turn comes."""
    result = {who: _evaluate_one(who, path, load(), request, bar) for who, (path, load) in models.items()}
    if request.out is not None:
        write_json(request.out / "evaluation.json", result)
    return result


def _evaluate_one(who: str, path: str, model: Model, request: EvaluationRequest, bar: Bar) -> dict[str, Any]:
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
    if reason and request.pairs is None:
        raise DistillError(f"{path}: {reason}.")
    if request.pairs is not None and request.folder is not None:
        with bar(f"{who}: pairs") as progress:
            result_on_pairs = evaluate_pairs(
                model, request.folder, request.pairs, resize=request.resize, size=request.size, exif=request.exif, progress=progress
            )
        found["pairs"] = {"folder": str(request.folder), **result_on_pairs.verification.as_dict(), **_identities(request, origin)}
        arrays |= {"scores": result_on_pairs.scores, "same": request.pairs.same, "first": request.pairs.first, "second": request.pairs.second}
    if reason:
        found["agreement_left_out"] = reason
    if shards is not None and comparable is not None:
        with bar(f"{who}: agreement") as progress:
            found["agreement"], arrays["cosines"] = _agreement(comparable, shards, request, origin, progress)
    if request.out is not None:
        request.out.mkdir(parents=True, exist_ok=True)
        with committed(request.out / f"scores-{who}.npz") as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
    return found


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


def _identities(request: EvaluationRequest, origin: Origin) -> dict[str, Any]:
    """Returns how many identities the pairs show, and how many of their names the model was trained on; None where that is unknown."""
    shown = {key.split("/")[0] for side in (request.pairs.first, request.pairs.second) for key in side} if request.pairs else set()
    trained = origin.identities
    if trained is None and request.shards is not None:
        shards = open_shards(request.shards)
        if shards.labelled and origin.donor is None and dict(origin.sets) == {"shards": shards.identity}:
            trained = trained_names(shards.classes, origin.holdout)
    return {"identities": len(shown), "trained_identities": None if trained is None else len(shown & trained)}
