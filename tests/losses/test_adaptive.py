"""Margins that follow the training or the row, against numbers that were computed elsewhere in float64, and what their statistics do."""

import math

import numpy as np
import pytest
from keras import ops

from distill.losses.adaptive import adaface, curricularface, magface, next_norms, next_threshold
from distill.losses.margin import arcface
from tests.losses.rows import COSINES, ROWS, E, Y, gradients, mean

NORMS = np.linalg.norm(E, axis=1)


def first_adaface(rate):
    return adaface(Y, COSINES, NORMS, *next_norms(Y, NORMS, 20.0, 100.0, rate))


@pytest.mark.parametrize(
    ("value", "golden"),
    [
        (lambda: curricularface(Y, COSINES, next_threshold(Y, COSINES, 0.0)), 64.091999),
        (lambda: first_adaface(0.01), 75.301739),
        (lambda: first_adaface(1.0), 75.537192),
        (lambda: magface(Y, COSINES, 20 * NORMS, norm_weight=0.0), 60.909934),
        (lambda: magface(Y, COSINES, 20 * NORMS, norm_weight=1.0) - magface(Y, COSINES, 20 * NORMS, norm_weight=0.0), 0.028386),
        (lambda: magface(Y, COSINES, 20 * NORMS, norm_weight=0.0, form="min"), 77.84483),
        (lambda: magface(Y, COSINES, 20 * NORMS, norm_weight=35.0, form="min"), 78.83836),
    ],
    ids=["curricularface", "adaface .01", "adaface 1", "magface without norms", "norms of magface", "magface, min", "magface, min and norms"],
)
def test_golden_values(value, golden):
    assert mean(value()) == pytest.approx(golden, rel=1e-5, abs=1e-6)


def test_examples_of_the_docstrings():
    hard = curricularface([0], [[1.0, 0.5]], 0.5, scale=1.0, angle_add=2.0)
    assert mean(hard) == pytest.approx(math.log(1 + math.exp(0.5 - math.cos(2))), rel=1e-6) == pytest.approx(1.252660, abs=1e-6)
    assert mean(next_threshold([0], [[0.5, 0.1]], 0.0)) == pytest.approx(0.005)
    assert mean(adaface([0], [[0.0, 0.0]], [20.0], 20.0, 1.0, scale=1.0)) == pytest.approx(math.log(1 + math.exp(0.4)), rel=1e-6)
    np.testing.assert_allclose(next_norms([0, 0], [9.0, 11.0], 20.0, 100.0), [19.9, 99 + 0.01 * math.sqrt(2)], rtol=1e-6)
    assert mean(magface([0], [[0.0, 0.0]], [10.0], scale=1.0)) == pytest.approx(math.log(2) + 20 * (10 / 12100 + 1 / 10), rel=1e-6)


def test_statistics_count_rows_with_a_label_alone():
    label = np.array([0, -1, 2, -1, 1, 2], np.int32)
    known, nobody = label >= 0, np.full(ROWS, -1, np.int32)
    assert mean(next_threshold(label, COSINES, 0.5)) == pytest.approx(mean(next_threshold(Y[known], COSINES[known], 0.5)), rel=1e-6)
    np.testing.assert_allclose(next_norms(label, NORMS, 2.0, 1.0), next_norms(Y[known], NORMS[known], 2.0, 1.0), rtol=1e-6)
    assert mean(next_threshold(nobody, COSINES, 0.5)) == 0.5
    np.testing.assert_array_equal(next_norms(nobody, NORMS, 20.0, 100.0), [20, 100])


def test_one_row_has_no_deviation():
    np.testing.assert_allclose(next_norms([0], [10.0], 20.0, 100.0, rate=0.5), [15, 100])


def test_before_the_first_step_hard_classes_weigh_their_square():
    """T = 0: what is above the row's own cosine after the margin becomes its square; with T = 1 - c it stays as it is."""
    easy = arcface([0], [[0.5, 0.25]], angle_add=1.0, scale=1.0)
    hard = curricularface([0], [[0.5, 0.5]], 0.0, angle_add=1.0, scale=1.0)
    assert mean(hard) == pytest.approx(mean(easy), rel=1e-6)
    np.testing.assert_allclose(curricularface([0], [[0.5, 0.5]], 0.5), arcface([0], [[0.5, 0.5]]), rtol=1e-6)


def test_no_gradient_flows_into_statistics_nor_into_norms_that_only_measure():
    assert not gradients(lambda x: adaface(Y, COSINES, x, 2.0, 0.1), NORMS).any()
    assert not gradients(lambda t: curricularface(Y, COSINES, t), 0.3).any()
    assert not gradients(lambda c: next_threshold(Y, c, 0.3), COSINES).any()
    assert gradients(lambda x: magface(Y, COSINES, x), 20 * NORMS).all()


def test_a_long_embedding_has_a_cosine_margin_and_a_short_one_an_angle_margin():
    """u = 1: cos(t - m) - 2m; u = -1: cos(t + m), as ArcFace with m."""
    cosines = [[0.2, 0.1, -0.2]]
    short = adaface([0], cosines, [0.001], 20.0, 1.0)
    assert mean(short) == pytest.approx(mean(arcface([0], cosines, angle_add=0.4)), rel=1e-5)
    long = mean(adaface([0], cosines, [99.0], 20.0, 1.0, scale=1.0))
    assert long == pytest.approx(mean(arcface([0], [[math.cos(math.acos(0.2) - 0.4) - 0.8, 0.1, -0.2]], 1.0, 0.0)), rel=1e-5)


def test_the_margin_of_magface_grows_with_the_norm():
    for norm, margin in ((5.0, 0.45), (60.0, 0.625), (200.0, 0.8)):
        value = magface([0], [[0.5, 0.1]], [norm], norm_weight=0.0)
        assert mean(value) == pytest.approx(mean(arcface([0], [[0.5, 0.1]], angle_add=margin)), rel=1e-5)
    with pytest.raises(ValueError, match='Expected a form of easy, min. Received "hard".'):
        magface([0], [[0.5, 0.1]], [20.0], form="hard")


def test_forms_of_magface_differ_where_the_own_cosine_is_negative():
    assert mean(magface([0], [[-0.5, 0.1]], [20.0])) < mean(magface([0], [[-0.5, 0.1]], [20.0], form="min"))
    assert mean(magface([0], [[0.5, 0.1]], [20.0])) == mean(magface([0], [[0.5, 0.1]], [20.0], form="min"))
    near_pi = ops.convert_to_tensor([[-0.99, 0.1]])
    assert mean(magface([0], near_pi, [20.0])) == mean(magface([0], near_pi, [20.0], form="min"))
