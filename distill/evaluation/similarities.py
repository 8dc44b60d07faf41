"""Whether two models see the same likeness: how their similarities of pairs are ranked, and whom each takes for nearest. Plain NumPy.

A similarity is the cosine of two rows of one model's embeddings, so that models of different width can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.errors import DistillError

ROWS = 2000  # rows of a sample: 1,999,000 pairs take 2 s and 150 MB
NEIGHBOURS = (1, 10)
PLOTTED = 5000  # pairs that are kept for a plot


@dataclass(frozen=True)
class Likeness:
    """What two models agree on among the same rows.

    Attributes:
        rank_correlation: Spearman's, of the similarities of all pairs of rows; None where one model gives all pairs the same.
        neighbour_overlap: {k: share of the k rows nearest by the first model that are among the k nearest by the second}.
        rows, pairs: how many they rest on.
        first, second: the similarities of up to PLOTTED pairs that were drawn, float32.
    """

    rank_correlation: float | None
    neighbour_overlap: dict[int, float]
    rows: int
    pairs: int
    first: np.ndarray
    second: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        """Returns values for JSON, without the single pairs; the overlap is keyed by text: {"1": ..., "10": ...}."""
        overlap = {str(k): share for k, share in self.neighbour_overlap.items()}
        return {"rank_correlation": self.rank_correlation, "neighbour_overlap": overlap, "sampled_rows": self.rows, "sampled_pairs": self.pairs}


def sample_rows(rows: int, most: int = ROWS, seed: int = 0) -> np.ndarray:
    """Returns which of `rows` rows make the sample, rising, int64: all of them, or `most` that are drawn."""
    return np.arange(rows) if rows <= most else np.sort(np.random.default_rng([seed, rows]).choice(rows, most, replace=False))


def likeness(first: np.ndarray, second: np.ndarray, neighbours: Sequence[int] = NEIGHBOURS, seed: int = 0) -> Likeness:
    """Returns how alike two models see N rows, float [N, D] and [N, E]. An overlap with k >= N - 1 would always be 1, and is left out."""
    if len(first) != len(second) or len(first) < 3:
        raise DistillError(f"similarities of {len(first)} and {len(second)} rows: expected the same three rows or more of both models.")
    tables = similarities(first), similarities(second)
    places = np.triu_indices(len(first), 1)
    ones, twos = (table[places] for table in tables)
    shown = sample_rows(len(ones), PLOTTED, seed)
    overlap = {k: neighbour_overlap(*tables, k) for k in neighbours if k < len(first) - 1}
    return Likeness(rank_correlation(ones, twos), overlap, len(first), len(ones), ones[shown], twos[shown])


def similarities(embeddings: np.ndarray) -> np.ndarray:
    """Returns the cosine of each row with each: [N, D] -> float32 [N, N], symmetric. A row of zeros has the cosine 0 with all."""
    lengths = np.linalg.norm(embeddings.astype(np.float32), axis=1, keepdims=True)
    unit = np.divide(embeddings, lengths, out=np.zeros(embeddings.shape, np.float32), where=lengths > 0)
    return np.asarray(unit @ unit.T)


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Returns Spearman's rank correlation of two lists of N numbers, in [-1, 1]; None where all numbers of one are equal.

    It is Pearson's correlation of the ranks, and equal numbers share the mean of their ranks.

    >>> rank_correlation(np.array([1., 2., 3., 4.]), np.array([1., 2., 4., 3.]))  # 1 - 6 (0 + 0 + 1 + 1) / (4 * 15)
    0.8
    """
    one, two = (ranked - ranked.mean() for ranked in (ranks(first), ranks(second)))
    spread = float(np.sqrt((one @ one) * (two @ two)))
    return float(one @ two) / spread if spread > 0 else None


def ranks(values: np.ndarray) -> np.ndarray:
    """Returns the rank of each of N numbers from 1 on, equal ones with the mean of theirs, float64 [N].

    >>> ranks(np.array([.5, .1, .5, .9])).tolist()
    [2.5, 1.0, 2.5, 4.0]
    """
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[place])


def neighbour_overlap(first: np.ndarray, second: np.ndarray, k: int) -> float:
    """Returns the share of each row's k nearest others by `first` that are among its k nearest by `second`, similarities [N, N] of both; the mean over rows.

    Of equally near rows the one that comes first is nearer, for both.

    >>> a = np.array([[1., .9, .1], [.9, 1., .2], [.1, .2, 1.]])
    >>> b = np.array([[1., .9, .1], [.9, 1., .2], [.1, .0, 1.]])
    >>> neighbour_overlap(a, b, 1)  # rows 0 and 1 agree; row 2 is nearest to 1 by a, to 0 by b
    0.6666666666666666
    """
    one, two = _nearest(first, k), _nearest(second, k)
    return float((one[:, :, None] == two[:, None, :]).any(axis=2).mean())


def _nearest(table: np.ndarray, k: int) -> np.ndarray:
    """Returns the k nearest others of each row, int64 [N, k], in no order."""
    rows = np.arange(len(table))
    nearest = np.empty((len(table), k), np.int64)
    for start in range(0, len(table), 256):
        far = -table[start : start + 256]
        far[np.arange(len(far)), rows[start : start + 256]] = np.inf
        nearest[start : start + 256] = np.argsort(far, axis=1, kind="stable")[:, :k]
    return nearest
