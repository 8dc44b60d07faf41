"""Layers inside a student by their kind, and batch norm's averages anew."""

from collections.abc import Iterable
from typing import Any

import keras
from keras import layers


def layers_of(model: Any, kind: type) -> list[Any]:
    """Returns all layers of a kind in a model and in the models inside it."""
    inside = [each for layer in model.layers for each in ([layer] if isinstance(layer, kind) else layers_of(layer, kind) if hasattr(layer, "layers") else [])]
    return list({id(each): each for each in inside}.values())


def settle_averages(student: keras.Model, batches: Iterable[Any]) -> None:
    """Computes batch norm's averages for inference anew, with the weights as they are now and each batch weighing the same.

    In training they lag behind the weights and keep a share of their start at 0 and 1: .55 after 60 steps with Keras' momentum of .99. Dropout
    is off meanwhile, as in inference. Frozen norms keep theirs. Runs layer by layer, so that no graph is made for it.

    Args:
        batches: uint8 [B, H, W, 3] each; some thousand rows in all are enough.
    """
    norms = [norm for norm in layers_of(student, layers.BatchNormalization) if norm.trainable]
    dropouts = layers_of(student, layers.Dropout)
    momenta, rates = [norm.momentum for norm in norms], [dropout.rate for dropout in dropouts]
    try:
        for dropout in dropouts:
            dropout.rate = 0.0
        for number, images in enumerate(batches if norms else ()):
            for norm in norms:
                norm.momentum = number / (number + 1)  # gives the mean of all so far
            student(images, training=True)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for dropout, rate in zip(dropouts, rates, strict=True):
            dropout.rate = rate
