"""The figures of pairs that count several times or not at all, for many such weightings at once: what drawing pairs again needs. Plain NumPy.

A weighting of N pairs gives exactly what `kfold_accuracy` and `roc` give of the pairs written down as often as they count, within their folds; scores are
sorted once for all of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from distill.evaluation.folds import DISTANCES, fold_bounds, grid_places


@dataclass(frozen=True)
class Sorted:
    """Pairs in the order of falling scores.

    Attributes:
        order: of the pairs, int64 [N].
        scores, genuine: in that order.
        places: the first distance of the published grid that accepts each.
        last: where the last of equal scores stands, int64.
        parts: the columns of each fold, in that order.
    """

    order: np.ndarray
    scores: np.ndarray
    genuine: np.ndarray
    places: np.ndarray
    last: np.ndarray
    parts: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, scores: np.ndarray, same: np.ndarray, folds: int) -> Sorted:
        order = np.argsort(-scores, kind="stable")
        ranked = scores[order]
        bounds = fold_bounds(len(scores), folds)
        fold = np.searchsorted(bounds, order, side="right") - 1
        last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
        return cls(order, ranked, same[order], grid_places(ranked), last, tuple(np.flatnonzero(fold == number) for number in range(folds)))


def figures_of(pairs: Sorted, weights: np.ndarray, fars: tuple[float, ...]) -> dict[str, np.ndarray]:
    """Returns {"accuracy", "published", "auc", "eer", "tar@FAR"}, float64 [R] each, of weights int32 [R, N] of the pairs in their own order.

    NaN where a weighting leaves no pair of one kind.
    """
    weights = weights[:, pairs.order]
    signed = np.where(pairs.genuine, weights, -weights)
    found = {"accuracy": _accuracy(pairs, weights, signed), "published": _published(pairs, weights, signed), **_rates(pairs, weights, fars)}
    none = (np.where(pairs.genuine, weights, 0).sum(axis=1) == 0) | (np.where(pairs.genuine, 0, weights).sum(axis=1) == 0)
    return {name: np.where(none, np.nan, values) for name, values in found.items()}


def _accuracy(pairs: Sorted, weights: np.ndarray, signed: np.ndarray) -> np.ndarray:
    """Returns the mean over folds with the best cut between scores of the other folds; see `folds.best_cut`."""
    size, number = weights.shape
    tied = np.setdiff1d(np.arange(number), pairs.last)  # after these no cut can lie
    shares = np.full((len(pairs.parts), size), np.nan)
    for row, columns in enumerate(pairs.parts):
        train, there = signed.copy(), weights > 0
        train[:, columns] = 0
        there[:, columns] = False
        right = np.cumsum(train, axis=1, dtype=np.int32)
        right[:, tied] = np.iinfo(np.int32).min
        best = np.argmax(right, axis=1)
        best = np.where(right[np.arange(size), best] > 0, best, -1)  # the last that is accepted, -1 for none
        shares[row] = _decided(columns, weights, signed, _accepted(pairs, there, best))
    return _mean(shares)


def _accepted(pairs: Sorted, there: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Returns how many of all sorted scores reach the threshold midway between the training pair `best` and the next one of `there`."""
    size, number = there.shape
    rows, after = np.arange(size), best + 1
    while (blank := (after < number) & ~there[rows, np.minimum(after, number - 1)]).any():
        after = after + blank
    none, end = best < 0, after >= number
    lower = pairs.scores[np.minimum(after, number - 1)]
    middle = np.maximum((pairs.scores[np.maximum(best, 0)] + lower) / 2, np.nextafter(lower, np.inf))
    cut = np.where(none, np.nextafter(lower, np.inf), np.where(end, pairs.scores[np.maximum(best, 0)], middle))
    return np.searchsorted(-pairs.scores, -cut, side="right")


def _decided(columns: np.ndarray, weights: np.ndarray, signed: np.ndarray, accepted: np.ndarray) -> np.ndarray:
    """Returns the share of a fold's pairs that is right where the first `accepted` of all pairs are accepted, float64 [R]."""
    own, own_signed = weights[:, columns], signed[:, columns]
    total = own.sum(axis=1)
    impostors = (total - own_signed.sum(axis=1)) // 2
    right = impostors + (own_signed * (columns < accepted[:, None])).sum(axis=1)
    return np.divide(right, total, out=np.full(len(total), np.nan), where=total > 0)


def _published(pairs: Sorted, weights: np.ndarray, signed: np.ndarray) -> np.ndarray:
    """Returns the mean over folds with the best distance of the published grid on the other folds."""
    size, cells = len(weights), len(DISTANCES) + 1
    rows = np.arange(size)[:, None] * cells
    right = np.empty((len(pairs.parts), size, len(DISTANCES)))
    totals = np.empty((len(pairs.parts), size))
    for row, columns in enumerate(pairs.parts):
        counted = np.bincount((rows + pairs.places[columns]).reshape(-1), signed[:, columns].reshape(-1), minlength=size * cells)
        totals[row] = weights[:, columns].sum(axis=1)
        impostors = (totals[row] - signed[:, columns].sum(axis=1)) / 2
        right[row] = np.cumsum(counted.reshape(size, cells), axis=1)[:, :-1] + impostors[:, None]
    best = np.argmax(right.sum(axis=0) - right, axis=2)
    decided = np.take_along_axis(right, best[:, :, None], axis=2)[:, :, 0]
    return _mean(np.divide(decided, totals, out=np.full(totals.shape, np.nan), where=totals > 0))


def _rates(pairs: Sorted, weights: np.ndarray, fars: tuple[float, ...]) -> dict[str, np.ndarray]:
    genuine = np.cumsum(np.where(pairs.genuine, weights, 0), axis=1, dtype=np.int32)[:, pairs.last]
    impostors = np.cumsum(np.where(pairs.genuine, 0, weights), axis=1, dtype=np.int32)[:, pairs.last]
    genuine, impostors = (np.pad(side, ((0, 0), (1, 0))) for side in (genuine, impostors))
    most = np.maximum(1, impostors[:, -1:])
    tar, far = genuine / np.maximum(1, genuine[:, -1:]), impostors / most
    rows = np.arange(len(weights))
    found = {"auc": np.einsum("rn,rn->r", np.diff(far), (tar[:, 1:] + tar[:, :-1]) / 2)}
    excess = far + tar - 1
    after = np.maximum(1, np.argmax(excess >= 0, axis=1))
    low, high, before = excess[rows, after - 1], excess[rows, after], far[rows, after - 1]
    step = np.divide(low, low - high, out=np.zeros(len(rows)), where=low != high)
    found["eer"] = before + (far[rows, after] - before) * step
    for rate in fars:
        found[f"tar@{rate:g}"] = tar[rows, (far <= rate).sum(axis=1) - 1]
    return found


def _mean(shares: np.ndarray) -> np.ndarray:
    """Returns the mean over folds, of those that have a pair."""
    there = ~np.isnan(shares)
    return np.where(there, shares, 0).sum(axis=0) / np.maximum(1, there.sum(axis=0))
