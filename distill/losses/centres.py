"""Class centres that follow the teacher: a pure function in keras.ops. Short: the heads that hold such centres are in distill/models/heads.py."""

from typing import Any

from keras import ops

from distill.losses.embedding import cosine

Tensor = Any


def adapted_centres(centres: Tensor, label: Tensor, student: Tensor, teacher: Tensor) -> Tensor:
    """Returns the centres after a batch: c_y <- a c_y + (1 - a) t, with a = clip(cos(s, t) max(cos(c_y, t), 0), 0, 1), row by row in their order.

    AdaDistill (Boutros et al., ECCV 2024): while the student is far from its teacher a centre follows each embedding of the teacher; later it hardly moves.
    Of a class that a batch has several rows of, each row finds the centre that the row before left. No gradient.

    Args:
        centres: float32 [C, D].
        label: int [B], in [-1, C); a row of -1 changes nothing.
        student, teacher: [B, D], s and t.
    Returns:
        float32 [C, D].

    >>> adapted_centres([[1., 0.]], [0, 0], [[0., 1.], [1., 0.]], [[1., 0.], [0., 1.]])
    [[0., 1.]]
    """
    centres, student, teacher = (ops.stop_gradient(ops.cast(each, "float32")) for each in (centres, student, teacher))
    label = ops.cast(label, "int32")
    rows = ops.arange(ops.shape(label)[0], dtype="int32")
    same = ops.equal(label[:, None], label[None, :])
    before = ops.sum(ops.cast(ops.logical_and(same, rows[None, :] < rows[:, None]), "int32"), axis=1)  # rows of the same class that come earlier
    first = ops.cast(ops.argmax(ops.cast(same, "int32"), axis=1), "int32")
    agreement = cosine(student, teacher)
    index = ops.maximum(label, 0)

    def follow(turn: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
        """One row of each class; found [B, D] has the centre of a class at the place of its first row."""
        now = ops.take(found, first, axis=0)
        kept = ops.clip(agreement * ops.maximum(cosine(now, teacher), 0.0), 0.0, 1.0)[:, None]
        moved = kept * now + (1.0 - kept) * teacher
        # rows whose turn it is not write to a place of nobody, behind the last one
        place = ops.where(ops.logical_and(before == turn, label >= 0), first, ops.shape(label)[0])
        behind = ops.concatenate([found, found[:1]], axis=0)
        return turn + 1, ops.scatter_update(behind, place[:, None], moved)[:-1]

    _, found = ops.while_loop(lambda turn, _: turn <= ops.max(before), follow, (0, ops.take(centres, index, axis=0)))
    # a row without a label writes what the first row with one does, so that no place is written twice with two values
    labelled = ops.cast(ops.argmax(ops.cast(label >= 0, "int32")), "int32")
    source = ops.where(label >= 0, first, labelled)
    return ops.scatter_update(centres, ops.take(index, source)[:, None], ops.take(found, source, axis=0))
