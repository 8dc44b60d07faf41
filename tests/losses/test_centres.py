"""Centres that follow the teacher, against the formula row by row in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from distill.losses.centres import adapted_centres


def cosine(a, b):
    a, b = np.asarray(a), np.asarray(b)
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return a @ b / size if size else 0.0


def by_hand(centres, label, student, teacher):
    centres = np.array(centres, np.float64)
    for y, s, t in zip(label, student, teacher, strict=True):
        if y >= 0:
            kept = np.clip(cosine(s, t) * max(cosine(centres[y], t), 0.0), 0.0, 1.0)
            centres[y] = kept * centres[y] + (1 - kept) * np.asarray(t)
    return centres


def moved(*arguments):
    return ops.convert_to_numpy(adapted_centres(*arguments))


def test_one_row_by_hand():
    """cos(s, t) = .8 and cos(c, t) = .6: a = .48, so c = .48 (1, 0) + .52 (.6, .8)."""
    found = moved(np.array([[1.0, 0.0], [0.0, 1.0]]), [0], [[0.0, 1.0]], [[0.6, 0.8]])
    np.testing.assert_allclose(found, [[0.792, 0.416], [0.0, 1.0]], atol=1e-6)


def test_rows_of_a_class_come_one_after_the_other():
    """The first row knows nothing of its teacher and takes its place: (1, 0); so the second finds a right angle and does the same."""
    np.testing.assert_allclose(moved([[0.0, 0.0]], [0, 0], [[0.0, 1.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]]), [[0.0, 1.0]], atol=1e-6)


@pytest.mark.parametrize("label", [[-1, -1], [-1, 1], [0, -1]])
def test_rows_without_a_label_move_nothing(label):
    start, student, teacher = np.eye(2), [[1.0, 2.0], [2.0, 1.0]], [[3.0, 1.0], [1.0, 4.0]]
    np.testing.assert_allclose(moved(start, label, student, teacher), by_hand(start, label, student, teacher), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_any_batch_is_as_row_by_row(seed):
    rng = np.random.default_rng(seed)
    rows, classes = 12, 4
    label = rng.integers(-1, classes, rows)
    start, student, teacher = (rng.normal(size=(size, 3)).astype("float32") for size in (classes, rows, rows))
    np.testing.assert_allclose(moved(start, label, student, teacher), by_hand(start, label, student, teacher), rtol=1e-4, atol=1e-5)
