"""Small real models for tests of several formats, and what they answer to IMAGES."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from distill import DistillError
from teachers import load_teacher

SIZE, DIMENSION = 8, 16
IMAGES = np.random.default_rng(0).integers(0, 256, (64, SIZE, SIZE, 3), np.uint8)
MEANS = IMAGES.astype(np.float64).mean((1, 2)).astype(np.float32)


def net() -> keras.Model:
    keras.utils.set_random_seed(0)
    given = keras.Input((SIZE, SIZE, 3), name="photo")
    x = keras.layers.Conv2D(8, 3, use_bias=False)(keras.layers.Rescaling(1 / 127.5, -1.0)(given))
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    return keras.Model(given, keras.layers.Dense(DIMENSION, bias_initializer="random_normal")(keras.layers.Flatten()(x)))


def photos(batch: int | None = None, name: str = "photo") -> tf.TensorSpec:
    return tf.TensorSpec([batch, SIZE, SIZE, 3], name=name)


def means(x: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(x, (1, 2))


def lowest(one: np.ndarray, other: np.ndarray) -> float:
    """The lowest cosine of two rows."""
    return float(((one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)).min())


def refused(path: Path, **how: object) -> str:
    with pytest.raises(DistillError) as caught:
        load_teacher(path, **how)(IMAGES[:2])  # type: ignore[arg-type]
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
