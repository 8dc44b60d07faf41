"""Embeddings against embeddings: pure functions in keras.ops, one value a row, with gradients that are always finite.

Everything is computed in float32 whatever comes in, as in margin.py: next to 1 bfloat16 steps by .0039, which is 5 degrees of angle.
"""

from typing import Any

from keras import ops

SHORTEST = 1e-12  # squared norm under which a vector has no direction

Tensor = Any


def unit(vectors: Tensor) -> Tensor:
    """Each row divided by its length: [..., D] -> float32 [..., D]. A row of zeros stays zeros and has the gradient zero.

    >>> unit([[3., 4.]])
    [[.6, .8]]
    """
    vectors = ops.cast(vectors, "float32")
    squared = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return ops.where(squared > SHORTEST, vectors * ops.rsqrt(ops.maximum(squared, SHORTEST)), 0.0)


def cosine(target: Tensor, prediction: Tensor) -> Tensor:
    """cos(target, prediction) for each row: [B, D], [B, D] -> [B], in [-1, 1]; 0 where one of them is all zeros."""
    return ops.sum(unit(target) * unit(prediction), axis=-1)


def cosine_distance(target: Tensor, prediction: Tensor) -> Tensor:
    """1 - cos(target, prediction) for each row: [B, D], [B, D] -> [B], in [0, 2].

    Hinton et al. 2015 match logits; an embedding is compared by its direction, so the norm is left free.

    >>> cosine_distance([[1., 0.]], [[0., 2.]])
    [1.]
    """
    return 1.0 - cosine(target, prediction)


def mse(target: Tensor, prediction: Tensor) -> Tensor:
    """Mean over D of (target - prediction)^2 for each row: [B, D], [B, D] -> [B].

    On unit vectors this is 2/D times the cosine distance: at D = 512 weight 1 has the gradient scale of weight 1/256 there.

    >>> mse([[1., 0.]], [[0., 2.]])
    [2.5]
    """
    return ops.mean(ops.square(ops.cast(target, "float32") - ops.cast(prediction, "float32")), axis=-1)


def mean_absolute(target: Tensor, prediction: Tensor) -> Tensor:
    """Mean over D of |target - prediction| for each row (MAE): [B, D], [B, D] -> [B].

    >>> mean_absolute([[1., 0.]], [[0., 2.]])
    [1.5]
    """
    return ops.mean(ops.abs(ops.cast(target, "float32") - ops.cast(prediction, "float32")), axis=-1)
