"""Verification of pairs: accuracy over folds, ROC, and TAR at a FAR. Plain NumPy.

Scores are cosines in [-1, 1], higher means more alike; a pair is called the same person when score >= threshold.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.errors import DistillError
from distill.evaluation.embed import Model, Progress, embed_images, spec_for
from distill.evaluation.pairs import Pairs, draw_pairs
from distill.storage.path import StoragePath

FARS = (1e-2, 1e-3)
FOLDS = 10
ACCEPTED = 10  # accepted impostor pairs from which on a rate is reported: 1 of 20 is no FAR of 5 %
DISTANCES = np.arange(0, 4, 0.01)  # the 400 thresholds on 2 - 2 cos of published LFW figures


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
class Folds:
    """k-fold accuracy: mean and standard deviation (ddof=0) over folds, and each fold's own figures, float64 [folds].

    thresholds: on scores (accepted when score >= threshold) or on distances (when 2 - 2 score < threshold), as requested.
    """

    accuracy: float
    std: float
    accuracies: np.ndarray
    thresholds: np.ndarray


def kfold_accuracy(scores: np.ndarray, same: np.ndarray, folds: int = FOLDS, thresholds: str = "scores") -> Folds:
    """Returns the verification accuracy as in LFW: on each contiguous fold, with the threshold that is best on the other folds.

    Folds are cut in the order given, without shuffling; the first N % folds of them are one pair longer. Of thresholds that are
    equally good on the training folds the strictest is taken (the first argmax over rising distance).
    thresholds: "scores" tries every cut between two neighbouring training scores, which is fair to a model whose cosines are all close
    together; "distance" tries the published grid, distance 2 - 2 cos < 0, 0.01, … 3.99, to compare with papers.
    """
    scores, same = _checked(scores, same)
    if not 2 <= folds <= len(scores):
        raise DistillError(f"{folds} folds of {len(scores)} pairs: expected at least 2 folds and a pair for each.")
    if thresholds not in CUTS:
        raise DistillError(f"thresholds {thresholds!r} is unknown. Expected one of: {', '.join(CUTS)}.")
    accuracies, chosen = np.zeros(folds), np.zeros(folds)
    for number, test in enumerate(np.array_split(np.arange(len(scores)), folds)):
        train = np.ones(len(scores), bool)
        train[test] = False
        chosen[number] = CUTS[thresholds](scores[train], same[train])
        accepted = scores[test] >= chosen[number] if thresholds == "scores" else _distances(scores[test]) < chosen[number]
        accuracies[number] = np.mean(accepted == same[test])
    return Folds(float(accuracies.mean()), float(accuracies.std()), accuracies, chosen)


def _best_cut(scores: np.ndarray, same: np.ndarray) -> float:
    """Returns the strictest of the most accurate thresholds, midway between the scores on its two sides."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    right = np.append(0, np.cumsum(np.where(same[order], 1, -1)))  # how many more are right with the k best accepted than with none
    between = np.append(True, np.append(ranked[1:] != ranked[:-1], True))  # equal scores are accepted together or not at all
    best = int(np.argmax(np.where(between, right, -len(scores) - 1)))
    if best == 0:
        return float(np.nextafter(ranked[0], np.inf))
    if best == len(ranked):
        return float(ranked[-1])
    return float(max((ranked[best - 1] + ranked[best]) / 2, np.nextafter(ranked[best], np.inf)))


def _distances(scores: np.ndarray) -> np.ndarray:
    """Returns 2 - 2 cos. Thresholds on distances are compared with distances: 1 - d/2 rounds differently, and a score on the grid would change sides."""
    return 2.0 - 2.0 * scores


def _best_distance(scores: np.ndarray, same: np.ndarray) -> float:
    """Returns the strictest of the most accurate distances of the published grid."""
    distance = _distances(scores)
    genuine, impostors = np.sort(distance[same]), np.sort(distance[~same])
    right = np.searchsorted(genuine, DISTANCES) + len(impostors) - np.searchsorted(impostors, DISTANCES)  # counts of distance < d
    return float(DISTANCES[int(np.argmax(right))])


CUTS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {"scores": _best_cut, "distance": _best_distance}


@dataclass(frozen=True)
class Roc:
    """Every operating point: accepting score >= thresholds[i] gives far[i] and tar[i].

    The first point is (inf, 0, 0), nothing accepted; thresholds fall, and both rates rise to 1.
    """

    far: np.ndarray  # float64 [K], in [0, 1]
    tar: np.ndarray
    thresholds: np.ndarray


def roc(scores: np.ndarray, same: np.ndarray) -> Roc:
    """Returns the operating points of all distinct scores. far: share of impostor pairs accepted, tar: of genuine pairs."""
    scores, same = _checked(scores, same)
    if not 0 < same.sum() < len(same):
        raise DistillError(f"{int(same.sum())} genuine and {int((~same).sum())} impostor pairs: rates need at least one of each.")
    order = np.argsort(-scores, kind="stable")
    ranked, genuine = scores[order], same[order]
    last = np.append(ranked[1:] != ranked[:-1], True)  # equal scores are accepted together or not at all
    tar = np.cumsum(genuine)[last] / genuine.sum()
    far = np.cumsum(~genuine)[last] / (~genuine).sum()
    return Roc(np.append(0.0, far), np.append(0.0, tar), np.append(np.inf, ranked[last]))


@dataclass(frozen=True)
class TarAtFar:
    """The share of genuine pairs accepted while at most (or about) the share `far` of impostor pairs is accepted.

    `reached` is the share of impostors really accepted: `accepted` of `impostors` pairs. With few accepted the figure is uncertain:
    a rate from k pairs has a relative error of about 1/sqrt(k).
    """

    far: float
    tar: float
    reached: float
    threshold: float
    accepted: int
    impostors: int

    def as_dict(self) -> dict[str, Any]:
        """Returns values for JSON; an infinite threshold (nothing is accepted) becomes None."""
        return {**self.__dict__, "threshold": self.threshold if np.isfinite(self.threshold) else None}


@dataclass(frozen=True)
class NoTar:
    """Stands for a TarAtFar where there are too few impostor pairs for the rate."""

    far: float
    impostors: int
    tar: None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns values for JSON: the same keys without figures, and the reason."""
        why = f"{math.ceil(ACCEPTED / self.far):,} impostor pairs are needed, there are {self.impostors:,}"
        return {"far": self.far, "tar": None, "reached": None, "threshold": None, "accepted": None, "impostors": self.impostors, "left_out": why}


def tar_at_far(scores: np.ndarray, same: np.ndarray, far: float, mode: str = "conservative") -> TarAtFar:
    """Returns the TAR at a false accept rate: of the ROC's points the one with the largest FAR <= far ("conservative"), or with the FAR nearest
    to it ("nearest", as insightface's IJB script reads it; it may exceed the target). Of equal ones the largest TAR.

    Scores .9 .8 .7 .6, same T F T F, far .5: one of two impostors may pass, so .7 is the threshold and TAR is 1.
    """
    if not 0 < far <= 1:
        raise DistillError(f"FAR {far}: expected a share above 0 and up to 1, such as 0.01.")
    points = roc(scores, same)
    if mode == "conservative":
        place = int(np.flatnonzero(points.far <= far)[-1])
    elif mode == "nearest":
        gap = np.abs(points.far - far)
        place = len(gap) - 1 - int(np.argmin(gap[::-1]))
    else:
        raise DistillError(f"TAR at FAR: mode {mode!r} is unknown. Expected conservative or nearest.")
    impostors = int((~np.asarray(same, bool)).sum())
    reached = float(points.far[place])
    return TarAtFar(far, float(points.tar[place]), reached, float(points.thresholds[place]), round(reached * impostors), impostors)


def _checked(scores: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    scores, same = np.asarray(scores, np.float64), np.asarray(same, bool)
    if scores.ndim != 1 or scores.shape != same.shape:
        raise DistillError(f"scores of shape {scores.shape} and answers of shape {same.shape}: expected one of each for each pair.")
    if not np.isfinite(scores).all():
        raise DistillError(f"score {int(np.flatnonzero(~np.isfinite(scores))[0])} of {len(scores)} is not finite.")
    return scores, same


@dataclass(frozen=True)
class Verification:
    """The figures of a model on pairs: 10-fold accuracy, its standard deviation over folds, the mean threshold, and TAR at each FAR."""

    accuracy: float
    std: float
    threshold: float
    tar: tuple[TarAtFar | NoTar, ...]
    genuine: int
    impostors: int
    folds: int

    def as_dict(self) -> dict[str, Any]:
        """Returns values for JSON; `tar` is keyed by its FAR as text: {"0.01": {...}, "0.001": {...}}."""
        return {**self.__dict__, "tar": {f"{point.far:g}": point.as_dict() for point in self.tar}}


def verify_pairs(scores: np.ndarray, same: np.ndarray, folds: int = FOLDS, fars: Sequence[float] = FARS) -> Verification:
    """Returns all figures of scored pairs (see kfold_accuracy and tar_at_far), whose contiguous folds should be balanced.

    Each fold has two pairs or more, so few pairs make fewer folds. A rate with fewer than ACCEPTED impostor pairs has no TAR.
    """
    same = np.asarray(same, bool)
    if len(same) < 4:
        raise DistillError(f"{len(same)} pairs: expected 4 or more, because a threshold is found on other pairs than it is tried on.")
    folds = min(folds, len(same) // 2)
    found = kfold_accuracy(scores, same, folds)
    impostors = int((~same).sum())
    points = tuple(tar_at_far(scores, same, far) if impostors * far >= ACCEPTED else NoTar(far, impostors) for far in fars)
    return Verification(found.accuracy, found.std, float(found.thresholds.mean()), points, int(same.sum()), int((~same).sum()), folds)


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
) -> PairEvaluation:
    """Evaluates a model on pairs of a folder of identities; `pairs` as from `draw_pairs` (None: 6,000 of them, seed 0). `progress`, `read`: see embed_images."""
    pairs = draw_pairs(folder) if pairs is None else pairs
    keys = pairs.keys()
    embeddings = embed_images(model, folder, keys, spec_for(model, resize, size, exif), progress=progress, read=read)
    place = {key: row for row, key in enumerate(keys)}
    first, second = (embeddings[[place[key] for key in side]] for side in (pairs.first, pairs.second))
    scores = cosine_scores(first, second)
    return PairEvaluation(pairs, scores, tuple(keys), embeddings, verify_pairs(scores, pairs.same, folds))
