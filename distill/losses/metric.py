"""Embeddings against those of their own class and of others: centres of classes, and triplets. Pure functions in keras.ops, float32, finite gradients.

Centres are arguments, and how a batch moves them is a function of its own; gradients do not flow into them. A row without a label (-1) has the loss
0, moves no centre and is in no triplet.
"""

from typing import Any

from keras import ops

from distill.losses.embedding import unit

Tensor = Any


def cosine_distances(embedding: Tensor) -> Tensor:
    """Returns 1 - cosine similarity between all rows: [n, D] -> float32 [n, n], in [0, 2] up to rounding; 1 to a row of zeros."""
    directions = unit(embedding)
    return 1.0 - ops.matmul(directions, ops.transpose(directions))


def squared_distances(embedding: Tensor) -> Tensor:
    """Returns |a - b|^2 between all rows: [n, D] -> float32 [n, n], >= 0."""
    embedding = ops.cast(embedding, "float32")
    squares = ops.sum(ops.square(embedding), axis=-1)
    return ops.maximum(squares[:, None] + squares[None, :] - 2.0 * ops.matmul(embedding, ops.transpose(embedding)), 0.0)


DISTANCES = {"cosine": cosine_distances, "squared_euclidean": squared_distances}


def centre(label: Tensor, embedding: Tensor, centres: Tensor) -> Tensor:
    """Returns |x - c|^2 / 2 of each row x and the centre c of its class (Wen et al. 2016), before the batch moves the centres.

    Args:
        label: int [B], -1 where there is none.
        embedding: [B, D].
        centres: [C, D]; no gradient flows into them.
    Returns:
        float32 [B], >= 0.

    >>> centre([1], [[3., 4.]], [[9., 9.], [0., 0.]])
    [12.5]
    """
    return 0.5 * ops.sum(ops.square(_from_centre(label, embedding, centres)), axis=-1)


def moved_centres(label: Tensor, embedding: Tensor, centres: Tensor, alpha: float = 0.5) -> Tensor:
    """Returns the centres after a batch: c - alpha * sum of (c - x) over the n rows x of its class / (n + 1) (Wen et al. 2016). They begin at 0.

    Args:
        label: int [B], -1 where there is none.
        embedding: [B, D].
        centres: [C, D].
        alpha: above 0, at most 1.
    Returns:
        float32 [C, D], without a gradient.

    >>> moved_centres([1, 1], [[3.], [6.]], [[9.], [0.]])
    [[9.], [1.5]]
    """
    return _moved(label, embedding, centres, lambda same: alpha / (same + 1.0))


def centre_mean(label: Tensor, embedding: Tensor, centres: Tensor) -> Tensor:
    """Returns the mean over the dimensions of (x - c)^2 of each row x and the centre c of its class: 2/D times `centre`.

    Args:
        label: int [B], -1 where there is none.
        embedding: [B, D].
        centres: [C, D]; no gradient flows into them.
    Returns:
        float32 [B], >= 0.

    >>> centre_mean([1], [[3., 4.]], [[9., 9.], [0., 0.]])
    [12.5]
    """
    return ops.mean(ops.square(_from_centre(label, embedding, centres)), axis=-1)


def moved_centres_mean(label: Tensor, embedding: Tensor, centres: Tensor, alpha: float = 0.9) -> Tensor:
    """Returns the centres after a batch: c - (1 - alpha) * sum of (c - x) over the n rows x of its class.

    (1 - alpha) n counts as 1 at most, where c becomes the mean of x: unguarded a centre runs away that has more than 2 / (1 - alpha) rows in each batch.

    Args:
        label: int [B], -1 where there is none.
        embedding: [B, D].
        centres: [C, D].
        alpha: at least 0, below 1.
    Returns:
        float32 [C, D], without a gradient.

    >>> moved_centres_mean([1, 1], [[3.], [6.]], [[9.], [0.]])
    [[9.], [.9]]
    """
    return _moved(label, embedding, centres, lambda same: ops.minimum(1.0 - alpha, 1.0 / same))


def triplet_hard(label: Tensor, embedding: Tensor, margin: float = 0.35, distance: str = "cosine") -> Tensor:
    """Returns max(0, d(farthest row of the same class) - d(nearest row of another one) + margin) of each row (batch hard, Hermans et al. 2017).

    A row alone in its class is its own farthest, at the distance 0. Where there is no other class, 0.

    Args:
        label: int [B], -1 where there is none.
        embedding: [B, D].
        margin: >= 0.
        distance: "cosine", 1 - cosine similarity; or "squared_euclidean", of embeddings as they are.
    Returns:
        float32 [B], >= 0.
    Raises:
        ValueError: no such distance.

    >>> triplet_hard([0, 0, 1], [[1., 0.], [0., 1.], [0., 1.]])
    [.35, 1.35, .35]
    """
    apart, same, other = _pairs(label, embedding, distance)
    farthest = ops.max(ops.where(same, apart, 0.0), axis=-1)
    nearest = ops.min(ops.where(other, apart, ops.stop_gradient(ops.max(apart)) + 1.0), axis=-1)
    return ops.where(ops.any(other, axis=-1), ops.relu(farthest - nearest + margin), 0.0)


def triplet_all(label: Tensor, embedding: Tensor, margin: float = 0.35, distance: str = "cosine", rows: int = 256) -> Tensor:
    """Returns of each anchor its share in the mean of max(0, d(anchor, same class) - d(anchor, other class) + margin) over the triplets that are not 0 yet.

    That is n times the sum of its triplets divided by how many of all are above 0 (batch all, Hermans et al. 2017), so that the mean over the n
    anchors is the loss. 256 rows are 16.8 million triplets at most, 67 MB.

    Args:
        label: int [B], -1 where there is none.
        embedding: [B, D].
        margin: >= 0.
        distance: "cosine" or "squared_euclidean", as in `triplet_hard`.
        rows: at most so many, the first ones, are compared: n = min(B, rows).
    Returns:
        float32 [n], >= 0.
    Raises:
        ValueError: no such distance.

    >>> triplet_all([0, 0, 1], [[1., 0.], [0., 1.], [0., 1.]])  # of two triplets, of the first two anchors: .35 and 1.35
    [.525, 2.025, 0.]
    """
    apart, same, other = _pairs(label[:rows], embedding[:rows], distance)
    triplets = ops.relu(apart[:, :, None] - apart[:, None, :] + margin)
    triplets = ops.where(ops.logical_and(same[:, :, None], other[:, None, :]), triplets, 0.0)
    count = ops.sum(ops.cast(triplets > 0, "float32"))
    return ops.sum(triplets, axis=(-2, -1)) * (ops.cast(ops.shape(apart)[0], "float32") / ops.maximum(count, 1.0))


def _from_centre(label: Tensor, embedding: Tensor, centres: Tensor) -> Tensor:
    """Returns embedding - centre of its class, float32 [B, D]; 0 where there is no label."""
    label = ops.cast(label, "int32")
    centres = ops.stop_gradient(ops.cast(centres, "float32"))
    difference = ops.cast(embedding, "float32") - ops.take(centres, ops.maximum(label, 0), axis=0)
    return ops.where(label[:, None] >= 0, difference, 0.0)


def _moved(label: Tensor, embedding: Tensor, centres: Tensor, rate: Any) -> Tensor:
    """Returns centres + rate(n) * sum of (x - c) over the rows of a class, of which there are n; a pass over all centres, whatever the batch."""
    label, centres = ops.cast(label, "int32"), ops.cast(centres, "float32")
    same = ops.sum(ops.cast(label[:, None] == label[None, :], "float32"), axis=-1, keepdims=True)
    steps = rate(same) * _from_centre(label, embedding, centres)
    return ops.stop_gradient(centres + ops.segment_sum(steps, ops.maximum(label, 0), num_segments=centres.shape[0]))


def _pairs(label: Tensor, embedding: Tensor, distance: str) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the distances between all rows, float32 [n, n], which others are of the same class, and which of another one: bool [n, n] each."""
    if distance not in DISTANCES:
        raise ValueError(f'Expected a distance of {", ".join(DISTANCES)}. Received "{distance}".')
    label, embedding = ops.cast(label, "int32"), ops.cast(embedding, "float32")
    labelled = ops.logical_and(label[:, None] >= 0, label[None, :] >= 0)
    equal = label[:, None] == label[None, :]
    itself = ops.eye(ops.shape(embedding)[0], dtype="float32") > 0
    same = ops.logical_and(equal, ops.logical_not(itself))
    return DISTANCES[distance](embedding), ops.logical_and(labelled, same), ops.logical_and(labelled, ops.logical_not(equal))
