"""Embeddings against embeddings, against numbers that were computed elsewhere in float64, and against their own corner cases."""

import keras
import numpy as np
import pytest
from keras import ops

from distill.losses.embedding import cosine_distance, mse, unit
from tests.losses.rows import ROWS, E, T, gradients, mean


@pytest.mark.parametrize(
    ("value", "golden"),
    [(lambda: cosine_distance(T, E), 1.069285), (lambda: mse(T, E), 1.065542), (lambda: mse(unit(T), unit(E)), 0.267321)],
    ids=["cosine", "mse", "mse of unit vectors"],
)
def test_golden_values(value, golden):
    assert mean(value()) == pytest.approx(golden, rel=2e-6)


def test_zero_vectors_have_no_direction_and_no_gradient():
    zeros, ones = np.zeros((2, 4), "float32"), np.ones((2, 4), "float32")
    np.testing.assert_array_equal(unit(zeros), zeros)
    np.testing.assert_array_equal(cosine_distance(ones, zeros), [1, 1])
    np.testing.assert_array_equal(gradients(lambda value: cosine_distance(ones, value), zeros), zeros)
    assert np.isfinite(gradients(lambda value: cosine_distance(zeros, value), ones)).all()
    small = np.full((1, 4), 1e-5, "float32")
    np.testing.assert_allclose(unit(small), np.full((1, 4), 0.5), rtol=1e-6)


def test_examples_of_the_docstrings():
    assert mean(cosine_distance([[1.0, 0.0]], [[0.0, 2.0]])) == 1.0
    assert mean(mse([[1.0, 0.0]], [[0.0, 2.0]])) == 2.5
    np.testing.assert_allclose(unit([[3.0, 4.0]]), [[0.6, 0.8]], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_goes_in_and_float32_comes_out(dtype):
    vectors = ops.cast(E, dtype)
    for values in (cosine_distance(T, vectors), mse(vectors, vectors)):
        assert keras.backend.standardize_dtype(values.dtype) == "float32"
        assert tuple(values.shape) == (ROWS,)
