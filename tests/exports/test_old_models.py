"""Exports of Keras models that distill did not train: .h5 files, those of Keras 2, and those whose pixels a model.json says."""

import json
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from distill.api.export_process import load_plainly, read_keras
from distill.errors import DistillError
from distill.exports.export import student_file
from distill.exports.work import Report, Work, do
from teachers import load_teacher
from tests.conftest import inside
from tests.teachers.small import IMAGES, net


@pytest.fixture
def old(tmp_path: Path) -> Path:
    net().save(tmp_path / "old.h5")
    return tmp_path / "old.h5"


def exported(path: Path) -> tuple[Report, Path]:
    out = path.parent / "out"
    out.mkdir()
    return do(Work(str(path), str(out), "saved_model", {"saved_model": ""}), load_plainly, read_keras), out


def test_an_h5_file_is_exported(old: Path) -> None:
    report, out = exported(old)
    np.testing.assert_allclose(load_teacher(out)(IMAGES), load_teacher(old)(IMAGES), rtol=1e-5, atol=1e-6)
    assert report.facts["dimension"] == 16 and report.exports["saved_model"]["cosine_min"] > 0.9999


def test_so_is_one_of_keras_2(tmp_path: Path) -> None:
    """Keras 2 wrote `groups` for depthwise convolutions, which Keras 3 does not take."""
    given = keras.Input((8, 8, 3))
    model = keras.Model(given, keras.layers.Dense(16)(keras.layers.Flatten()(keras.layers.DepthwiseConv2D(3)(given))))
    model.save(tmp_path / "old.h5")
    with h5py.File(tmp_path / "old.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][1]["config"]["groups"] = 1
        file.attrs["model_config"] = json.dumps(config)
    _, out = exported(tmp_path / "old.h5")
    np.testing.assert_allclose(load_teacher(out)(IMAGES), model(IMAGES.astype(np.float32)), rtol=1e-4, atol=1e-3)


def test_what_model_json_says_of_pixels_is_in_the_export(old: Path) -> None:
    assert inside("inspect", old, "--scale", 0.5, "--offset", -3, "--save").returncode == 0
    _, out = exported(old)
    expected = load_teacher(old, beside=False, scale=0.5, offset=-3)(IMAGES)
    np.testing.assert_allclose(load_teacher(out)(IMAGES), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected - load_teacher(old, beside=False)(IMAGES)).max() > 0.1


def test_what_no_export_does_is_said(old: Path) -> None:
    assert inside("inspect", old, "--color", "bgr", "--save").returncode == 0
    with pytest.raises(DistillError, match="it wants its colours as BGR, which its model.json says, and no export exchanges them"):
        exported(old)


def test_what_is_no_keras_model(tmp_path: Path, old: Path) -> None:
    assert student_file(old) == old
    cut = tmp_path / "cut.h5"
    cut.write_bytes(old.read_bytes()[:3000])
    with pytest.raises(DistillError, match="cannot be opened as HDF5"):
        exported(cut)
    (tmp_path / "text.h5").write_text("no model")
    done = inside("export", tmp_path / "text.h5", tmp_path / "other")
    assert done.returncode == 2 and "text.h5 is no .keras file (which is a zip archive) and no .h5 file (HDF5)." in done.stderr
    assert not (tmp_path / "other").exists()
