"""Margins that follow the training or the row: pure functions as in margin.py, and the next values of the statistics that they follow.

The statistics are arguments, and what comes after a batch is a function of its own; who keeps them decides when they move. No gradient flows into them.
"""

from typing import Any

from keras import ops

from distill.losses.margin import angles, cross_entropy, margin_cosine, own, with_own

NEAREST = 1e-3  # AdaFace keeps cosines and angles this far from their ends
SHORTEST_NORM, LONGEST_NORM = 1e-3, 100.0  # between which AdaFace looks at norms

Tensor = Any


def curricularface(label: Tensor, cosines: Tensor, threshold: Tensor, scale: float = 64.0, angle_add: float = 0.5) -> Tensor:
    """Returns ArcFace with the cosines c of hard classes weighed: c (T + c) where c is above the row's own cosine after the margin (Huang et al. 2020).

    Early in a training T is near 0 and hard classes weigh less than they are; later it is the mean of the own cosines and they weigh more.
    Beyond pi - angle_add the margin is mirrored as in `margin_cosine`, and that is what c is compared with.

    Args:
        label: int [B], -1 where there is none.
        cosines: [B, C].
        threshold: T, a number, as `next_threshold` gives it for this batch; no gradient flows into it.
        scale: above 0.
        angle_add: radians, >= 0.
    Returns:
        float32 [B], >= 0.

    >>> curricularface([0], [[1., .5]], threshold=.5, scale=1., angle_add=2.)  # log(1 + e^(.5 - cos 2))
    [1.252660]
    """
    cosines = ops.cast(cosines, "float32")
    threshold = ops.stop_gradient(ops.cast(threshold, "float32"))
    target = margin_cosine(own(label, cosines), angle_add)
    others = ops.where(cosines > target[:, None], cosines * (threshold + cosines), cosines)
    return cross_entropy(label, scale * target, scale * with_own(label, others, target))


def next_threshold(label: Tensor, cosines: Tensor, threshold: Tensor, rate: float = 0.01) -> Tensor:
    """Returns T of `curricularface` after a batch, before it is used there: rate * mean of the own cosines + (1 - rate) * T. It begins at 0.

    Args:
        label: int [B]; rows without one (-1) do not count, and where no row has one, T stays.
        cosines: [B, C].
        threshold: T, a number.
        rate: above 0, at most 1.
    Returns:
        float32 [], without a gradient.

    >>> next_threshold([0], [[.5, .1]], 0.)
    .005
    """
    mean, count = _mean(label, own(label, ops.cast(cosines, "float32")))
    threshold = ops.cast(threshold, "float32")
    return ops.stop_gradient(ops.where(count > 0, rate * mean + (1.0 - rate) * threshold, threshold))


def adaface(
    label: Tensor, cosines: Tensor, norms: Tensor, mean: Tensor, deviation: Tensor, scale: float = 64.0, margin: float = 0.4, concentration: float = 0.333
) -> Tensor:
    """Returns softmax() with the own cosine cos t replaced by cos(t - m u) - (m + m u), u in [-1, 1] how long the embedding is (Kim et al. 2022).

    u = concentration * (norm - mean) / (deviation + .001), clipped. A long embedding stands for a good image: hard ones of these weigh most, and of bad
    images the easy ones. The norm only measures, so no gradient flows into it. Cosines are clipped to +-(1 - .001), and t - m u to [.001, pi - .001].

    Args:
        label: int [B], -1 where there is none.
        cosines: [B, C].
        norms: [B], of the embeddings.
        mean, deviation: of the norms, numbers, as `next_norms` gives them for this batch.
        scale: above 0.
        margin: m, >= 0.
        concentration: above 0, h in the paper: u reaches 1 at 1/h deviations from the mean.
    Returns:
        float32 [B], >= 0.

    >>> adaface([0], [[0., 0.]], [20.], mean=20., deviation=1., scale=1.)  # u = 0: log(1 + e^.4)
    [0.913015]
    """
    cosines = ops.clip(ops.cast(cosines, "float32"), NEAREST - 1.0, 1.0 - NEAREST)
    norms, mean, deviation = (ops.stop_gradient(ops.cast(each, "float32")) for each in (norms, mean, deviation))
    quality = ops.clip(concentration * (_looked_at(norms) - mean) / (deviation + NEAREST), -1.0, 1.0)
    angle = ops.clip(angles(own(label, cosines)) - margin * quality, NEAREST, 3.141592653589793 - NEAREST)
    target = ops.cos(angle) - (margin + margin * quality)
    return cross_entropy(label, scale * target, scale * with_own(label, cosines, target))


def next_norms(label: Tensor, norms: Tensor, mean: Tensor, deviation: Tensor, rate: float = 0.01) -> tuple[Tensor, Tensor]:
    """Returns mean and deviation of norms for `adaface` after a batch, before they are used there: rate * those of the batch + (1 - rate) * those before.

    They begin at 20 and 100. The deviation is that of a sample (divided by n - 1).

    Args:
        label: int [B]; rows without one (-1) do not count. Where no row has one both stay, where one row has the deviation stays.
        norms: [B], of the embeddings.
        mean, deviation: numbers.
        rate: above 0, at most 1.
    Returns:
        float32 [] each, without gradients.

    >>> next_norms([0, 0], [9., 11.], 20., 100.)  # the deviation of 9 and 11 is sqrt 2
    (19.9, 99.014142)
    """
    norms, mean, deviation = (ops.stop_gradient(ops.cast(each, "float32")) for each in (norms, mean, deviation))
    middle, count = _mean(label, _looked_at(norms))
    squares, _ = _mean(label, ops.square(_looked_at(norms) - middle))
    spread = ops.sqrt(squares * count / ops.maximum(count - 1.0, 1.0))
    return (ops.where(count > 0, rate * middle + (1.0 - rate) * mean, mean), ops.where(count > 1, rate * spread + (1.0 - rate) * deviation, deviation))


def magface(
    label: Tensor,
    cosines: Tensor,
    norms: Tensor,
    scale: float = 64.0,
    lower_norm: float = 10.0,
    upper_norm: float = 110.0,
    lower_margin: float = 0.45,
    upper_margin: float = 0.8,
    norm_weight: float = 20.0,
    form: str = "easy",
) -> Tensor:
    """Returns ArcFace with a margin that grows with the norm a of the embedding, plus norm_weight * (a / upper_norm^2 + 1 / a) (Meng et al. 2021).

    The margin goes in a line from lower_margin at lower_norm to upper_margin at upper_norm; norms are clipped to these. Gradients flow into the norms:
    the margin shortens embeddings that are hard, the second summand lengthens all.

    Args:
        label: int [B], -1 where there is none.
        cosines: [B, C], of the angles t.
        norms: [B], of the embeddings.
        scale: above 0.
        lower_norm, upper_norm: above 0, the second above the first.
        lower_margin, upper_margin: radians, >= 0, the second not below the first.
        norm_weight: >= 0.
        form: what the own cosine becomes: "easy" is cos(t + margin) where cos t > 0, else cos t (the paper's code); "min" is the smaller one of the two.
    Returns:
        float32 [B], >= 0.
    Raises:
        ValueError: no such form.

    >>> magface([0], [[0., 0.]], [10.], scale=1.)  # log 2 + 20 (10 / 12100 + 1 / 10)
    [2.709676]
    """
    if form not in ("easy", "min"):
        raise ValueError(f'Expected a form of easy, min. Received "{form}".')
    cosines = ops.cast(cosines, "float32")
    norms = ops.clip(ops.cast(norms, "float32"), lower_norm, upper_norm)
    margin = lower_margin + (upper_margin - lower_margin) / (upper_norm - lower_norm) * (norms - lower_norm)
    before = own(label, cosines)
    widened = ops.cos(angles(before) + margin)
    target = ops.where(before > 0, widened, before) if form == "easy" else ops.minimum(widened, before)
    loss = cross_entropy(label, scale * target, scale * with_own(label, cosines, target))
    return ops.where(ops.cast(label, "int32") >= 0, loss + norm_weight * (norms / upper_norm**2 + 1.0 / norms), 0.0)


def _looked_at(norms: Tensor) -> Tensor:
    return ops.clip(norms, SHORTEST_NORM, LONGEST_NORM)


def _mean(label: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the mean of the values of rows that have a label (0 without any), and how many these are: float32 [] each."""
    labelled = ops.cast(ops.cast(label, "int32") >= 0, "float32")
    count = ops.sum(labelled)
    return ops.sum(labelled * values) / ops.maximum(count, 1.0), count
