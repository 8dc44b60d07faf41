"""Labels against the cosines to all classes: pure functions in keras.ops, one value a row, with gradients that are always finite.

A class head has already become cosines; its weights stand in distill/models. Everything is computed in float32 whatever comes in: next to 1
bfloat16 steps by .0039, which is 5 degrees of angle, more than most margins. A row without a label (-1) has the loss 0 everywhere. Margins that
are no constants stand in adaptive.py.
"""

import math
from typing import Any

from keras import ops

SMALLEST_SINE = 1e-12  # squared; keeps d sqrt(1 - c^2) / dc finite at c = +-1 and moves no value by more than 1e-6
GUARDS = ("mirror", "classic", "none", "clip")
GRADIENTS = ("exact", "straight_through")

Tensor = Any


def margin_cosine(cosines: Tensor, angle_add: float, angle_mult: float = 1.0, cos_sub: float = 0.0, guard: str = "mirror", gradient: str = "exact") -> Tensor:
    """Returns the target cosine after the margins: cos(angle_mult * t + angle_add) - cos_sub with t = acos(cosines), elementwise.

    ArcFace (Deng et al. 2019) is angle_add, CosFace (Wang et al. 2018) cos_sub; angle_mult is SphereFace's factor up to 2 (`sphereface` takes any).
    Where the widened angle passes pi the cosine would rise again and reward the worst rows, which is what a guard is for. There it is, before cos_sub:

    - mirror: -2 - cos(widened), which goes on falling and has no jump;
    - classic: cosine - angle_add * sin(pi - angle_add), which goes on falling after a jump of 1 - cos(angle_add) (ArcFace's own; for angle_mult 1);
    - clip: -1, so that the gradient is zero;
    - none: cos(widened), as in arcface_torch.

    t is atan2(sqrt(1 - c^2), c): unlike acos it is exact at +-1 and its gradient is finite there.

    Args:
        cosines: of any shape, in [-1, 1].
        angle_add: radians, >= 0.
        angle_mult: >= 1, with angle_mult * pi + angle_add <= 2 pi.
        cos_sub: >= 0.
        guard: "mirror", "classic", "none" or "clip".
        gradient: "exact", or "straight_through": 1 everywhere, as where acos and cos are computed without gradients (arcface_torch).
    Returns:
        float32, in the shape of cosines.
    Raises:
        ValueError: no such guard or gradient.

    >>> margin_cosine([.5, -.95, -.999, 1.], .5)
    [.023597, -1.016596, -1.101860, .877583]
    """
    if guard not in GUARDS or gradient not in GRADIENTS:
        raise ValueError(f"Expected a guard of {', '.join(GUARDS)} and a gradient of {', '.join(GRADIENTS)}. Received {guard!r} and {gradient!r}.")
    cosines = ops.cast(cosines, "float32")
    angle = angle_mult * angles(cosines) + angle_add
    widened = ops.cos(angle)
    target = ops.where(angle <= 3.141592653589793, widened, _beyond_pi(guard, cosines, widened, angle_add)) - cos_sub
    return target if gradient == "exact" else cosines + ops.stop_gradient(target - cosines)


def softmax(label: Tensor, cosines: Tensor, scale: float = 64.0, label_smoothing: float = 0.0) -> Tensor:
    """-log softmax(scale * cosines)[label] for each row: int [B], [B, C] -> [B], >= 0 (NormFace, Wang et al. 2017).

    label_smoothing: the share of the wanted probability that all classes have alike (Szegedy et al. 2016), in [0, 1).

    >>> softmax([0], [[1., 1.]], scale=64.)
    [.693147]
    """
    cosines = ops.cast(cosines, "float32")
    return cross_entropy(label, scale * own(label, cosines), scale * cosines, label_smoothing)


def linear_softmax(label: Tensor, logits: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Returns -log softmax(logits)[label] of each row: of a class head whose weights have any length and that may have a bias.

    Args:
        label: int [B], -1 where there is none.
        logits: [B, C].
        label_smoothing: as in `softmax`.
    Returns:
        float32 [B], >= 0.

    >>> linear_softmax([0], [[log 3, 0.]])
    [.287682]
    """
    logits = ops.cast(logits, "float32")
    return cross_entropy(label, own(label, logits), logits, label_smoothing)


def arcface(
    label: Tensor,
    cosines: Tensor,
    scale: float = 64.0,
    angle_add: float = 0.5,
    angle_mult: float = 1.0,
    cos_sub: float = 0.0,
    guard: str = "mirror",
    gradient: str = "exact",
) -> Tensor:
    """softmax() with the label's own cosine replaced by margin_cosine() of it: int [B], [B, C] -> [B], >= 0 (Deng et al. 2019).

    >>> arcface([0], [[.5, .1, -.2, .3]])
    [17.689821]
    """
    cosines = ops.cast(cosines, "float32")
    target = margin_cosine(own(label, cosines), angle_add, angle_mult, cos_sub, guard, gradient)
    return cross_entropy(label, scale * target, scale * with_own(label, cosines, target))


def cosface(label: Tensor, cosines: Tensor, scale: float = 64.0, cos_sub: float = 0.35) -> Tensor:
    """Returns softmax() with cos_sub taken from the label's own cosine (Wang et al. 2018).

    Args:
        label: int [B], -1 where there is none.
        cosines: [B, C].
        scale: above 0.
        cos_sub: >= 0; .35 in the paper, .4 in arcface_torch.
    Returns:
        float32 [B], >= 0.

    >>> cosface([0], [[.5, .5]], scale=1., cos_sub=.5)
    [.974077]
    """
    cosines = ops.cast(cosines, "float32")
    target = own(label, cosines) - cos_sub
    return cross_entropy(label, scale * target, scale * with_own(label, cosines, target))


def sphereface(label: Tensor, cosines: Tensor, scale: float = 30.0, angle_mult: float = 1.7, norms: Tensor | None = None) -> Tensor:
    """Returns softmax() with the label's own cosine replaced by (-1)^k cos(m t) - 2k, k = floor(m t / pi), which falls from 1 to 1 - 2m (Liu et al. 2017).

    Args:
        label: int [B], -1 where there is none.
        cosines: [B, C], of the angles t.
        scale: above 0, where norms are not given.
        angle_mult: m, >= 1; 4 in the paper, with free norms.
        norms: [B], of the embeddings (`length`), in the place of the scale, so that they are learned too: the paper's form.
    Returns:
        float32 [B], >= 0.

    >>> sphereface([0], [[-1., 0.]], scale=1., angle_mult=4.)  # log(1 + e^7): its target is -7
    [7.000911]
    """
    cosines = ops.cast(cosines, "float32")
    angle = angle_mult * angles(own(label, cosines))
    turns = ops.stop_gradient(ops.floor(angle / math.pi))
    target = (1.0 - 2.0 * ops.mod(turns, 2.0)) * ops.cos(angle) - 2.0 * turns
    if norms is None:
        return cross_entropy(label, scale * target, scale * with_own(label, cosines, target))
    norms = ops.cast(norms, "float32")
    return cross_entropy(label, norms * target, norms[:, None] * with_own(label, cosines, target))


def best_sub_centre(cosines: Tensor) -> Tensor:
    """Returns the cosine to the nearest of the K centres that each class has (Deng et al. 2020), before any margin.

    Args:
        cosines: [B, C, K].
    Returns:
        float32 [B, C].

    >>> best_sub_centre([[[.1, .7], [.3, -.2]]])
    [[.7, .3]]
    """
    return ops.max(ops.cast(cosines, "float32"), axis=-1)


def hits(label: Tensor, cosines: Tensor) -> Tensor:
    """1. where the nearest class is the label, else 0.: int [B], [B, C] -> float32 [B]."""
    return ops.cast(ops.cast(ops.argmax(cosines, axis=-1), "int32") == ops.cast(label, "int32"), "float32")


# -------------------------------------------------------------------------------------------------------- what several margins are made of


def angles(cosines: Tensor) -> Tensor:
    """Returns acos(cosines) for float32 of any shape, with gradients that are finite at +-1; values beyond these are taken for them."""
    sines = ops.sqrt(ops.maximum(1.0 - ops.square(cosines), SMALLEST_SINE))
    return ops.arctan2(sines, cosines)


def own(label: Tensor, cosines: Tensor) -> Tensor:
    """Returns the cosine to a row's own class, [B]; that to class 0 where there is no label."""
    return ops.take_along_axis(cosines, ops.maximum(ops.cast(label, "int32"), 0)[:, None], axis=-1)[:, 0]


def with_own(label: Tensor, cosines: Tensor, target: Tensor) -> Tensor:
    """Returns cosines [B, C] with target [B] in the place of those to the rows' own classes."""
    return ops.where(is_own(label, cosines), target[:, None], cosines)


def is_own(label: Tensor, cosines: Tensor) -> Tensor:
    """Returns bool [B, C]: True at the label of each row."""
    return ops.cast(label, "int32")[:, None] == ops.arange(cosines.shape[-1], dtype="int32")


def cross_entropy(label: Tensor, own: Tensor, logits: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Returns -log softmax(logits)[label] of each row, given the logit of its own class, [B]; 0 where there is no label."""
    wanted = (1.0 - label_smoothing) * own + label_smoothing * ops.mean(logits, axis=-1) if label_smoothing else own
    return ops.where(ops.cast(label, "int32") >= 0, ops.logsumexp(logits, axis=-1) - wanted, 0.0)


def _beyond_pi(guard: str, cosines: Tensor, widened: Tensor, angle_add: float) -> Tensor:
    if guard == "mirror":
        return -2.0 - widened
    if guard == "classic":
        return cosines - angle_add * math.sin(angle_add)
    return -1.0 if guard == "clip" else widened
