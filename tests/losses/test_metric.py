"""Embeddings against those of their class and of others, against numbers that were computed elsewhere in float64, and how centres move."""

import numpy as np
import pytest
from keras import ops

from distill.losses.metric import centre, centre_mean, moved_centres, moved_centres_mean, triplet_all, triplet_hard
from tests.losses.rows import CLASSES, DIMENSION, E, Y, gradients, mean

NOWHERE = np.zeros((CLASSES, DIMENSION), "float32")


@pytest.mark.parametrize(
    ("value", "golden"),
    [
        (lambda: centre(Y, E, NOWHERE), 2.011435),
        (lambda: moved_centres(Y, E, NOWHERE)[0, 0], 0.118187),
        (lambda: centre_mean(Y, E, NOWHERE), 0.502859),
        (lambda: moved_centres_mean(Y, E, NOWHERE)[0, 0], 0.070912),
        (lambda: triplet_hard(Y, E), 0.503906),
        (lambda: triplet_hard(Y, E, distance="squared_euclidean"), 2.428792),
    ],
    ids=["centre", "moved centre", "centre_mean", "moved centre of centre_mean", "triplet, cosine", "triplet, squared"],
)
def test_golden_values(value, golden):
    assert mean(value()) == pytest.approx(golden, rel=1e-5)


def test_examples_of_the_docstrings():
    assert mean(centre([1], [[3.0, 4.0]], [[9.0, 9.0], [0.0, 0.0]])) == 12.5
    assert mean(centre_mean([1], [[3.0, 4.0]], [[9.0, 9.0], [0.0, 0.0]])) == 12.5
    centres = np.array([[9.0], [0.0]], "float32")
    np.testing.assert_allclose(moved_centres([1, 1], [[3.0], [6.0]], centres), [[9], [1.5]], rtol=1e-6)
    np.testing.assert_allclose(moved_centres_mean([1, 1], [[3.0], [6.0]], centres), [[9], [0.9]], rtol=1e-6)
    rows = [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
    np.testing.assert_allclose(triplet_hard([0, 0, 1], rows), [0.35, 1.35, 0.35], rtol=1e-6)
    np.testing.assert_allclose(triplet_all([0, 0, 1], rows), [0.525, 2.025, 0], rtol=1e-6)


@pytest.mark.parametrize(("moved", "expected"), [(moved_centres, {1: 1.0, 50: 200 / 102}), (moved_centres_mean, {1: 0.4, 5: 2.0, 50: 4.0})])
def test_centres_go_towards_their_rows_and_never_beyond(moved, expected):
    """Rows all lie at 4, the centre at 0: half of n/(n + 1) of the way, and (1 - .9) n of it, at most all."""
    for count, place in expected.items():
        found = moved(np.zeros(count, np.int32), np.full((count, 1), 4.0), np.zeros((2, 1), "float32"))
        np.testing.assert_allclose(found, [[place], [0]], rtol=1e-6)


def test_rows_without_a_label_move_nothing():
    label = np.array([0, -1, 2, -1, 0, -1], np.int32)
    for moved in (moved_centres, moved_centres_mean):
        np.testing.assert_allclose(moved(label, E, NOWHERE), moved(label[label >= 0], E[label >= 0], NOWHERE), rtol=1e-6)
        assert not ops.convert_to_numpy(moved(label, E, NOWHERE))[[1, 3, 4]].any()


def test_centres_have_no_gradient():
    assert not gradients(lambda centres: centre(Y, E, centres), NOWHERE).any()
    assert not gradients(lambda x: moved_centres(Y, x, NOWHERE), E).any()


@pytest.mark.parametrize("triplets", [triplet_hard, triplet_all])
def test_rows_of_one_class_are_in_no_triplet(triplets):
    assert not ops.convert_to_numpy(triplets(0 * Y, E)).any()


def test_a_row_alone_in_its_class_keeps_its_distance_from_others():
    """It is its own farthest, at 0: max(0, 0 - (1 - cos) + .35); in no triplet of `triplet_all`, for which it has no second row of its class."""
    rows = [[1.0, 0.0], [0.8, 0.6]]
    np.testing.assert_allclose(triplet_hard([0, 1], rows), [0.15, 0.15], rtol=1e-5)
    assert not ops.convert_to_numpy(triplet_all([0, 1], rows)).any()


def test_the_mean_is_over_triplets_that_are_not_met_yet():
    """Distances of rows on a line at 0, 1 and 1.2, of which the last is another class: 1 - 1.44 is met, 1 - .04 and a margin of .35 is not."""
    rows = [[0.0], [1.0], [1.2]]
    assert mean(triplet_all([0, 0, 1], rows, distance="squared_euclidean")) == pytest.approx(1 - 0.04 + 0.35, rel=1e-5)
    assert mean(triplet_all([0, 0, 1, 0], [*rows, [9.0]], distance="squared_euclidean", rows=3)) == pytest.approx(1.31, rel=1e-5)


def test_a_distance_that_is_none_is_refused():
    for triplets in (triplet_hard, triplet_all):
        with pytest.raises(ValueError, match='Expected a distance of cosine, squared_euclidean. Received "l1".'):
            triplets(Y, E, distance="l1")
