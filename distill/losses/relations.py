"""Relations of embeddings within a batch against the teacher's (relational distillation): what is compared has no dimension, so teacher and student
may have different ones. Pure functions in keras.ops, float32, with gradients that are always finite.

They look at the first rows of a batch alone, because pairs take rows^2 and triples rows^3 numbers.
"""

from typing import Any

from keras import ops

from distill.losses.embedding import SHORTEST, unit
from distill.losses.metric import squared_distances

Tensor = Any


def rkd_distance(target: Tensor, prediction: Tensor, rows: int = 256) -> Tensor:
    """Returns smooth-L1 between the distances of all pairs, in units of their mean, as the teacher has them and as the student has them (Park et al. 2019).

    The mean over what is returned is the mean over all n^2 pairs, those of a row with itself included, as in the paper's code. Neither side is normalised.

    Args:
        target: [B, D] of the teacher.
        prediction: [B, E] of the student.
        rows: at most so many, the first ones, are compared: n = min(B, rows).
    Returns:
        float32 [n], >= 0; 0 of one row alone.

    >>> rkd_distance([[0.], [1.], [2.]], [[0.], [3.], [3.]])  # the distances 1, 2, 1 are .75, 1.5, .75, and 3, 3, 0 are 1.5, 1.5, 0
    [.09375, .1875, .09375]
    """
    wanted, found = (_relative_distances(ops.cast(each[:rows], "float32")) for each in (target, prediction))
    return ops.mean(_smooth_l1(found - wanted), axis=-1)


def rkd_angle(target: Tensor, prediction: Tensor, rows: int = 128) -> Tensor:
    """Returns smooth-L1 between the cosines of the angles at each row to all pairs of rows, teacher and student (Park et al. 2019).

    The mean over what is returned is the mean over all n^3 triples. 128 rows of 512 numbers take 34 MB a side for the differences and 8 MB for the cosines.

    Args:
        target: [B, D] of the teacher.
        prediction: [B, E] of the student.
        rows: at most so many, the first ones, are compared: n = min(B, rows).
    Returns:
        float32 [n], in [0, 1.5].

    >>> rkd_angle([[0., 0.], [1., 0.], [0., 1.]], [[0.], [1.], [2.]])  # the teacher's angles are 90, 45, 45 degrees, the student's 0, 180, 0
    [.111111, .268246, .009532]
    """
    wanted, found = (_cosines_at(ops.cast(each[:rows], "float32")) for each in (target, prediction))
    return ops.mean(_smooth_l1(found - wanted), axis=(-2, -1))


def _relative_distances(vectors: Tensor) -> Tensor:
    """Returns the distances between all rows divided by the mean of those between different rows: float32 [n, D] -> [n, n]."""
    others = 1.0 - ops.eye(ops.shape(vectors)[0], dtype="float32")
    distances = ops.sqrt(ops.maximum(squared_distances(vectors), SHORTEST)) * others
    return distances * (ops.maximum(ops.sum(others), 1.0) / ops.maximum(ops.sum(distances), SHORTEST))


def _cosines_at(vectors: Tensor) -> Tensor:
    """Returns the cosine of the angle at row i between rows j and k, 0 where two of them are in one place: float32 [n, D] -> [n, n, n]."""
    apart = unit(vectors[None, :, :] - vectors[:, None, :])
    return ops.matmul(apart, ops.swapaxes(apart, -1, -2))


def _smooth_l1(difference: Tensor) -> Tensor:
    size = ops.abs(difference)
    return ops.where(size < 1.0, 0.5 * ops.square(size), size - 0.5)
