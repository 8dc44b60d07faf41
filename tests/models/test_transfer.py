"""Weights from elsewhere: which fit, and what is said of those that do not."""

import keras
import numpy as np
import pytest

from distill import DistillError
from distill.models.scaling import settle_scales
from distill.training.checkpoint import restore
from tests.models.students import built


def test_weights_of_an_earlier_student(tmp_path):
    donor = built("small_conv", 32, widths=(4, 8))
    donor.save(tmp_path / "student.keras")
    for where in (tmp_path, tmp_path / "student.keras"):
        student = built("small_conv", 32, widths=(4, 8), weights=str(where))
        for mine, theirs in zip(student.get_weights(), donor.get_weights(), strict=True):
            np.testing.assert_array_equal(mine, theirs)
    with pytest.raises(DistillError, match=r"another student: weight 6 has shape \(3, 3, 4, 8\) there and \(3, 3, 4, 9\) here"):
        built("small_conv", 32, widths=(4, 9), weights=str(tmp_path))
    with pytest.raises(DistillError, match="is not there. Expected a finished run's folder"):
        built("small_conv", 32, weights=str(tmp_path / "nothing"))
    (tmp_path / "bad.keras").write_text("no model")
    with pytest.raises(DistillError, match="cannot be loaded"):
        built("small_conv", 32, weights=str(tmp_path / "bad.keras"))


def test_assigned_weights_of_a_normalization_count(tmp_path):
    entry = keras.Input((4, 4, 3))
    inner = keras.Model(entry, keras.layers.Normalization()(entry))
    model = keras.Model(entry, inner(entry))
    restore({"mean": model.weights[0], "variance": model.weights[1]}, {"mean": np.full(3, 10.0), "variance": np.full(3, 4.0)}, tmp_path)
    settle_scales(model)
    np.testing.assert_allclose(model(np.full((1, 4, 4, 3), 30.0)), 10.0)  # (30 - 10) / 2


@pytest.mark.parametrize("name", ["missing.h5", "missing.keras", "missing", ""])
def test_weights_that_are_not_there_are_one_error_whatever_they_are(name):
    with pytest.raises(DistillError, match=r"^student.weights: .* is not there. Expected a finished run's folder, a student's .keras file"):
        built("MobileNet", 32, weights=name)
