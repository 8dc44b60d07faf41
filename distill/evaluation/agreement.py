"""Agreement of a student with its teacher: the cosines of their embeddings of the same images. Plain NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.errors import DistillError
from distill.evaluation.embed import Model, Progress, finite
from distill.evaluation.verification import cosine_scores

QUANTILES = (1, 5, 25, 50, 75, 95, 99)  # per cent


@dataclass(frozen=True)
class Agreement:
    """How close a student is to its teacher: the cosine of each row, its mean and its quantiles {per cent: cosine}."""

    mean: float
    quantiles: dict[int, float]
    rows: int
    dimension: int
    cosines: np.ndarray  # float64 [rows]

    def as_dict(self) -> dict[str, Any]:
        """Returns values for JSON, without the single cosines; quantiles are keyed by text: {"1": …, "99": …}."""
        return {"mean": self.mean, "quantiles": {str(at): value for at, value in self.quantiles.items()}, "rows": self.rows, "dimension": self.dimension}


def agreement(target: np.ndarray, prediction: np.ndarray) -> Agreement:
    """Returns the agreement of two tables of embeddings, [N, D] each, row by row. Norms do not matter; see cosine_scores."""
    for name, table in (("target", target), ("prediction", prediction)):
        if not np.isfinite(table).all():
            raise DistillError(f"{name}: row {int(np.flatnonzero(~np.isfinite(table).all(axis=1))[0])} of {len(table)} is not finite.")
    return _summarise(cosine_scores(target, prediction), target.shape[1])


def _summarise(cosines: np.ndarray, dimension: int) -> Agreement:
    if not len(cosines):
        raise DistillError("agreement: no rows to compare.")
    quantiles = np.percentile(cosines, QUANTILES)
    return Agreement(float(cosines.mean()), dict(zip(QUANTILES, quantiles.tolist(), strict=True)), len(cosines), dimension, cosines)


def evaluate_shards(model: Model, source: Any, progress: Progress | None = None) -> Agreement:
    """Returns the agreement of a model with the embeddings of a ShardSource in one pass; its part "held_out" gives a fair figure.

    `progress(done, of)` is called after each batch with counts of rows.
    """
    if "embedding" not in source.fields:
        raise DistillError(f"source {source.name} gives: {', '.join(source.fields)}. Agreement needs the teacher's embeddings.")
    if model.dimension != source.dimension:
        raise DistillError(
            f"the model answers with {model.dimension} numbers, the embeddings of {source.name} have {source.dimension}; cosines need the "
            "same. A student of another width is evaluated by pairs, and by the projected agreement in its training history."
        )
    cosines: list[np.ndarray] = []
    for pixels, fields in source.epoch(0):
        before = sum(map(len, cosines))
        rows = [f"row {before + row} of {source.name}" for row in range(len(pixels))]
        cosines.append(cosine_scores(fields["embedding"], finite(np.asarray(model(pixels), np.float32), rows)))
        if progress is not None:
            progress(before + len(pixels), source.rows)
    return _summarise(np.concatenate(cosines) if cosines else np.zeros(0), model.dimension)
