"""Terms at work that have state: what a batch changes, when, and what a held-out one leaves as it is."""

import numpy as np
import pytest
from keras import ops

from distill.config.losses import TERMS
from distill.losses.embedding import unit
from distill.losses.objective import OBJECTIVES
from tests.losses.rows import CLASSES, COSINES, DIMENSION, E, T, Y, mean

BATCH = {"label": Y, "embedding": T}
PREDICTED = {"student": E, "embedding": E, "cosine": COSINES}


def built(name, **options):
    objective = OBJECTIVES[name](TERMS[name](**options))
    objective.build(DIMENSION, DIMENSION, CLASSES)
    return objective


def state(objective):
    return [ops.convert_to_numpy(variable) for variable in objective.variables]


@pytest.mark.parametrize(
    ("name", "first"), [("curricularface", 64.091999), ("adaface", 75.301739), ("centre", 2.011435), ("centre_mean", 0.502859), ("queue", 3.959066)]
)
def test_the_first_step(name, first):
    """A queue, a threshold and moving means have the batch in them already, centres have not."""
    objective = built(name)
    before = state(objective)
    assert mean(objective(BATCH, PREDICTED, True)) == pytest.approx(first, rel=1e-5)
    assert any((now != then).any() for now, then in zip(state(objective), before, strict=True))


@pytest.mark.parametrize("name", ["queue", "curricularface", "adaface", "centre", "centre_mean"])
def test_held_out_rows_change_nothing(name):
    objective = built(name)
    objective(BATCH, PREDICTED, True)
    before = state(objective)
    objective(BATCH, {**PREDICTED, "student": 2 * E, "cosine": -COSINES}, False)
    for now, then in zip(state(objective), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_what_state_becomes():
    own = COSINES[np.arange(len(Y)), Y]
    (threshold,) = step_of("curricularface")
    assert threshold == pytest.approx(0.01 * own.mean(), rel=1e-5)
    norms = np.linalg.norm(E, axis=1)
    average, deviation = step_of("adaface", rate=0.5)
    assert average == pytest.approx((20 + norms.mean()) / 2, rel=1e-6) and deviation == pytest.approx((100 + norms.std(ddof=1)) / 2, rel=1e-6)
    assert step_of("centre")[0][0, 0] == pytest.approx(0.118187, rel=1e-5)
    assert step_of("centre_mean")[0][0, 0] == pytest.approx(0.070912, rel=1e-5)
    assert not step_of("centre")[0][3:].any()  # classes without a row


def step_of(name, **options):
    objective = built(name, **options)
    objective(BATCH, PREDICTED, True)
    return state(objective)


def teach(objective, *angles):
    """Shows it embeddings of these degrees, of length 3."""
    vectors = 3 * np.stack([np.cos(np.radians(angles)), np.sin(np.radians(angles))], axis=1).astype("float32")
    objective({"embedding": vectors}, {"embedding": vectors}, True)


def test_the_oldest_in_a_queue_is_overwritten():
    objective = OBJECTIVES["queue"](TERMS["queue"](size=4))
    objective.build(2, 5, 0)
    for angles, expected, place, filled in [
        ((10, 20, 30), (10, 20, 30, 0), 3, 3),
        ((40, 50), (50, 20, 30, 40), 1, 4),
        ((60,), (50, 60, 30, 40), 2, 4),
        ((1, 2, 3, 4, 5, 6), (5, 6, 3, 4), 2, 4),  # of more rows than it holds the last ones
    ]:
        teach(objective, *angles)
        queue, where, count = state(objective)
        found = np.degrees(np.arctan2(queue[:, 1], queue[:, 0]))
        np.testing.assert_allclose(found, expected, atol=1e-3)
        assert (where, count) == (place, filled)
    np.testing.assert_allclose(np.linalg.norm(queue, axis=1), 1, rtol=1e-6)


def test_a_queue_compares_in_the_space_of_the_teacher():
    """A student that is the teacher turned by a projection is like the queue as the teacher is."""
    objective = built("queue")
    assert mean(objective(BATCH, {"student": E[:, :3], "embedding": 5 * T}, True)) == pytest.approx(0, abs=1e-5)
    np.testing.assert_allclose(state(objective)[0][: len(T)], unit(T), rtol=1e-6)


def test_lengths_and_centres_are_those_of_the_student_itself():
    """Its embedding has 3 numbers and the teacher's 8: what a projection makes of it does not count."""
    small = E[:, :3]
    predicted = {"student": small, "embedding": E, "cosine": COSINES}
    for name in ("adaface", "magface", "sphereface", "centre", "centre_mean", "triplet"):
        objective = OBJECTIVES[name](TERMS[name](**({"free_norm": True} if name == "sphereface" else {})))
        objective.build(DIMENSION, 3, CLASSES)
        alone = ops.convert_to_numpy(objective(BATCH, predicted, True))
        objective.build(DIMENSION, 3, CLASSES)
        np.testing.assert_array_equal(alone, objective(BATCH, {**predicted, "embedding": 9 * E}, True))
        objective.build(DIMENSION, 3, CLASSES)
        longer = ops.convert_to_numpy(objective(BATCH, {**predicted, "student": 20 * small}, True))
        assert name == "triplet" or (alone != longer).any(), name
