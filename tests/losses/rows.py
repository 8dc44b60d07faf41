"""Numbers that were computed elsewhere in float64 are of this fixture: 6 rows, 5 classes, 8 dimensions. Short: it is what several files share."""

import keras
import numpy as np
from keras import ops

ROWS, CLASSES, DIMENSION = 6, 5, 8
E = np.sin(1 + 8 * np.arange(ROWS)[:, None] + np.arange(DIMENSION))
W = np.cos(0.5 + 5 * np.arange(DIMENSION)[:, None] + np.arange(CLASSES))
T = np.cos(2 + 1.7 * (8 * np.arange(ROWS)[:, None] + np.arange(DIMENSION)))
Y = np.array([0, 1, 2, 0, 1, 2], np.int32)
COSINES = (E / np.linalg.norm(E, axis=1, keepdims=True)) @ (W / np.linalg.norm(W, axis=0))


def mean(values):
    return float(ops.convert_to_numpy(ops.mean(values)))


def gradients(function, point, dtype="float32"):
    """The gradient of the sum of function(point), on whichever backend is there."""
    value = ops.convert_to_tensor(np.asarray(point), dtype)
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.jit(jax.grad(lambda value: function(value).sum()))(value))
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(value)
        total = tf.reduce_sum(function(value))
    return tape.gradient(total, value, unconnected_gradients="zero").numpy()
