"""Pairs that two models see most differently, and small images of them for pages, which may be written where the images are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from distill.evaluation.pair_sets import PairSet

MOST = 12  # pairs of a set that are shown
EDGE = 72  # pixels of the longer side of a thumbnail


def disagreeing(teacher: np.ndarray, student: np.ndarray, cuts: tuple[float, float], most: int = MOST) -> np.ndarray:
    """Returns the rows of the pairs that two models see most differently: first those that they judge differently, then the others, each by how far their
    places in the order of all pairs are apart.

    Places and not cosines are compared, because the cosines of a student may lie closer together than its teacher's and mean the same.

    Args:
        teacher, student: scores of the same pairs, float [N] each.
        cuts: the thresholds of both.

    >>> disagreeing(np.array([.9, .8, .1, .2]), np.array([.5, .1, .2, .3]), (.5, .4), 3)
    array([1, 2, 3])
    """
    apart = np.abs(_places(student) - _places(teacher))
    differently = (teacher >= cuts[0]) != (student >= cuts[1])
    order = np.lexsort((np.arange(len(apart)), -apart, ~differently))
    return order[: min(most, int((differently | (apart > 0)).sum()))]


def shown_pairs(teacher: np.ndarray, student: np.ndarray, cuts: tuple[float, float], pair_set: PairSet) -> dict[str, np.ndarray]:
    """Returns what pages show of the pairs that two models see most differently: shown int64 [K], shown_first and shown_second uint8 [K, EDGE, EDGE, 3]."""
    rows = disagreeing(teacher, student, cuts)
    first, second = ([pair_set.read(side[row]) for row in rows.tolist()] for side in (pair_set.pairs.first, pair_set.pairs.second))
    return {"shown": rows, "shown_first": thumbnails(first), "shown_second": thumbnails(second)}


def _places(scores: np.ndarray) -> np.ndarray:
    """Returns the place of each score among all, int64 [N], the lowest score first; equal scores have the first place of them."""
    return np.searchsorted(np.sort(scores), scores)


def thumbnails(encoded: Sequence[bytes], edge: int = EDGE) -> np.ndarray:
    """Returns images as uint8 [N, edge, edge, 3], made smaller and whole; what is left over beside one that is not square is grey."""
    from distill.images.codec import decode

    return np.stack([thumbnail(decode(data), edge) for data in encoded]) if encoded else np.zeros((0, edge, edge, 3), np.uint8)


def thumbnail(pixels: np.ndarray, edge: int = EDGE) -> np.ndarray:
    """Returns uint8 [H, W, 3] as uint8 [edge, edge, 3]; see `thumbnails`. Smaller images are made larger."""
    from PIL import Image

    scale = edge / max(pixels.shape[:2])
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    small = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))
    whole = np.full((edge, edge, 3), 128, np.uint8)
    top, left = (edge - height) // 2, (edge - width) // 2
    whole[top : top + height, left : left + width] = small
    return whole
