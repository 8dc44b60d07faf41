"""Embeddings against embeddings, against numbers that were computed elsewhere in float64, and against their own corner cases."""

import keras
import numpy as np
import pytest
from keras import ops

from distill.losses.embedding import cosine_distance, kl, length, mean_absolute, mse, queue_similarity, sum_of_squares, unit
from tests.losses.rows import ROWS, E, T, gradients, mean


@pytest.mark.parametrize(
    ("value", "golden"),
    [
        (lambda: cosine_distance(T, E), 1.069285),
        (lambda: mse(T, E), 1.065542),
        (lambda: mse(unit(T), unit(E)), 0.267321),
        (lambda: sum_of_squares(T, E), 8.524340),
    ],
    ids=["cosine", "mse", "mse of unit vectors", "sum of squares"],
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
    np.testing.assert_allclose(length([[3.0, 4.0]]), [5])
    assert mean(sum_of_squares([[1.0, 0.0]], [[0.0, 2.0]])) == 5.0
    assert mean(mean_absolute([[1.0, 0.0]], [[0.0, 2.0]])) == 1.5
    assert mean(kl([[np.log(3), 0.0]], [[0.0, 0.0]], temperature=1.0)) == pytest.approx(0.75 * np.log(1.5) + 0.25 * np.log(0.5), rel=1e-5)
    both = queue_similarity([[1.0, 0.0]], [[0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]], np.array([True, True]), temperature=1.0)
    assert mean(both) == pytest.approx((np.e - 1) / (np.e + 1), rel=1e-5)


def test_equal_logits_up_to_a_constant_diverge_by_nothing():
    np.testing.assert_allclose(kl(E, E + 7), 0, atol=1e-5)
    assert mean(kl(np.array([[1000.0, 0.0]]), np.array([[0.0, 1000.0]]), 1.0)) == pytest.approx(1000)


def test_what_is_not_in_the_queue_yet_changes_nothing():
    queue = np.concatenate([unit(T), np.full((3, 8), 9.0, "float32")])
    filled = np.arange(len(queue)) < ROWS
    np.testing.assert_allclose(queue_similarity(T, E, queue, filled), queue_similarity(T, E, queue[:ROWS], filled[:ROWS]), rtol=1e-5)
    np.testing.assert_array_equal(queue_similarity(T, E, queue, filled & False), np.zeros(ROWS))
    np.testing.assert_allclose(queue_similarity(T, 3 * T, queue, filled), 0, atol=1e-5)  # of an equal direction


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_goes_in_and_float32_comes_out(dtype):
    vectors = ops.cast(E, dtype)
    for values in (cosine_distance(T, vectors), mse(vectors, vectors)):
        assert keras.backend.standardize_dtype(values.dtype) == "float32"
        assert tuple(values.shape) == (ROWS,)
