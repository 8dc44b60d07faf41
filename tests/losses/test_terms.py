"""The terms, against numbers that were computed elsewhere in float64, and against their own corner cases."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from distill.losses.terms import TERMS, arcface, cosine_distance, hits, margin_cosine, mse, softmax, unit

# The golden fixture: 6 rows, 5 classes, 8 dimensions.
ROWS, CLASSES, DIMENSION = 6, 5, 8
E = np.sin(1 + 8 * np.arange(ROWS)[:, None] + np.arange(DIMENSION))
W = np.cos(0.5 + 5 * np.arange(DIMENSION)[:, None] + np.arange(CLASSES))
T = np.cos(2 + 1.7 * (8 * np.arange(ROWS)[:, None] + np.arange(DIMENSION)))
Y = np.array([0, 1, 2, 0, 1, 2], np.int32)
COSINES = (E / np.linalg.norm(E, axis=1, keepdims=True)) @ (W / np.linalg.norm(W, axis=0))


def mean(values):
    return float(ops.convert_to_numpy(ops.mean(values)))


def slopes(function, point):
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


@pytest.mark.parametrize(
    ("value", "golden"),
    [
        (lambda: softmax(Y, COSINES, 64.0), 50.445689),
        (lambda: arcface(Y, COSINES, 64.0, 0.5), 75.312514),
        (lambda: arcface(Y, COSINES, 64.0, 0.0, 1.0, 0.35), 72.339813),
        (lambda: arcface(Y, COSINES, 64.0, 0.0, 1.0, 0.40), 75.539813),
        (lambda: arcface(Y, COSINES, 64.0, 0.3, 1.0, 0.2), 78.525544),
        (lambda: cosine_distance(T, E), 1.069285),
        (lambda: mse(T, E), 1.065542),
        (lambda: mse(unit(T), unit(E)), 0.267321),
    ],
    ids=["softmax", "arcface", "cosface .35", "cosface .40", "angle .3 and cosine .2", "cosine", "mse", "mse of unit vectors"],
)
def test_golden_values(value, golden):
    assert mean(value()) == pytest.approx(golden, rel=2e-6)


def test_target_cosines_of_the_fixture():
    np.testing.assert_allclose(COSINES[np.arange(ROWS), Y], [0.394412, -0.066840, -0.259922, -0.462806, 0.731900, -0.780834], atol=1e-6)


@pytest.mark.parametrize(
    ("cosine", "target", "loss"), [(0.5, 0.023597, 17.689821), (-0.95, -1.016596, 84.262146), (-0.999, -1.101860, 89.719031), (1.0, 0.877583, 0.0)]
)
def test_beyond_pi_the_margin_is_mirrored(cosine, target, loss):
    assert mean(margin_cosine([cosine], 0.5)) == pytest.approx(target, abs=1e-6)
    assert mean(arcface([0], [[cosine, 0.1, -0.2, 0.3]], 64.0, 0.5)) == pytest.approx(loss, abs=3e-5)


@pytest.mark.parametrize(("angle_add", "angle_mult", "cos_sub"), [(0.5, 1.0, 0.0), (0.3, 1.0, 0.2), (0.0, 1.7, 0.0), (0.2, 1.5, 0.1)])
def test_a_worse_row_never_has_a_smaller_loss(angle_add, angle_mult, cos_sub):
    cosines = np.linspace(1, -1, 2001)
    targets = ops.convert_to_numpy(margin_cosine(cosines, angle_add, angle_mult, cos_sub))
    assert (np.diff(targets) < 1e-6).all()
    assert np.abs(np.diff(targets)).max() < 0.07  # no jump: at -1 the angle itself moves by .045 a step


def test_margins_work_against_the_row():
    cosines = np.linspace(-1, 1, 41)
    assert (ops.convert_to_numpy(margin_cosine(cosines, 0.5)) <= cosines + 1e-6).all()
    np.testing.assert_allclose(margin_cosine(cosines, 0.0), cosines, atol=2e-6)


@pytest.mark.parametrize("cosine", [1.0, 1.0000002, -1.0, -1.0000002, 0.99999994, 0.0])
def test_gradients_are_finite_where_acos_has_none(cosine):
    for function in (lambda c: margin_cosine(c, 0.5), lambda c: margin_cosine(c, 0.2, 1.5, 0.1)):
        found = slopes(function, [cosine])
        assert np.isfinite(found).all()
        assert abs(found[0]) < 5000
    row = slopes(lambda c: arcface(np.array([0], np.int32), c), [[cosine, 0.1, -0.2]])
    assert np.isfinite(row).all()


def test_zero_vectors_have_no_direction_and_no_gradient():
    zeros, ones = np.zeros((2, 4), "float32"), np.ones((2, 4), "float32")
    np.testing.assert_array_equal(unit(zeros), zeros)
    np.testing.assert_array_equal(cosine_distance(ones, zeros), [1, 1])
    np.testing.assert_array_equal(slopes(lambda value: cosine_distance(ones, value), zeros), zeros)
    assert np.isfinite(slopes(lambda value: cosine_distance(zeros, value), ones)).all()
    small = np.full((1, 4), 1e-5, "float32")
    np.testing.assert_allclose(unit(small), np.full((1, 4), 0.5), rtol=1e-6)


def test_straight_slope_against_the_formula():
    angle = 1.0
    found = slopes(lambda c: margin_cosine(c, 0.5), [math.cos(angle)])
    assert found[0] == pytest.approx(math.sin(angle + 0.5) / math.sin(angle), rel=1e-4)


def test_examples_of_the_docstrings():
    assert mean(cosine_distance([[1.0, 0.0]], [[0.0, 2.0]])) == 1.0
    assert mean(mse([[1.0, 0.0]], [[0.0, 2.0]])) == 2.5
    assert mean(softmax([0], [[1.0, 1.0]], 64.0)) == pytest.approx(math.log(2), abs=1e-5)
    np.testing.assert_allclose(unit([[3.0, 4.0]]), [[0.6, 0.8]], rtol=1e-6)


def test_rows_without_a_label_weigh_nothing():
    cosines = COSINES.astype("float32")
    labels = np.array([0, -1, 2, -1, 1, 2], np.int32)
    for function in (softmax, arcface):
        rows = ops.convert_to_numpy(function(labels, cosines))
        assert (rows[labels < 0] == 0).all()
        np.testing.assert_array_equal(rows[labels == Y], ops.convert_to_numpy(function(Y, cosines))[labels == Y])
    assert hits(labels, cosines)[1] == 0


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_goes_in_and_float32_comes_out(dtype):
    vectors, cosines = ops.cast(E, dtype), ops.cast(COSINES, dtype)
    for values in (cosine_distance(T, vectors), mse(vectors, vectors), softmax(Y, cosines), arcface(Y, cosines)):
        assert keras.backend.standardize_dtype(values.dtype) == "float32"
        assert tuple(values.shape) == (ROWS,)


def test_hits_count_the_nearest_class():
    assert mean(hits(np.array([1, 0], np.int32), np.array([[0.1, 0.9], [0.2, 0.3]], "float32"))) == 0.5


def test_slopes_are_in_one_unit():
    """On unit vectors mse with weight 1 in 512 dimensions pulls as hard as cosine with weight 1/256."""
    assert TERMS["mse"].slope(1.0, {}, 512, 1.0) == TERMS["cosine"].slope(1 / 256, {}, 512, 1.0)
    assert mean(mse(unit(T), unit(E))) == pytest.approx(TERMS["mse"].slope(1.0, {}, DIMENSION, 1.0) * mean(cosine_distance(T, E)), rel=1e-5)
    row = slopes(lambda c: 2.0 * softmax(np.array([0], np.int32), c, 16.0), [[-1.0, 1.0]])
    assert np.abs(row).max() == pytest.approx(TERMS["softmax"].slope(2.0, {"scale": 16.0}, 8, 1.0), rel=1e-4)
