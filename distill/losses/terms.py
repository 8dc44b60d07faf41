"""What a student is asked for: pure functions in keras.ops, float32, one value a row, with gradients that are always finite.

Everything is computed in float32 whatever comes in: next to 1 bfloat16 steps by .0039, which is 5 degrees of angle, more than most margins.
Weights of heads stand in students.py; here a class head has already become cosines. TERMS says which field of a batch each term needs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from keras import ops

SHORTEST = 1e-12  # squared norm under which a vector has no direction
SMALLEST_SINE = 1e-12  # squared; keeps d sqrt(1 - c^2) / dc finite at c = +-1 and moves no value by more than 1e-6

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

    On unit vectors this is 2/D times the cosine distance: at D = 512 weight 1 pulls as hard as weight 1/256 there.

    >>> mse([[1., 0.]], [[0., 2.]])
    [2.5]
    """
    return ops.mean(ops.square(ops.cast(target, "float32") - ops.cast(prediction, "float32")), axis=-1)


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


@dataclass(frozen=True)
class TermKind:
    """needs: the field of a batch. function(field, prediction, **options) -> [B].

    slope(weight, options, dimension, norm): the largest change of the loss for a change of one cosine, the unit in which terms compare.
    """

    needs: str
    function: Callable[..., Tensor]
    slope: Callable[[float, dict[str, float], int, float], float]


TERMS = {
    # |t - p|^2 / D with |t| = |p| = norm is 2 norm^2 (1 - cos) / D
    "mse": TermKind("embedding", mse, lambda weight, options, dimension, norm: weight * 2 * norm**2 / dimension),
    "cosine": TermKind("embedding", cosine_distance, lambda weight, options, dimension, norm: weight),
    "softmax": TermKind("label", softmax, lambda weight, options, dimension, norm: weight * options["scale"]),
    "arcface": TermKind("label", arcface, lambda weight, options, dimension, norm: weight * options["scale"]),
}
