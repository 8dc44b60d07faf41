"""Numbers that were computed elsewhere in float64 are of this fixture: 6 rows, 5 classes, 8 dimensions. Short: it is what three files share."""

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


def gradients(function, point):
    """The gradient of the sum of function(point), on whichever backend is there."""
    if keras.backend.backend() == "jax":
        import jax

        return np.asarray(jax.grad(lambda value: function(value).sum())(np.asarray(point, "float32")))
    import tensorflow as tf

    value = tf.constant(point, dtype="float32")
    with tf.GradientTape() as tape:
        tape.watch(value)
        total = tf.reduce_sum(function(value))
    return tape.gradient(total, value).numpy()
