"""95 % intervals of figures on pairs, by drawing the pairs again. Plain NumPy.

What is drawn again is what was drawn once: identities, where they are known, else pairs within their fold and kind. Two models on the same pairs are
drawn again together, so that their difference has an interval of its own, which is much narrower than those of the two.

Identities (the vertex bootstrap of Snijders and Borgatti 1999): of m_i draws of identity i its genuine pairs count m_i times and an impostor pair of i and
j counts m_i m_j times. That takes into account that pairs of one identity are alike, but it lets the chance of a single impostor pair count three times:
var(m_i m_j) is 3, not 1. What is too much is twice the variance of drawing pairs of identities again among impostors, which is measured by doing so,
and the interval is made narrower by that much: then it is the one of standard errors for dyads (Aronow, Samii and Assenova 2015).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.evaluation.resampled import Sorted, figures_of

RESAMPLES = 1000
MOST_PAIRS = 100_000  # above which nothing is drawn again unasked: that would take minutes
CHUNK = 100  # resamples at a time: 100 x 6,000 pairs stay in the cache of a core
SHARE = 0.95

Identities = tuple[tuple[str, ...], tuple[str, ...]]


@dataclass(frozen=True)
class Design:
    """What is drawn again. `numbers`: identities of both sides as numbers, int64 [2, N], None where they are not known; the same seed draws the same."""

    same: np.ndarray
    folds: int
    numbers: np.ndarray | None = None
    resamples: int = RESAMPLES
    seed: int = 0

    @classmethod
    def of(cls, same: np.ndarray, folds: int, identities: Identities | None, resamples: int = RESAMPLES) -> Design:
        """Returns the design of pairs whose identities are known or not."""
        if identities is None:
            return cls(same, folds, None, resamples)
        _, numbers = np.unique(np.array(identities[0] + identities[1]), return_inverse=True)
        return cls(same, folds, numbers.reshape(2, -1), resamples)

    @property
    def by(self) -> str:
        """What is drawn again, in words."""
        return "pairs within folds" if self.numbers is None else "identities"

    def weights(self) -> Iterator[np.ndarray]:
        """Yields how often each pair counts in each resample, int32 [up to CHUNK, N]."""
        rng = np.random.default_rng([self.seed, 1])
        for size in self._sizes(self.resamples):
            yield self._by_pairs(rng, size) if self.numbers is None else self._by_identities(rng, size, self.numbers)

    def excess(self) -> Iterator[np.ndarray]:
        """Yields weights that draw pairs of identities again among impostors alone; nothing where identities are not known."""
        if self.numbers is None:
            return
        rng, impostors = np.random.default_rng([self.seed, 2]), np.flatnonzero(~self.same)
        _, dyads = np.unique(np.sort(self.numbers[:, impostors], axis=0), axis=1, return_inverse=True)
        dyads = dyads.reshape(-1)
        for size in self._sizes(max(1, self.resamples // 2)):
            weights = np.ones((size, len(self.same)), np.int32)
            weights[:, impostors] = _drawn(rng, size, int(dyads.max()) + 1)[:, dyads]
            yield weights

    def _sizes(self, number: int) -> list[int]:
        return [min(CHUNK, number - start) for start in range(0, number, CHUNK)]

    def _by_pairs(self, rng: np.random.Generator, size: int) -> np.ndarray:
        weights = np.empty((size, len(self.same)), np.int32)
        for part in np.array_split(np.arange(len(self.same)), self.folds):
            for kind in (True, False):
                rows = part[self.same[part] == kind]
                if len(rows):
                    weights[:, rows] = _drawn(rng, size, len(rows))
        return weights

    def _by_identities(self, rng: np.random.Generator, size: int, numbers: np.ndarray) -> np.ndarray:
        drawn = _drawn(rng, size, int(numbers.max()) + 1)
        weights = drawn[:, numbers[0]]
        different = np.flatnonzero(numbers[0] != numbers[1])
        weights[:, different] *= drawn[:, numbers[1, different]]
        return weights


def _drawn(rng: np.random.Generator, size: int, number: int) -> np.ndarray:
    """Returns how often each of `number` things comes in `number` draws with replacement, int32 [size, number]."""
    draws = rng.integers(0, number, (size, number)) + np.arange(size)[:, None] * number
    return np.bincount(draws.reshape(-1), minlength=size * number).reshape(size, number).astype(np.int32)


@dataclass(frozen=True)
class Resampled:
    """The figures of a model on pairs, and on the pairs drawn again: {name: value} and {name: float64 [resamples]}."""

    values: dict[str, float]
    again: dict[str, np.ndarray]
    excess: dict[str, np.ndarray]

    def intervals(self) -> dict[str, dict[str, float]]:
        """Returns {name: {"value", "low", "high"}}."""
        return {name: _interval(value, self.again[name], self.excess.get(name), 0.0) for name, value in self.values.items()}

    def minus(self, other: Resampled) -> dict[str, dict[str, float]]:
        """Returns the differences to another model on the same pairs drawn again in the same way: {name: {"value", "low", "high"}}."""
        return {
            name: _interval(
                value - other.values[name], self.again[name] - other.again[name], self.excess[name] - other.excess[name] if name in self.excess else None, -1.0
            )
            for name, value in self.values.items()
        }


def resample(scores: np.ndarray, design: Design, fars: tuple[float, ...] = ()) -> Resampled:
    """Returns figures on pairs and on pairs drawn again: "accuracy", "published", "auc", "eer" and "tar@FAR" of each rate (conservative).

    Args:
        scores: cosines, float64 [N].
        design: what is drawn again.
        fars: rates of which the TAR is taken.
    """
    order = Sorted.of(scores, design.same, design.folds)
    once = figures_of(order, np.ones((1, len(scores)), np.int32), fars)
    return Resampled({name: float(value[0]) for name, value in once.items()}, _all(order, design.weights(), fars), _all(order, design.excess(), fars))


def drawn_shares(name: str, hits: np.ndarray, numbers: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Resampled:
    """Returns a share of hits, and what it is when identities are drawn again, each with all of its own.

    Args:
        name: of the figure.
        hits: bool [N].
        numbers: the identity of each, int64 [N].
    """
    _, numbers = np.unique(numbers, return_inverse=True)
    right, each = np.bincount(numbers, hits), np.bincount(numbers)
    rng, again = np.random.default_rng([seed, 1]), []
    for start in range(0, resamples, CHUNK):
        drawn = _drawn(rng, min(CHUNK, resamples - start), len(each))
        again.append(drawn @ right / (drawn @ each))
    return Resampled({name: float(hits.mean())}, {name: np.concatenate(again)}, {})


def _all(order: Sorted, weights: Iterator[np.ndarray], fars: tuple[float, ...]) -> dict[str, np.ndarray]:
    parts = [figures_of(order, chunk, fars) for chunk in weights]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def _interval(value: float, again: np.ndarray, excess: np.ndarray | None, least: float) -> dict[str, Any]:
    """Returns the value with the quantiles of `again` around it, their distance lessened by twice the variance of `excess`."""
    again = again[np.isfinite(again)]
    if not len(again):
        return {"value": value, "low": None, "high": None}
    variance, factor = float(np.var(again)), 1.0
    if excess is not None and variance > 0:
        single = float(np.nanvar(excess))
        factor = np.sqrt(max(variance - 2 * single, min(single, variance)) / variance)
    low, high = value + factor * (np.quantile(again, [(1 - SHARE) / 2, (1 + SHARE) / 2]) - again.mean())
    # a few draws far away move the mean beyond a quantile, and the value is inside its interval all the same
    return {"value": value, "low": min(value, max(least, float(low))), "high": max(value, min(1.0, float(high)))}
