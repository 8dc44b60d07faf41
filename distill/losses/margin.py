"""Labels against the cosines to all classes: pure functions in keras.ops, one value a row, with gradients that are always finite.

A class head has already become cosines; its weights stand in distill/models. Everything is computed in float32 whatever comes in: next to 1
bfloat16 steps by .0039, which is 5 degrees of angle, more than most margins.
"""

from typing import Any

from keras import ops

SMALLEST_SINE = 1e-12  # squared; keeps d sqrt(1 - c^2) / dc finite at c = +-1 and moves no value by more than 1e-6

Tensor = Any


def margin_cosine(cosines: Tensor, angle_add: float, angle_mult: float = 1.0, cos_sub: float = 0.0) -> Tensor:
    """The target cosine after the margins: cos(angle_mult * t + angle_add) - cos_sub with t = acos(cosines), elementwise.

    ArcFace (Deng et al. 2019) is angle_add, SphereFace's factor angle_mult, CosFace (Wang et al. 2018) cos_sub. Where the widened angle
    passes pi the cosine would rise again and reward the worst rows; there it is mirrored at -1: -2 - cos(...) - cos_sub, which goes on
    falling and has no jump. t is atan2(sqrt(1 - c^2), c): unlike acos it is exact at +-1 and its gradient is finite there.

    >>> margin_cosine([.5, -.95, -.999, 1.], .5)
    [.023597, -1.016596, -1.101860, .877583]
    """
    cosines = ops.cast(cosines, "float32")
    sines = ops.sqrt(ops.maximum(1.0 - ops.square(cosines), SMALLEST_SINE))
    angle = angle_mult * ops.arctan2(sines, cosines) + angle_add
    widened = ops.cos(angle)
    return ops.where(angle <= 3.141592653589793, widened, -2.0 - widened) - cos_sub


def softmax(label: Tensor, cosines: Tensor, scale: float = 64.0) -> Tensor:
    """-log softmax(scale * cosines)[label] for each row: int [B], [B, C] -> [B], >= 0 (NormFace, Wang et al. 2017).

    A row without a label (-1) gives 0.

    >>> softmax([0], [[1., 1.]], scale=64.)
    [.693147]
    """
    cosines = ops.cast(cosines, "float32")
    return _cross_entropy(label, scale * _own(label, cosines), scale * cosines)


def arcface(label: Tensor, cosines: Tensor, scale: float = 64.0, angle_add: float = 0.5, angle_mult: float = 1.0, cos_sub: float = 0.0) -> Tensor:
    """softmax() with the label's own cosine replaced by margin_cosine() of it: int [B], [B, C] -> [B], >= 0 (Deng et al. 2019).

    >>> arcface([0], [[.5, .1, -.2, .3]])
    [17.689821]
    """
    cosines = ops.cast(cosines, "float32")
    target = margin_cosine(_own(label, cosines), angle_add, angle_mult, cos_sub)
    is_own = ops.cast(label, "int32")[:, None] == ops.arange(cosines.shape[-1], dtype="int32")
    return _cross_entropy(label, scale * target, scale * ops.where(is_own, target[:, None], cosines))


def hits(label: Tensor, cosines: Tensor) -> Tensor:
    """1. where the nearest class is the label, else 0.: int [B], [B, C] -> float32 [B]."""
    return ops.cast(ops.cast(ops.argmax(cosines, axis=-1), "int32") == ops.cast(label, "int32"), "float32")


def _own(label: Tensor, cosines: Tensor) -> Tensor:
    """The cosine to a row's own class, [B]; that to class 0 where there is no label."""
    return ops.take_along_axis(cosines, ops.maximum(ops.cast(label, "int32"), 0)[:, None], axis=-1)[:, 0]


def _cross_entropy(label: Tensor, own: Tensor, logits: Tensor) -> Tensor:
    return ops.where(ops.cast(label, "int32") >= 0, ops.logsumexp(logits, axis=-1) - own, 0.0)
