"""Whether a file gives the student's embeddings: it is loaded in its own engine, as users load it, and runs on images. Else it is no export."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from distill.errors import DistillError
from distill.evaluation.embed import Model
from distill.evaluation.pair_sets import PairSet
from distill.evaluation.rates import TarAtFar
from distill.evaluation.verification import FARS, cosine_scores, evaluate_pairs
from distill.exports.formats import FORMATS

BATCH = 32  # images at a time, after one alone, so that a fixed batch is found
TAR_LOST = 0.01  # at FAR 1e-2, that an export may lose on pairs
CALLS, SECONDS = 50, 1.0  # of one image, timed: as many, or as long


class Loaded(Model, Protocol):
    """A loaded model. batch: the only number of images that it takes, None where it takes any."""

    @property
    def batch(self) -> int | None: ...


Load = Callable[[Path], Loaded]


@dataclass(frozen=True)
class Agreement:
    """How close an export is to its student: cosines of the embeddings of the same images, and the median of (its length / the student's length)."""

    cosine_q01: float
    cosine_min: float
    cosine_mean: float
    length: float
    images: int


@dataclass(frozen=True)
class Student:
    """The Keras student, called as other models are: uint8 [B, H, W, 3] -> float32 [B, D]."""

    model: Any
    height: int
    width: int
    dimension: int

    def __call__(self, images: np.ndarray) -> np.ndarray:
        parts = [images[start : start + BATCH].astype(np.float32) for start in range(0, len(images), BATCH)]
        return np.concatenate([np.asarray(self.model(part, training=False), np.float32).reshape(len(part), -1) for part in parts])


def agree(expected: np.ndarray, received: np.ndarray) -> Agreement:
    """Returns the agreement of two tables of embeddings, [N, D] each, row by row.

    >>> agree(np.array([[3., 4.], [1., 0.]]), np.array([[6., 8.], [2., 0.]]))
    Agreement(cosine_q01=1.0, cosine_min=1.0, cosine_mean=1.0, length=2.0, images=2)
    """
    cosines = cosine_scores(expected, received)
    lengths = [np.linalg.norm(table.astype(np.float64), axis=1) for table in (received, expected)]
    ratio = np.divide(lengths[0], lengths[1], out=np.ones(len(cosines)), where=lengths[1] > 0)
    return Agreement(float(np.percentile(cosines, 1)), float(cosines.min()), float(cosines.mean()), float(np.median(ratio)), len(cosines))


def prove(name: str, path: Path, images: np.ndarray, expected: np.ndarray, load: Load) -> tuple[Loaded, dict[str, Any]]:
    """Loads an export of the format `name` and compares it with its student.

    Args:
        images: uint8 [N, H, W, 3].
        expected: the student's embeddings of them, float32 [N, D].
        load: how users load it.

    Returns:
        The loaded model, and its figures: those of Agreement, and ms_per_image, the median time of one image alone.

    Raises:
        DistillError: it cannot be loaded or run, or answers otherwise than the student; the message says by how much.
    """
    loaded, file = load(path), FORMATS[name].files[0]
    if loaded.batch is not None:
        raise DistillError(f"{file} takes {loaded.batch} images at a time and no other number.")
    if loaded.dimension != expected.shape[1]:
        raise DistillError(f"{file} answers with {loaded.dimension} numbers, the student with {expected.shape[1]}.")
    starts = [0, *range(1, len(images), BATCH)]
    received = np.concatenate([loaded(images[start:end]) for start, end in zip(starts, [*starts[1:], len(images)], strict=True)])
    if lost := int((~np.isfinite(received).all(axis=1)).sum()):
        raise DistillError(f"{file} does not give the student's embeddings: those of {lost} of {len(images)} images are not finite.")
    found = agree(expected, received)
    _check(name, found)
    return loaded, {**asdict(found), "ms_per_image": _milliseconds(loaded, images[:1])}


def _check(name: str, found: Agreement) -> None:
    wanted = FORMATS[name]
    file = wanted.files[0]
    if not found.cosine_q01 >= wanted.least:
        raise DistillError(
            f"{file} does not give the student's embeddings: 1 % of {found.images} images have a cosine of {found.cosine_q01:.6f} or less to them; "
            f"{wanted.least} is the least for {name}."
        )
    if not abs(found.length - 1) <= wanted.length:
        raise DistillError(
            f"{file} does not give the student's embeddings: theirs are {found.length:.4f} times as long in the median of {found.images} images; "
            f"{1 - wanted.length:g} to {1 + wanted.length:g} is allowed for {name}."
        )


def tar_of(model: Model, sets: Sequence[PairSet], resize: str = "none", exif: str = "ignore") -> list[float | None]:
    """Returns the TAR at FAR 1e-2 on each set of pairs, None of one that has too few impostors for it."""
    found = (
        evaluate_pairs(model, one.name, one.pairs, folds=one.folds, resize=resize, exif=exif, read=one.read).verification.tar[FARS.index(1e-2)] for one in sets
    )
    return [point.tar if isinstance(point, TarAtFar) else None for point in found]


def compare_tars(name: str, sets: Sequence[PairSet], students: Sequence[float | None], own: Sequence[float | None]) -> list[dict[str, Any]]:
    """Returns what an export's TAR is on each set of pairs, and what it lost. DistillError where that is more than a point."""
    told = []
    for one, before, after in zip(sets, students, own, strict=True):
        if before is not None and after is not None and before - after > TAR_LOST + 1e-9:  # 0.95 - 0.94 is above 0.01 in floating point
            raise DistillError(
                f"{FORMATS[name].files[0]} loses {100 * (before - after):.2f} points of TAR at FAR 1 % on {one.name} ({100 * before:.2f} % -> {100 * after:.2f} %); "
                f"{100 * TAR_LOST:g} is allowed."
            )
        lost: dict[str, Any] = {} if before is None or after is None else {"tar": after, "student": before, "difference": after - before}
        told.append({"pairs": one.name, "far": 1e-2, **(lost or {"tar": None, "left_out": "too few impostor pairs"})})
    return told


def _milliseconds(model: Model, image: np.ndarray) -> float:
    for _ in range(3):
        model(image)
    times = list[float]()
    until = time.perf_counter() + SECONDS
    while len(times) < CALLS and (not times or time.perf_counter() < until):
        begin = time.perf_counter()
        model(image)
        times.append(time.perf_counter() - begin)
    return round(1000 * statistics.median(times), 4)
