"""Verification of pairs: all figures of scored pairs, and a model on pairs of images. Plain NumPy.

Scores are cosines in [-1, 1], higher means more alike; a pair is called the same person when score >= threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from distill.errors import DistillError
from distill.evaluation.embed import Model, Progress, embed_images, spec_for
from distill.evaluation.folds import FOLDS, best_cut, checked, kfold_accuracy
from distill.evaluation.pairs import Pairs, draw_pairs
from distill.evaluation.rates import MODES, NoTar, Roc, TarAtFar, roc, tar_or_none
from distill.storage.path import StoragePath

FARS = (1e-2, 1e-3)
ALL_FARS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)


def cosine_scores(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns the cosine of each row pair: [N, D], [N, D] -> float64 [N] in [-1, 1]. A row of zeros has no direction: its cosine is 0.

    >>> cosine_scores(np.array([[1., 0.], [3., 4.]]), np.array([[0., 2.], [3., 4.]]))
    array([0., 1.])
    """
    if first.shape != second.shape or first.ndim != 2:
        raise DistillError(f"embeddings of shape {first.shape} and {second.shape} cannot be compared row by row: both must be (N, D).")
    scores = np.zeros(len(first))
    for start in range(0, len(first), 65_536):  # float64 copies of 65,536 x 512: 268 MB, whatever N is
        one, two = (side[start : start + 65_536].astype(np.float64) for side in (first, second))
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
        dots = np.einsum("nd,nd->n", one, two)
        np.divide(dots, lengths, out=scores[start : start + 65_536], where=lengths > 0)
    return np.clip(scores, -1.0, 1.0)


@dataclass(frozen=True)
class Published:
    """10-fold accuracy by the protocol of published LFW figures: `kfold_accuracy` on the grid of distances. distance: the mean of its thresholds."""

    accuracy: float
    std: float
    distance: float


@dataclass(frozen=True)
class Best:
    """The accuracy with the threshold that is best on these pairs themselves: optimistic, because it is tried on what it was chosen by."""

    accuracy: float
    threshold: float


@dataclass(frozen=True)
class Verification:
    """The figures of a model on pairs.

    Attributes:
        accuracy, std, threshold: over folds, with thresholds between the scores; the threshold is the mean of the folds.
        tar: at the rates that were asked for, conservative.
        genuine, impostors, folds: how many there are.
        published: the accuracy as papers have it.
        best: the optimistic accuracy.
        auc, eer: see `Roc`.
        tars: at all rates, for each mode.
        curve: the ROC.
    """

    accuracy: float
    std: float
    threshold: float
    tar: tuple[TarAtFar | NoTar, ...]
    genuine: int
    impostors: int
    folds: int
    published: Published
    best: Best
    auc: float
    eer: float
    tars: dict[str, tuple[TarAtFar | NoTar, ...]]
    curve: Roc

    def as_dict(self) -> dict[str, Any]:
        """Returns values for JSON, without the curve; `tar` is keyed by its FAR as text: {"0.01": {...}, "0.001": {...}}, `tars` by mode before that."""
        plain = {name: value for name, value in self.__dict__.items() if name != "curve"}
        tars = {mode: _by_far(points) for mode, points in self.tars.items()}
        return {**plain, "tar": _by_far(self.tar), "published": asdict(self.published), "best": asdict(self.best), "tars": tars}


def _by_far(points: Sequence[TarAtFar | NoTar]) -> dict[str, Any]:
    return {f"{point.far:g}": point.as_dict() for point in points}


def verify_pairs(scores: np.ndarray, same: np.ndarray, folds: int = FOLDS, fars: Sequence[float] = FARS) -> Verification:
    """Returns all figures of scored pairs (see kfold_accuracy and tar_at_far), whose contiguous folds should be balanced.

    Each fold has two pairs or more, so few pairs make fewer folds. A rate with fewer than ACCEPTED impostor pairs has no TAR.
    """
    scores, same = checked(scores, same)
    if len(same) < 4:
        raise DistillError(f"{len(same)} pairs: expected 4 or more, because a threshold is found on other pairs than it is tried on.")
    folds = min(folds, len(same) // 2)
    found, published = kfold_accuracy(scores, same, folds), kfold_accuracy(scores, same, folds, "distance")
    curve = roc(scores, same)
    genuine = int(np.count_nonzero(same))
    impostors = len(same) - genuine
    return Verification(
        accuracy=found.accuracy,
        std=found.std,
        threshold=float(found.thresholds.mean()),
        tar=tuple(tar_or_none(curve, impostors, far) for far in fars),
        genuine=genuine,
        impostors=impostors,
        folds=folds,
        published=Published(published.accuracy, published.std, float(published.thresholds.mean())),
        best=best_accuracy(scores, same),
        auc=curve.auc,
        eer=curve.eer,
        tars={mode: tuple(tar_or_none(curve, impostors, far, mode) for far in ALL_FARS) for mode in MODES},
        curve=curve,
    )


def best_accuracy(scores: np.ndarray, same: np.ndarray) -> Best:
    """Returns the accuracy with the threshold that is best on the same pairs.

    Scores .9 .8 .7 .6, same T F T F: from .9 on one pair of four is accepted, and three are right.
    """
    order = np.argsort(-scores, kind="stable")
    threshold, right = best_cut(scores[order], same[order])
    return Best(right / len(scores), threshold)


@dataclass(frozen=True)
class PairEvaluation:
    """A model on pairs: scores in the order of the pairs, and the embedding of each distinct image, float32 [len(keys), D]."""

    pairs: Pairs
    scores: np.ndarray
    keys: tuple[str, ...]
    embeddings: np.ndarray
    verification: Verification


def evaluate_pairs(
    model: Model,
    folder: str | StoragePath,
    pairs: Pairs | None = None,
    *,
    folds: int = FOLDS,
    resize: str = "none",
    size: tuple[int, int] | None = None,
    exif: str = "ignore",
    progress: Progress | None = None,
    read: Callable[[str], bytes] | None = None,
    flip: bool = False,
) -> PairEvaluation:
    """Evaluates a model on pairs of a folder of identities; `pairs` as from `draw_pairs` (None: 6,000 of them, seed 0). The others: see embed_images."""
    pairs = draw_pairs(folder) if pairs is None else pairs
    keys = pairs.keys()
    embeddings = embed_images(model, folder, keys, spec_for(model, resize, size, exif), progress=progress, read=read, flip=flip)
    place = {key: row for row, key in enumerate(keys)}
    first, second = (embeddings[[place[key] for key in side]] for side in (pairs.first, pairs.second))
    scores = cosine_scores(first, second)
    return PairEvaluation(pairs, scores, tuple(keys), embeddings, verify_pairs(scores, pairs.same, folds))
