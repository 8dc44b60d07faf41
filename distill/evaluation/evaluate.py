"""What `distill evaluate` finds out: models on the same pairs and the same rows of shards, and the files that the report reads.

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
from distill.evaluation.embed import Model
from distill.evaluation.pairs import Pairs
from distill.evaluation.verification import evaluate_pairs
from distill.storage.files import committed, write_json
from distill.storage.path import StoragePath
from distill.training.origin import Origin, origin_of, projection_of, trained_names


@dataclass(frozen=True)
class Question:
    """What models are asked. folder and pairs: verification; shards: agreement, on the rows that `holdout` kept from training."""

    folder: StoragePath | None = None
    pairs: Pairs | None = None
    shards: StoragePath | None = None
    holdout: Holdout | None = None
    root: str | None = None
    resize: str = "none"
    size: tuple[int, int] | None = None
    out: StoragePath | None = None
    exif: str = "ignore"


Tell = Callable[[int, int], object]
Bar = Callable[[str], AbstractContextManager[Tell]]  # of a label: what is called with (done, of) while it is open


def _silent(label: str) -> AbstractContextManager[Tell]:
    return nullcontext(lambda done, of: None)


def judge(models: Mapping[str, tuple[str, Callable[[], Model]]], question: Question, bar: Bar = _silent) -> dict[str, Any]:
    """{who: figures} of {who: (path, how to load it)}, each model loaded when its turn comes."""
    result = {who: _judge_one(who, path, load(), question, bar) for who, (path, load) in models.items()}
    if question.out is not None:
        write_json(question.out / "evaluation.json", result)
    return result


def _judge_one(who: str, path: str, model: Model, asked: Question, bar: Bar) -> dict[str, Any]:
    found: dict[str, Any] = {"path": path}
    arrays: dict[str, Any] = {}
    origin = origin_of(path)
    shards = None if asked.shards is None else open_shards(asked.shards)
    comparable = None if shards is None else _comparable(path, model, shards.dimension)
    reason = ""
    if shards is not None and comparable is None:
        reason = (
            f"its embeddings have {model.dimension} numbers, those of {asked.shards} have {shards.dimension}, and the projection between them is "
            "no part of it; the run folder that it was trained in has one, if it learned from them"
        )
    if reason and asked.pairs is None:
        raise DistillError(f"{path}: {reason}.")
    if asked.pairs is not None and asked.folder is not None:
        with bar(f"{who}: pairs") as tell:
            judged = evaluate_pairs(model, asked.folder, asked.pairs, resize=asked.resize, size=asked.size, exif=asked.exif, progress=tell)
        found["pairs"] = {"folder": str(asked.folder), **judged.verification.as_dict(), **_people(asked, origin)}
        arrays |= {"scores": judged.scores, "same": asked.pairs.same, "first": asked.pairs.first, "second": asked.pairs.second}
    if reason:
        found["agreement_left_out"] = reason
    if shards is not None and comparable is not None:
        with bar(f"{who}: agreement") as tell:
            found["agreement"], arrays["cosines"] = _agreement(comparable, shards, asked, origin, tell)
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        with committed(asked.out / f"scores-{who}.npz") as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
    return found


@dataclass(frozen=True)
class _Projected:
    """A run's student with the map that stood between it and the teacher's embeddings in training."""

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
    """The model as it answers with so many numbers: itself, or behind the projection of its run; None where it does not."""
    if model.dimension == dimension:
        return model
    kernel = projection_of(path, dimension)
    return None if kernel is None or kernel.shape != (model.dimension, dimension) else _Projected(model, kernel)


def _agreement(model: Model, shards: ShardSet, asked: Question, origin: Origin, tell: Tell) -> tuple[dict[str, Any], np.ndarray]:
    part = "held_out" if asked.holdout else "all"
    source = ShardSource(str(asked.shards), batch=256, seed=0, part=part, holdout=asked.holdout, root=asked.root, views="plain")
    told: dict[str, Any] = {"shards": str(asked.shards), "part": "held-out rows" if asked.holdout else "all rows"}
    told["trained_on"] = origin.learned(shards.identity, asked.holdout)
    if isinstance(model, _Projected):
        told["projected"] = True
    found = evaluate_shards(model, source, tell)
    return {**told, **found.as_dict()}, found.cosines


def _people(asked: Question, origin: Origin) -> dict[str, Any]:
    """How many identities the pairs show, and of how many the model was trained on one of that name; None where that is not known."""
    shown = {key.split("/")[0] for side in (asked.pairs.first, asked.pairs.second) for key in side} if asked.pairs else set()
    trained = origin.identities
    if trained is None and asked.shards is not None:
        shards = open_shards(asked.shards)
        if shards.labelled and origin.donor is None and dict(origin.sets) == {"shards": shards.identity}:
            trained = trained_names(shards.classes, origin.holdout)
    return {"identities": len(shown), "trained_identities": None if trained is None else len(shown & trained)}
