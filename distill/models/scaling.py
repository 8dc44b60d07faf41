"""How a network wants the pixels: 0..255 RGB scaled by the first layer of a student, so that students take raw pixels. Short, because there is no more to it."""

from typing import Any

import keras
from keras import layers

from distill.models.norms import layers_of

Tensor = Any


def scaled(images: Tensor, kind: str) -> Tensor:
    """Returns 0..255 RGB as a network wants it, always in float32: half precision is for later layers.

    Args:
        images: float32 [B, H, W, 3].
        kind: "signed" (-1..1), "standard" (ImageNet's means and deviations), "centred_bgr" (means only, blue first), or "own": the network scales.
    Returns:
        float32 [B, H, W, 3].
    """
    if kind == "signed":
        return layers.Rescaling(1 / 127.5, offset=-1.0, name="scale", dtype="float32")(images)
    if kind == "standard":
        mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
        variance = [(255 * value) ** 2 for value in deviation]
        return layers.Normalization(mean=[255 * value for value in mean], variance=variance, name="scale", dtype="float32")(images)
    if kind == "centred_bgr":
        blue_first = keras.ops.flip(images, axis=-1)
        return layers.Normalization(mean=[103.939, 116.779, 123.68], variance=[1.0] * 3, name="scale", dtype="float32")(blue_first)
    return images


def settle_scales(model: keras.Model) -> None:
    """Must be called after weights were assigned: a Normalization computes with a copy that was made when it was built or loaded."""
    for layer in layers_of(model, layers.Normalization):
        layer.finalize_state()
