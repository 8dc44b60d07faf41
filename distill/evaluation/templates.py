"""Templates: one vector for all images and frames of a person that were enrolled together, and the scores of pairs of them. Plain NumPy.

As IJB-B and IJB-C are judged: images of one media are averaged, the media of a template summed, the sum brought to length 1, and two templates compared by
their dot product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from distill.errors import DistillError
from distill.evaluation.template_lists import TemplateList, TemplatePairs

ROWS = 1 << 14  # of features in memory at a time: 64 MiB of 512 numbers in float64
PRODUCTS = 1 << 24  # products of templates in memory at a time: 64 MiB
DENSE = 32  # products that are cheaper than to take both templates of one pair out of the table


@dataclass(frozen=True)
class TemplateOptions:
    """How features become templates, as published figures name it.

    Attributes:
        halves: features hold an image and its mirror image side by side, which are summed (F1).
        norm: "keep": long features count for more (N1); "unit": all images of a media alike (N0).
        scores: each image counts as its detector was sure of it (D1).
    """

    halves: bool = False
    norm: Literal["keep", "unit"] = "keep"
    scores: bool = False


def template_table(features: np.ndarray, images: TemplateList, options: TemplateOptions | None = None) -> np.ndarray:
    """Returns the vector of each template, float32 [T, D], of length 1 (0 where all images are zeros).

    Images (3, 0) and (1, 2) of one media and (0, 4) of another: their mean is (2, 1), the sum (2, 5), and that over its length (.371, .928).

    Args:
        features: float [N, D], row i of image i of the list (of halves [N, 2 D]); may be a view of a file.
        images: the list.

    Raises:
        DistillError: there are as many rows as images not, or a number is not finite.
    """
    options = options or TemplateOptions()
    if features.ndim != 2 or len(features) != len(images):
        raise DistillError(f"{images.name} has {len(images):,} images, and there are features of shape {features.shape}. Expected a row for each image.")
    if options.halves and features.shape[1] % 2:
        raise DistillError(f"features of {features.shape[1]} numbers have no two halves to sum. Leave --flip out, or give those of both images side by side.")
    if options.scores and images.scores is None:
        raise DistillError(f"{images.name} has no fourth number, the score of the detector, on its lines. Leave --detector-scores out, or add it.")
    table = np.zeros((len(images.ids), features.shape[1] // (2 if options.halves else 1)))
    order = np.lexsort((images.media, images.templates))
    for part in _parts(images, order):
        rows = _prepared(features, part, images, options)
        template, media = images.templates[part], images.media[part]
        begins = np.flatnonzero(np.r_[True, (template[1:] != template[:-1]) | (media[1:] != media[:-1])])
        means = np.add.reduceat(rows, begins) / np.diff(np.r_[begins, len(part)])[:, None]
        owners = template[begins]
        first = np.flatnonzero(np.r_[True, owners[1:] != owners[:-1]])
        table[owners[first]] += np.add.reduceat(means, first)
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    return np.divide(table, lengths, out=np.zeros_like(table), where=lengths > 0).astype(np.float32)


def _parts(images: TemplateList, order: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the rows in `order`, about ROWS at a time, all images of a media together."""
    template, media = images.templates[order], images.media[order]
    ends = np.append(np.flatnonzero((template[1:] != template[:-1]) | (media[1:] != media[:-1])) + 1, len(order))
    start = 0
    while start < len(order):
        stop = int(ends[np.searchsorted(ends, min(start + ROWS, len(order)))])
        yield order[start:stop]
        start = stop


def _prepared(features: np.ndarray, part: np.ndarray, images: TemplateList, options: TemplateOptions) -> np.ndarray:
    """Returns the features of some rows as they count, float64 [n, D]."""
    rows = features[part].astype(np.float64)
    if len(lost := np.flatnonzero(~np.isfinite(rows).all(axis=1))):
        raise DistillError(f"the features of {images.keys[part[lost[0]]]} (row {part[lost[0]]:,}) are not finite. Make them anew.")
    if options.halves:
        rows = rows[:, : rows.shape[1] // 2] + rows[:, rows.shape[1] // 2 :]
    if options.norm == "unit":
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return rows * images.scores[part, None] if options.scores and images.scores is not None else rows


def pair_scores(table: np.ndarray, pairs: TemplatePairs) -> np.ndarray:
    """Returns the dot product of each pair of templates: float32 [T, D] -> float32 [P] in [-1, 1].

    Where the pairs are many of all there can be, whole blocks of products are made, which takes a twentieth of the time: 8,010,270 pairs of 12,115
    templates in 3 s.
    """
    scores = np.empty(len(pairs), np.float32)
    ones, twos = np.unique(pairs.first), np.unique(pairs.second)
    if len(ones) * len(twos) > DENSE * len(pairs):
        step = max(1, PRODUCTS // table.shape[1] // 2)
        for start in range(0, len(pairs), step):
            one, two = (table[side[start : start + step]] for side in (pairs.first, pairs.second))
            scores[start : start + step] = np.einsum("nd,nd->n", one, two)
        return np.clip(scores, -1, 1)
    columns, place = table[twos].T, np.zeros(len(table), np.int32)
    place[twos] = np.arange(len(twos))
    order = np.argsort(pairs.first, kind="stable")
    begins = np.searchsorted(pairs.first[order], ones)
    step = max(1, PRODUCTS // len(twos))
    for start in range(0, len(ones), step):
        some = order[begins[start] : begins[start + step] if start + step < len(ones) else len(order)]
        products = table[ones[start : start + step]] @ columns
        scores[some] = products[np.searchsorted(ones, pairs.first[some]) - start, place[pairs.second[some]]]
    return np.clip(scores, -1, 1)


def template_facts(images: TemplateList, options: TemplateOptions) -> dict[str, Any]:
    """Returns what stands beside the figures: the list, how many of what, and how features became templates."""
    media = len(np.unique(images.templates * (int(images.media.max()) + 1) + images.media))
    return {"list": images.name, "images": len(images), "media": media, "templates": len(images.ids), "norm": options.norm, "detector_scores": options.scores}
