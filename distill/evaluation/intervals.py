"""95 % intervals of figures on pairs, by drawing the pairs again. Plain NumPy.

What is drawn again is what was drawn once: identities, where they are known, else pairs within their fold and kind. Two models on the same pairs are
drawn again together, so that their difference has an interval of its own, which is much narrower than those of the two.

Identities (the vertex bootstrap of Snijders and Borgatti 1999): of m_i draws of identity i its genuine pairs count m_i times and an impostor pair of i and
j counts m_i m_j times. That takes into account that pairs of one identity are alike, but it lets the chance of a single impostor pair count three times:
var(m_i m_j) is 3, not 1. What is too much is twice the variance of drawing pairs of identities again among impostors, which is measured by doing so,
and the interval is made narrower by that much: then it is the one of standard errors for dyads (Aronow, Samii and Assenova 2015).

That variance is itself a sum over few identities, or over the few that err, so an interval of the normal distribution is too narrow. It is made wider as
Student's t is: with as many degrees of freedom as a variance has that is as uncertain (Satterthwaite 1946). How much each identity moves a figure is its
covariance with how often the identity was drawn (Efron 2014).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

import numpy as np

from distill.evaluation.resampled import Sorted, figures_of

RESAMPLES = 1000
MOST_PAIRS = 100_000  # above which nothing is drawn again unasked: that would take minutes
CHUNK = 100  # resamples at a time: 100 x 6,000 pairs stay in the cache of a core
SHARE = 0.95
LEAST_FREEDOM = 5.0  # of a variance; fewer are not to be told from few draws

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
        if self.numbers is not None:
            yield from (self._by_identities(drawn, self.numbers) for drawn in self.draws())
            return
        rng = np.random.default_rng([self.seed, 1])
        for size in self._sizes(self.resamples):
            yield self._by_pairs(rng, size)

    def draws(self) -> Iterator[np.ndarray]:
        """Yields how often each identity is drawn in each resample, int32 [up to CHUNK, identities]; nothing where they are not known."""
        if self.numbers is not None:
            rng = np.random.default_rng([self.seed, 1])
            for size in self._sizes(self.resamples):
                yield _drawn(rng, size, int(self.numbers.max()) + 1)

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

    def _by_identities(self, drawn: np.ndarray, numbers: np.ndarray) -> np.ndarray:
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
    """The figures of a model on pairs, and on the pairs drawn again.

    Attributes:
        values: {name: value}.
        again: {name: float64 [resamples]}.
        excess: {name: float64 [resamples / 2]} of pairs of identities drawn again among impostors; {} where identities are not known.
        moved: {name: float64 [identities]}, how much each identity moves a figure; {} where they are not known.
    """

    values: dict[str, float]
    again: dict[str, np.ndarray]
    excess: dict[str, np.ndarray] = field(default_factory=dict)
    moved: dict[str, np.ndarray] = field(default_factory=dict)

    def intervals(self) -> dict[str, dict[str, float]]:
        """Returns {name: {"value", "low", "high"}}."""
        return {name: _interval(value, self.again[name], self.excess.get(name), self.moved.get(name), 0.0) for name, value in self.values.items()}

    def minus(self, other: Resampled) -> dict[str, dict[str, float]]:
        """Returns the differences to another model on the same pairs drawn again in the same way: {name: {"value", "low", "high"}}."""
        again, excess, moved = (_less(mine, its) for mine, its in ((self.again, other.again), (self.excess, other.excess), (self.moved, other.moved)))
        less = {name: value - other.values[name] for name, value in self.values.items()}
        return {name: _interval(value, again[name], excess.get(name), moved.get(name), -1.0) for name, value in less.items()}


def _less(mine: dict[str, np.ndarray], its: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: values - its[name] for name, values in mine.items()}


def resample(scores: np.ndarray, design: Design, fars: tuple[float, ...] = ()) -> Resampled:
    """Returns figures on pairs and on pairs drawn again: "accuracy", "published", "auc", "eer" and "tar@FAR" of each rate (conservative).

    Args:
        scores: cosines, float64 [N].
        design: what is drawn again.
        fars: rates of which the TAR is taken.
    """
    order = Sorted.of(scores, design.same, design.folds)
    once = figures_of(order, np.ones((1, len(scores)), np.int32), fars)
    again = _all(order, design.weights(), fars)
    values = {name: float(value[0]) for name, value in once.items()}
    return Resampled(values, again, _all(order, design.excess(), fars), _moved(design.draws(), again))


def drawn_shares(name: str, hits: np.ndarray, numbers: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Resampled:
    """Returns a share of hits, and what it is when identities are drawn again, each with all of its own.

    Args:
        name: of the figure.
        hits: bool [N].
        numbers: the identity of each, int64 [N].
    """
    _, numbers = np.unique(numbers, return_inverse=True)
    right, each = np.bincount(numbers, hits), np.bincount(numbers)
    rng = np.random.default_rng([seed, 1])
    draws = [_drawn(rng, min(CHUNK, resamples - start), len(each)) for start in range(0, resamples, CHUNK)]
    again = {name: np.concatenate([drawn @ right / (drawn @ each) for drawn in draws])}
    return Resampled({name: float(hits.mean())}, again, {}, _moved(draws, again))


def _all(order: Sorted, weights: Iterator[np.ndarray], fars: tuple[float, ...]) -> dict[str, np.ndarray]:
    parts = [figures_of(order, chunk, fars) for chunk in weights]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def _moved(draws: Iterable[np.ndarray], again: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the covariance of each figure with how often each identity was drawn: {name: float64 [identities]}; {} of no draws."""
    centred = {name: np.nan_to_num(values - np.nanmean(values)) for name, values in again.items() if np.isfinite(values).any()}
    sums: dict[str, Any] = dict.fromkeys(centred, 0.0)
    start = 0
    for drawn in draws:
        for name, values in centred.items():
            sums[name] = sums[name] + values[start : start + len(drawn)] @ (drawn - 1)
        start += len(drawn)
    return {name: total / start for name, total in sums.items()} if start else {}


def _interval(value: float, again: np.ndarray, excess: np.ndarray | None, moved: np.ndarray | None, least: float) -> dict[str, Any]:
    """Returns the value with the quantiles of `again` around it, their distance lessened by twice the variance of `excess`, and widened as Student's t is."""
    again = again[np.isfinite(again)]
    if not len(again):
        return {"value": value, "low": None, "high": None}
    variance, factor = float(np.var(again)), 1.0
    if excess is not None and variance > 0:
        single = float(np.nanvar(excess))
        factor = np.sqrt(max(variance - 2 * single, min(single, variance)) / variance)
    if moved is not None and variance > 0:
        factor *= _wider(_freedom(variance * factor**2, moved, variance / len(again)))
    low, high = value + factor * (np.quantile(again, [(1 - SHARE) / 2, (1 + SHARE) / 2]) - again.mean())
    # a few draws far away move the mean beyond a quantile, and the value is inside its interval all the same
    return {"value": value, "low": min(value, max(least, float(low))), "high": max(value, min(1.0, float(high)))}


def _freedom(variance: float, moved: np.ndarray, noise: float) -> float:
    """Returns the degrees of freedom of a variance: 2 V^2 / var(V), var(V) that of the sum of the squares of `moved`; LEAST_FREEDOM or more.

    noise: the variance that each of `moved` has because draws are finite; it is taken off. Ten equal parts are 10 degrees where their kurtosis is 3, and
    n equal squares (which vary not at all) are endlessly many.
    """
    number = len(moved)
    squares = max(float((moved**2).sum()) - number * noise, 0.0)
    fourths = float((moved**4).sum()) - 6 * noise * squares - 3 * number * noise**2
    uncertain = max(fourths - squares**2 / number, 0.0)
    return max(2 * variance**2 / uncertain, LEAST_FREEDOM) if uncertain > 0 else np.inf


def _wider(freedom: float) -> float:
    """Returns the quantile of Student's t over that of the normal distribution, by Cornish and Fisher (to .2 % from 5 degrees on)."""
    z = NormalDist().inv_cdf((1 + SHARE) / 2)
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return 1 + (first / freedom + second / freedom**2 + third / freedom**3) / z
