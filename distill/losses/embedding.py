"""Embeddings against embeddings: pure functions in keras.ops, one value a row, with gradients that are always finite.

Everything is computed in float32 whatever comes in, as in margin.py: next to 1 bfloat16 steps by .0039, which is 5 degrees of angle.
"""

from typing import Any

from keras import ops

SHORTEST = 1e-12  # squared norm under which a vector has no direction
NOT_THERE = -1e9  # logit of what a softmax is to leave out; not -inf, whose differences are no numbers

Tensor = Any


def unit(vectors: Tensor) -> Tensor:
    """Each row divided by its length: [..., D] -> float32 [..., D]. A row of zeros stays zeros and has the gradient zero.

    >>> unit([[3., 4.]])
    [[.6, .8]]
    """
    vectors = ops.cast(vectors, "float32")
    squared = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return ops.where(squared > SHORTEST, vectors * ops.rsqrt(ops.maximum(squared, SHORTEST)), 0.0)


def length(vectors: Tensor) -> Tensor:
    """Returns the Euclidean length of each row; that of a row of zeros is 0 and has the gradient zero.

    Args:
        vectors: [..., D].
    Returns:
        float32 [...].

    >>> length([[3., 4.]])
    [5.]
    """
    squared = ops.sum(ops.square(ops.cast(vectors, "float32")), axis=-1)
    return ops.where(squared > SHORTEST, ops.sqrt(ops.maximum(squared, SHORTEST)), 0.0)


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


def sum_of_squares(target: Tensor, prediction: Tensor) -> Tensor:
    """Returns the sum over D of (target - prediction)^2 of each row, which is D times `mse`, and twice the cosine distance of unit vectors.

    Args:
        target, prediction: [B, D].
    Returns:
        float32 [B], >= 0.

    >>> sum_of_squares([[1., 0.]], [[0., 2.]])
    [5.]
    """
    return ops.sum(ops.square(ops.cast(target, "float32") - ops.cast(prediction, "float32")), axis=-1)


def mean_absolute(target: Tensor, prediction: Tensor) -> Tensor:
    """Returns the mean over D of |target - prediction| of each row.

    Args:
        target, prediction: [B, D].
    Returns:
        float32 [B], >= 0.

    >>> mean_absolute([[1., 0.]], [[0., 2.]])
    [1.5]
    """
    return ops.mean(ops.abs(ops.cast(target, "float32") - ops.cast(prediction, "float32")), axis=-1)


def kl(target: Tensor, prediction: Tensor, temperature: float = 4.0) -> Tensor:
    """Returns T^2 KL(softmax(target / T) || softmax(prediction / T)) of each row, T the temperature (Hinton et al. 2015).

    The factor T^2 keeps the size of the gradient about the same whatever T is.

    Args:
        target, prediction: logits of classes, [B, C].
        temperature: above 0; the larger, the more the small logits count.
    Returns:
        float32 [B], >= 0 up to rounding; 0 where the logits differ by a constant only.

    >>> kl([[log 3, 0.]], [[0., 0.]], temperature=1.)
    [.130812]
    """
    wanted, found = (ops.log_softmax(ops.cast(each, "float32") / temperature, axis=-1) for each in (target, prediction))
    return temperature**2 * ops.sum(ops.exp(wanted) * (wanted - found), axis=-1)


def queue_similarity(target: Tensor, prediction: Tensor, queue: Tensor, filled: Tensor, temperature: float = 0.07) -> Tensor:
    """Returns KL(softmax(t.Q / T) || softmax(s.Q / T)) of each row: how like the queue's embeddings it is, to teacher and student (SEED, Fang et al. 2021).

    Args:
        target, prediction: embeddings [B, D], of which the directions t and s count.
        queue: Q, unit embeddings of the teacher, [N, D].
        filled: bool [N], which of them there are.
        temperature: T, above 0.
    Returns:
        float32 [B], >= 0 up to rounding; 0 where fewer than two of the queue are filled.

    >>> queue_similarity([[1., 0.]], [[0., 1.]], [[1., 0.], [0., 1.]], [True, True], temperature=1.)
    [.462117]
    """
    queue = ops.transpose(ops.cast(queue, "float32"))
    wanted, found = (ops.log_softmax(ops.where(filled, ops.matmul(unit(each), queue) / temperature, NOT_THERE), axis=-1) for each in (target, prediction))
    return ops.sum(ops.where(filled, ops.exp(wanted) * (wanted - found), 0.0), axis=-1)
