"""What several networks for faces are made of. Short, because they share little."""

from typing import Any

import keras
from keras import layers

Tensor = Any


def prelu(signal: Tensor, name: str | None = None) -> Tensor:
    """Returns max(0, x) + a min(0, x) with one learned a for each channel, .25 at first (He et al. 2015, section 2.1)."""
    return layers.PReLU(shared_axes=[1, 2], alpha_initializer=keras.initializers.Constant(0.25), name=name)(signal)


def norm(signal: Tensor, name: str | None = None) -> Tensor:
    """Returns batch norm as the public nets of GhostFaceNets and ArcFace have it: a share of .1 for each new batch, 1e-5 under the root."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(signal)
