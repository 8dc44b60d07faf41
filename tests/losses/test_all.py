"""What holds for every loss: its values and gradients are those of the formulas in float64, and finite whatever comes in."""

import keras
import numpy as np
import pytest
from keras import ops

from tests.losses.cases import CASES, OF_COSINES, OF_EMBEDDINGS, OF_PAIRS
from tests.losses.formulas import slopes
from tests.losses.rows import COSINES, ROWS, E, T, Y, gradients


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_those_of_the_formula(name):
    loss, formula, point = CASES[name]
    found = ops.convert_to_numpy(loss(point))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, formula(point), rtol=1e-5, atol=2e-6)
    exact = slopes(formula, point)
    np.testing.assert_allclose(gradients(loss, point), exact, rtol=2e-4, atol=2e-5 * np.abs(exact).max())


def check_finite(loss, point, dtype="float32"):
    value = loss(ops.convert_to_tensor(np.asarray(point), dtype))
    assert keras.backend.standardize_dtype(value.dtype) == "float32"
    assert np.isfinite(ops.convert_to_numpy(value)).all()
    assert np.isfinite(gradients(loss, point, dtype).astype("float32")).all()


ENDS = np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [1.0, 1.0, 1.0], [-1.0, -1.0, -1.0], [0.0, 0.0, 0.0], [1.0000002, -1.0000002, 0.99999994]])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("name", OF_COSINES)
def test_cosines_at_their_ends(name, dtype):
    for label in ([0, 0, 0, 0, 0, 0], [2, 1, 0, 2, 1, -1]):
        check_finite(lambda cosines, label=label: OF_COSINES[name](np.array(label, np.int32), cosines), ENDS, dtype)


@pytest.mark.parametrize("name", OF_COSINES)
def test_one_class_and_one_row(name):
    for cosines in ([[0.3]], [[1.0]], [[-1.0]]):
        check_finite(lambda cosines: OF_COSINES[name](np.array([0], np.int32), cosines), cosines)


@pytest.mark.parametrize("name", OF_COSINES | OF_EMBEDDINGS)
def test_rows_without_a_label_have_the_loss_0_and_no_gradient(name):
    loss, point = (OF_COSINES[name], COSINES) if name in OF_COSINES else (OF_EMBEDDINGS[name], E)
    label = np.array([0, 1, -1, 0, 1, -1], np.int32)
    assert (ops.convert_to_numpy(loss(label, ops.cast(point, "float32")))[label < 0] == 0).all()
    slope = gradients(lambda value: loss(label, value), point)
    assert (slope[label < 0] == 0).all() and (slope[label >= 0] != 0).any()
    nobody = np.full(ROWS, -1, np.int32)
    assert (ops.convert_to_numpy(loss(nobody, ops.cast(point, "float32"))) == 0).all()


CORNERS = {"zeros": 0 * E, "all alike": np.ones_like(E), "one row": E[:1], "one dimension": E[:, :1], "a row of zeros": E * (np.arange(ROWS) > 0)[:, None]}


@pytest.mark.parametrize("name", OF_EMBEDDINGS)
def test_embeddings_in_corners(name):
    for point in CORNERS.values():
        for label in (Y, 0 * Y, Y - 1):
            check_finite(lambda x, label=label: OF_EMBEDDINGS[name](label[: len(x)], x), point)
    check_finite(lambda x: OF_EMBEDDINGS[name](Y, x), E, "float16")


@pytest.mark.parametrize("name", OF_PAIRS)
def test_pairs_in_corners(name):
    for point in CORNERS.values():
        for target in (T[: len(point), : point.shape[1]], 0 * point, point):
            check_finite(lambda x, target=target: OF_PAIRS[name](target, x), point)
    check_finite(lambda x: OF_PAIRS[name](ops.cast(T, "bfloat16"), x), E, "bfloat16")
