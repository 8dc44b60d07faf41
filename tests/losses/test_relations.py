"""Relations within a batch, against numbers that were computed elsewhere in float64."""

import numpy as np
import pytest
from keras import ops

from distill.losses.relations import rkd_angle, rkd_distance
from tests.losses.rows import E, T, mean


@pytest.mark.parametrize(("loss", "golden"), [(rkd_distance, 0.103075), (rkd_angle, 0.147428)])
def test_golden_values(loss, golden):
    assert mean(loss(T, E)) == pytest.approx(golden, rel=1e-5)


def test_examples_of_the_docstrings():
    np.testing.assert_allclose(rkd_distance([[0.0], [1.0], [2.0]], [[0.0], [3.0], [3.0]]), [0.09375, 0.1875, 0.09375], rtol=1e-5)
    corner, line = [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], [[0.0], [1.0], [2.0]]
    far, near = 0.5 + 2**-0.5, (1 - 2**-0.5) ** 2 / 2  # smooth-L1 of -1 - cos 45 and of 1 - cos 45
    np.testing.assert_allclose(rkd_angle(corner, line), np.array([1, 2 * far, 2 * near]) / 9, rtol=1e-5)


@pytest.mark.parametrize("loss", [rkd_distance, rkd_angle])
def test_relations_know_no_scale_no_place_and_no_dimension(loss):
    np.testing.assert_allclose(loss(E, 7 * E + 3), 0, atol=1e-5)
    turned = np.concatenate([0 * E, E], axis=1)
    np.testing.assert_allclose(loss(T, turned), loss(T, E), rtol=1e-5)


@pytest.mark.parametrize("loss", [rkd_distance, rkd_angle])
def test_the_first_rows_alone_are_compared(loss):
    np.testing.assert_array_equal(loss(T, E, rows=4), loss(T[:4], E[:4]))
    assert tuple(loss(T, E, rows=4).shape) == (4,)


@pytest.mark.parametrize("loss", [rkd_distance, rkd_angle])
def test_one_row_has_no_relations(loss):
    np.testing.assert_array_equal(ops.convert_to_numpy(loss(T[:1], E[:1])), [0])
