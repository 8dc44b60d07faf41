"""Labels against cosines, against numbers that were computed elsewhere in float64, and against their own corner cases."""

import math

import keras
import numpy as np
import pytest
from keras import ops

from distill.losses.margin import arcface, hits, margin_cosine, softmax
from tests.losses.rows import COSINES, ROWS, Y, gradients, mean


@pytest.mark.parametrize(
    ("value", "golden"),
    [
        (lambda: softmax(Y, COSINES, 64.0), 50.445689),
        (lambda: arcface(Y, COSINES, 64.0, 0.5), 75.312514),
        (lambda: arcface(Y, COSINES, 64.0, 0.0, 1.0, 0.35), 72.339813),
        (lambda: arcface(Y, COSINES, 64.0, 0.0, 1.0, 0.40), 75.539813),
        (lambda: arcface(Y, COSINES, 64.0, 0.3, 1.0, 0.2), 78.525544),
    ],
    ids=["softmax", "arcface", "cosface .35", "cosface .40", "angle .3 and cosine .2"],
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
        found = gradients(function, [cosine])
        assert np.isfinite(found).all()
        assert abs(found[0]) < 5000
    row = gradients(lambda c: arcface(np.array([0], np.int32), c), [[cosine, 0.1, -0.2]])
    assert np.isfinite(row).all()


def test_the_gradient_against_the_formula():
    angle = 1.0
    found = gradients(lambda c: margin_cosine(c, 0.5), [math.cos(angle)])
    assert found[0] == pytest.approx(math.sin(angle + 0.5) / math.sin(angle), rel=1e-4)


def test_the_example_of_the_docstring():
    assert mean(softmax([0], [[1.0, 1.0]], 64.0)) == pytest.approx(math.log(2), abs=1e-5)


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
    cosines = ops.cast(COSINES, dtype)
    for values in (softmax(Y, cosines), arcface(Y, cosines)):
        assert keras.backend.standardize_dtype(values.dtype) == "float32"
        assert tuple(values.shape) == (ROWS,)


def test_hits_count_the_nearest_class():
    assert mean(hits(np.array([1, 0], np.int32), np.array([[0.1, 0.9], [0.2, 0.3]], "float32"))) == 0.5
