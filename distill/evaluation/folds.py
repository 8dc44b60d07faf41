"""Accuracy over contiguous folds: on each the pairs are decided with the threshold that is best on the others. Plain NumPy.

Scores are cosines in [-1, 1], higher means more alike; a pair is called the same person when score >= threshold.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from distill.errors import DistillError

FOLDS = 10
DISTANCES = np.arange(0, 4, 0.01)  # the 400 thresholds on 2 - 2 cos of published LFW figures
WAYS = ("scores", "distance")


@dataclass(frozen=True)
class Folds:
    """k-fold accuracy: mean and standard deviation (ddof=0) over folds, and each fold's own figures, float64 [folds].

    thresholds: on scores (accepted when score >= threshold) or on distances (when 2 - 2 score < threshold), as requested.
    """

    accuracy: float
    std: float
    accuracies: np.ndarray
    thresholds: np.ndarray


def checked(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores as float64 [N] and answers as bool [N]. Raises DistillError where they do not belong together, or a score is not finite."""
    scores, same = np.asarray(scores, np.float64), np.asarray(same, bool)
    if scores.ndim != 1 or scores.shape != same.shape:
        raise DistillError(f"scores of shape {scores.shape} and answers of shape {same.shape}: expected one of each for each pair.")
    if not np.isfinite(scores).all():
        raise DistillError(f"score {int(np.flatnonzero(~np.isfinite(scores))[0])} of {len(scores)} is not finite.")
    return scores, same


def fold_bounds(pairs: int, folds: int) -> np.ndarray:
    """Returns where folds begin and end, int64 [folds + 1]; the first pairs % folds of them are one pair longer, as np.array_split cuts.

    >>> fold_bounds(10, 3)
    array([ 0,  4,  7, 10])
    """
    sizes = np.full(folds, pairs // folds)
    sizes[: pairs % folds] += 1
    return np.append(0, np.cumsum(sizes))


def kfold_accuracy(scores: np.ndarray, same: np.ndarray, folds: int = FOLDS, thresholds: str = "scores") -> Folds:
    """Returns the verification accuracy as in LFW: on each contiguous fold, with the threshold that is best on the other folds.

    Folds are cut in the order given, without shuffling; the first N % folds of them are one pair longer. Of thresholds that are
    equally good on the training folds the strictest is taken (the first argmax over rising distance).
    thresholds: "scores" tries every cut between two neighbouring training scores, which is fair to a model whose cosines are all close
    together; "distance" tries the published grid, distance 2 - 2 cos < 0, 0.01, … 3.99, to compare with papers.
    """
    scores, same = checked(scores, same)
    if not 2 <= folds <= len(scores):
        raise DistillError(f"{folds} folds of {len(scores)} pairs: expected at least 2 folds and a pair for each.")
    if thresholds not in WAYS:
        raise DistillError(f"thresholds {thresholds!r} is unknown. Expected one of: {', '.join(WAYS)}.")
    bounds = fold_bounds(len(scores), folds)
    found = _on_grid(scores, same, bounds) if thresholds == "distance" else _on_cuts(scores, same, bounds)
    accuracies, chosen = (np.array(values) for values in zip(*found, strict=True))
    return Folds(float(accuracies.mean()), float(accuracies.std()), accuracies, chosen)


def _on_cuts(scores: np.ndarray, same: np.ndarray, bounds: np.ndarray) -> Iterator[tuple[float, float]]:
    """Yields (accuracy, threshold) of each fold. Scores are sorted once: those of the training folds are a part of that order."""
    order = np.argsort(-scores, kind="stable")
    ranked, genuine = scores[order], same[order]
    for start, end in zip(bounds[:-1], bounds[1:], strict=True):
        train = (order < start) | (order >= end)
        cut, _ = best_cut(ranked[train], genuine[train])
        yield float(np.mean((scores[start:end] >= cut) == same[start:end])), cut


def best_cut(ranked: np.ndarray, genuine: np.ndarray) -> tuple[float, int]:
    """Returns the strictest of the most accurate thresholds of falling scores, midway between those on its two sides, and how many it decides right."""
    right = np.zeros(len(ranked) + 1, np.int32)  # how many more are right with the k best accepted than with none
    np.cumsum(np.where(genuine, np.int32(1), np.int32(-1)), out=right[1:])
    right[1:-1][ranked[1:] == ranked[:-1]] = -len(ranked) - 1  # equal scores are accepted together or not at all
    best = int(np.argmax(right))
    decided = int(right[best]) + int(np.count_nonzero(~genuine))
    if best == 0:
        return float(np.nextafter(ranked[0], np.inf)), decided
    if best == len(ranked):
        return float(ranked[-1]), decided
    return float(max((ranked[best - 1] + ranked[best]) / 2, np.nextafter(ranked[best], np.inf))), decided


def grid_places(scores: np.ndarray) -> np.ndarray:
    """Returns the number of the first distance of the grid that accepts each score, int64 [N], 400 where none does.

    Distances are compared with distances: 1 - d/2 rounds differently from 2 - 2 cos, and a score on the grid would change sides.
    """
    return np.searchsorted(DISTANCES, 2.0 - 2.0 * scores, side="right")  # distance < DISTANCES[k] from this k on


def _on_grid(scores: np.ndarray, same: np.ndarray, bounds: np.ndarray) -> Iterator[tuple[float, float]]:
    """Yields (accuracy, distance) of each fold."""
    places, size = grid_places(scores), len(DISTANCES) + 1
    right = []  # of each fold: how many pairs each distance of the grid decides right
    for start, end in zip(bounds[:-1], bounds[1:], strict=True):
        genuine, part = same[start:end], places[start:end]
        accepted = np.bincount(part[genuine], minlength=size) - np.bincount(part[~genuine], minlength=size)
        right.append(np.cumsum(accepted)[:-1] + np.count_nonzero(~genuine))
    total = np.sum(right, axis=0)
    for one, number in zip(right, np.diff(bounds), strict=True):
        best = int(np.argmax(total - one))
        yield float(one[best] / number), float(DISTANCES[best])
