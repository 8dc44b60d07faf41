"""How much each term of a stage moves the embedding: the norm of its gradient there, as a share of all terms' norms; and weights that make shares equal.

The gradient is taken where all terms meet: at the embedding as it leaves the student, for one batch, of the mean of the term over the batch.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from distill.config.losses import Term
from distill.runtime.gradient import gradient
from distill.training.model import Training

LEAST = 0.01  # share under which a term hardly teaches


def gradient_norms(model: Training, images: np.ndarray, values: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Returns the norm of the gradient of each term, without its weight, at the embeddings of a batch. Changes nothing.

    Args:
        images: uint8 [B, H, W, 3].
        values: the fields of the batch.
    """
    embedding = ops.convert_to_numpy(model.student(images, training=False)).astype("float32")
    batch = {name: ops.convert_to_tensor(value) for name, value in values.items()}

    def mean_of(term: str, point: Any) -> Any:
        with keras.StatelessScope():  # what a term would remember of this batch is forgotten behind it
            predicted = {"student": point, "embedding": model.projection(point) if model.projection else point}
            return ops.mean(model.rows_of(batch, predicted, True, term)[term])

    def norm_of(term: str) -> float:
        return float(np.linalg.norm(gradient(partial(mean_of, term), embedding)))

    names = [each.term.name for each in model.objectives if {*each.term.fields} <= values.keys()]
    return {name: norm_of(name) for name in names}


def balanced_weights(terms: Sequence[Term], norms: Mapping[str, float]) -> dict[str, float]:
    """Returns the weight of each term that has weight = "auto".

    Its gradient becomes `share` times the mean of those of the terms that have a number; where none has one, the first term gets 1 and the others theirs
    in the proportion of their shares. A term without any gradient gets 1.

    Args:
        norms: of each term's gradient, without its weight.

    >>> balanced_weights([Cosine(weight=2.0), Mse(weight="auto")], {"cosine": 3.0, "mse": 0.5})
    {'mse': 12.0}
    """
    fixed = [float(term.weight) * norms[term.name] for term in terms if not isinstance(term.weight, str)]
    wanted = sum(fixed) / len(fixed) if fixed else norms[terms[0].name] / terms[0].share
    auto = [term for term in terms if isinstance(term.weight, str)]
    return {term.name: wanted * term.share / norms[term.name] if norms[term.name] > 0 and wanted > 0 else 1.0 for term in auto}


def shares_of(weights: Mapping[str, float], norms: Mapping[str, float]) -> dict[str, float]:
    """Returns the share of each term in the sum of the weighted norms; 0 of all where nothing has a gradient.

    >>> shares_of({"cosine": 2.0, "mse": 1.0}, {"cosine": 3.0, "mse": 2.0})
    {'cosine': 0.75, 'mse': 0.25}
    """
    pulls = {name: weights[name] * norm for name, norm in norms.items()}
    total = sum(pulls.values())
    return {name: pull / total if total else 0.0 for name, pull in pulls.items()}


def weak_terms(weights: Mapping[str, float], shares: Mapping[str, float], balanced: Collection[str] = ()) -> dict[str, str]:
    """Returns a warning, by its name, for each term with less than 1 % of the gradient, with the weight that would make its share that of each term if all were equal.

    Args:
        balanced: the terms that have weight = "auto".
    """
    lines = dict[str, str]()
    if not any(shares.values()):
        unset = f"; the weight of {', '.join(balanced)} stays 1" if balanced else ""
        return {"": f"warning: no term has a gradient at the embeddings of the first batch, so nothing is learned from it{unset}. Are all embeddings zero?"}
    for name, share in shares.items():
        if 0 < share < LEAST:
            suggested = weights[name] * (1 - share) / share / (len(shares) - 1)
            auto = "" if name in balanced else '; weight = "auto" does so at the start of the stage'
            lines[name] = (
                f'warning: term "{name}" has {100 * share:.2g} % of the gradient at the embedding, so it hardly teaches. '
                f"weight = {suggested:.2g} would give it an equal share now (it has {weights[name]:.4g}){auto}."
            )
        elif share == 0:
            lines[name] = f'warning: term "{name}" has no gradient at the embedding of the first batch.'
    return lines
