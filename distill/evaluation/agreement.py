"""Agreement of a student with its teacher: the cosines of their embeddings of the same images, and whether both see the same likeness. Plain NumPy.

Memory is 16 bytes a row and the embeddings of a sample, however many rows there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from distill.data.sources import ShardSource
from distill.errors import DistillError
from distill.evaluation.disagreement import thumbnails
from distill.evaluation.embed import Model, Progress, finite
from distill.evaluation.similarities import Likeness, likeness, sample_rows
from distill.evaluation.verification import cosine_scores

QUANTILES = (1, 5, 25, 50, 75, 95, 99)  # per cent
WORST = 10  # images that are named


@dataclass(frozen=True)
class Agreement:
    """How close a student is to its teacher: the cosine of each row, its mean and its quantiles {per cent: cosine}.

    likeness: of a sample of the rows, None of fewer than three; worst: the images of the lowest cosines, (key, cosine), the lowest first;
    worst_images: thumbnails of these, uint8 [len(worst), E, E, 3].
    """

    mean: float
    quantiles: dict[int, float]
    rows: int
    dimension: int
    cosines: np.ndarray  # float64 [rows]
    likeness: Likeness | None = None
    worst: tuple[tuple[str, float], ...] = ()
    worst_images: np.ndarray | None = None

    def as_dict(self) -> dict[str, Any]:
        """Returns values for JSON, without the single cosines; quantiles are keyed by text: {"1": …, "99": …}."""
        plain = {"mean": self.mean, "quantiles": {str(at): value for at, value in self.quantiles.items()}, "rows": self.rows, "dimension": self.dimension}
        seen = {} if self.likeness is None else self.likeness.as_dict()
        return {**plain, **seen, "worst": [{"key": key, "cosine": cosine} for key, cosine in self.worst]}

    def arrays(self) -> dict[str, np.ndarray]:
        """Returns what the file of scores has of it: cosines; similarity_teacher and similarity_student of pairs; worst_keys, worst_cosines and worst_images."""
        found = {"cosines": self.cosines, "worst_keys": np.array([key for key, _ in self.worst]), "worst_cosines": np.array([one for _, one in self.worst])}
        if self.worst_images is not None:
            found["worst_images"] = self.worst_images
        return found if self.likeness is None else {**found, "similarity_teacher": self.likeness.first, "similarity_student": self.likeness.second}


def agreement(target: np.ndarray, prediction: np.ndarray, keys: Sequence[str] | None = None) -> Agreement:
    """Returns the agreement of two tables of embeddings, [N, D] each, row by row; keys: the name of each row. Norms do not matter; see cosine_scores."""
    for name, table in (("target", target), ("prediction", prediction)):
        if not np.isfinite(table).all():
            raise DistillError(f"{name}: row {int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])} of {len(table)} is not finite.")
    cosines = cosine_scores(target, prediction)
    if not len(cosines):
        raise DistillError("agreement: no rows to compare.")
    some, lowest = sample_rows(len(cosines)), _lowest(cosines)
    seen = likeness(target[some], prediction[some]) if len(some) > 2 else None
    return _summarise(cosines, target.shape[1], seen, () if keys is None else [(keys[row], float(cosines[row])) for row in lowest.tolist()])


def _summarise(cosines: np.ndarray, dimension: int, seen: Likeness | None, worst: Sequence[tuple[str, float]]) -> Agreement:
    quantiles = np.percentile(cosines, QUANTILES)
    return Agreement(float(cosines.mean()), dict(zip(QUANTILES, quantiles.tolist(), strict=True)), len(cosines), dimension, cosines, seen, tuple(worst))


def _lowest(cosines: np.ndarray) -> np.ndarray:
    """Returns the rows of the WORST lowest cosines, the lowest first."""
    return np.argsort(cosines, kind="stable")[:WORST]


def evaluate_shards(model: Model, source: ShardSource, progress: Progress | None = None) -> Agreement:
    """Returns the agreement of a model with the embeddings of a ShardSource of plain views in one pass; its part "held_out" gives a fair figure.

    `progress(done, of)` is called after each batch with counts of rows.
    """
    if "embedding" not in source.fields:
        raise DistillError(f"source {source.name} gives: {', '.join(source.fields)}. Agreement needs the teacher's embeddings.")
    if model.dimension != source.dimension:
        raise DistillError(
            f"the model answers with {model.dimension} numbers, the embeddings of {source.name} have {source.dimension}; cosines need the "
            "same. A student of another width is evaluated by pairs, and by the projected agreement in its training history."
        )
    some, done = sample_rows(source.rows), 0
    cosines, order = np.empty(source.rows), np.empty(source.rows, np.int64)
    sampled = np.empty((2, len(some), model.dimension), np.float32)
    for numbers, (pixels, fields) in zip(source.order(0), source.epoch(0), strict=True):
        rows = [f"row {done + row} of {source.name}" for row in range(len(pixels))]
        answers = finite(np.asarray(model(pixels), np.float32), rows)
        here = slice(done, done + len(pixels))
        cosines[here], order[here] = cosine_scores(fields["embedding"], answers), numbers
        place = np.minimum(np.searchsorted(some, numbers), len(some) - 1)
        taken = some[place] == numbers
        sampled[0, place[taken]], sampled[1, place[taken]] = fields["embedding"][taken], answers[taken]
        done += len(pixels)
        if progress is not None:
            progress(done, source.rows)
    lowest = _lowest(cosines)
    worst = list(zip(source.keys(order[lowest]), cosines[lowest].tolist(), strict=True))
    found = _summarise(cosines, model.dimension, likeness(*sampled) if len(some) > 2 else None, worst)
    return replace(found, worst_images=thumbnails(source.encoded(order[lowest])))
