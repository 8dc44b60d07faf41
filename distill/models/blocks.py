"""What several networks for faces are made of. Short, because they share little."""

from typing import Any

import keras
from keras import layers

Tensor = Any


def prelu(signal: Tensor) -> Tensor:
    """Returns max(0, x) + a min(0, x) with one learned a for each channel, .25 at first (He et al. 2015, section 2.1)."""
    return layers.PReLU(shared_axes=[1, 2], alpha_initializer=keras.initializers.Constant(0.25))(signal)
