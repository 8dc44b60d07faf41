"""The gradient of a function that is written in keras.ops. Short: what Keras leaves to its backends is asked of each of them here alone."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def gradient(function: Callable[[Any], Any], point: np.ndarray) -> np.ndarray:
    """Returns the gradient of a scalar function at a point, zeros where the function does not depend on it.

    Args:
        function: of a tensor of the shape of `point`.
        point: float32, of any shape.

    >>> gradient(lambda x: keras.ops.sum(x * x), np.array([1.0, 2.0], np.float32))
    [2., 4.]
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(function)(jax.numpy.asarray(point)))
    if backend == "torch":
        import torch

        leaf = torch.tensor(point, requires_grad=True)
        return np.asarray(torch.autograd.grad(function(leaf), leaf, materialize_grads=True)[0].cpu())
    import tensorflow as tf

    value = tf.constant(point)
    with tf.GradientTape() as tape:
        tape.watch(value)
        result = function(value)
    return np.asarray(tape.gradient(result, value, unconnected_gradients=tf.UnconnectedGradients.ZERO))
