"""Weights from elsewhere: which fit, and what is said of those that do not."""

import re
import shutil

import keras
import numpy as np
import pytest

from distill import DistillError
from distill.config.student import Student
from distill.models.exported import exported_weights
from distill.models.scaling import settle_scales
from distill.models.students import begin_student
from distill.models.transfer import rows_by_name
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


# ------------------------------------------------------------------------------------------------------------------- kinds of files


def begun(backbone="small_conv", embedding=8, dimension=None, **options):
    return begin_student(Student(backbone=backbone, embedding=embedding, **options), (32, 32, 3), dimension)


def random_student(backbone="small_conv", embedding=8, dimension=None, **options):
    """A student in which every number is another one, the averages of batch norm too."""
    model, _ = begun(backbone, embedding, dimension, **options)
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.2, 1, array.shape) for array in model.get_weights()])
    return model


def assert_same(one, other, last=None):
    for mine, theirs in list(zip(one.get_weights(), other.get_weights(), strict=False))[:last]:
        np.testing.assert_array_equal(mine, theirs)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A student as .keras, and as an export."""
    from distill.exports.saved_model import write_saved_model

    folder = tmp_path_factory.mktemp("exported")
    student = random_student(widths=(4, 8))
    student.save(folder / "student.keras")
    write_saved_model(student, folder / "export")  # here, not in a process of its own, which begins by importing TensorFlow
    return folder


def test_an_export_is_read_without_tensorflow(exported):
    donor = keras.models.load_model(exported / "student.keras", compile=False)
    read = exported_weights(exported / "export")
    assert len(read) == len(donor.weights) == 5 + 5 + 4 + 2
    for mine, theirs in zip(read, donor.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    student, told = begun(widths=(4, 8), weights=str(exported / "export"))
    assert_same(student, donor)
    assert told == []


def cut_index(folder):
    path = folder / "variables/variables.index"
    path.write_bytes(path.read_bytes()[:-20])


def cut_data(folder):
    (path,) = (folder / "variables").glob("variables.data-*")
    path.write_bytes(path.read_bytes()[:100])


def renamed(folder):
    path = folder / "variables/variables.index"
    path.write_bytes(path.read_bytes().replace(b"weights/0/", b"weighty/0/"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut_index, "cannot be read as an export: variables/variables.index is no table of variables. Export the student again."),
        (cut_data, "cannot be read as an export: variables.data-00000-of-00001 ends too early. Export the student again."),
        (renamed, "is a SavedModel that distill export did not write. Name a run, a .keras file, or an export."),
    ],
)
def test_a_damaged_export_and_one_of_others_are_told(exported, tmp_path, damage, message):
    shutil.copytree(exported / "export", tmp_path / "export")
    damage(tmp_path / "export")
    with pytest.raises(DistillError, match=re.escape(message)):
        begun(widths=(4, 8), weights=str(tmp_path / "export"))


def saved(model, kind, folder):
    path = folder / {"keras": "s.keras", "weights.h5": "s.weights.h5", "h5": "s.h5"}[kind]
    model.save_weights(path) if kind == "weights.h5" else model.save(path)
    return str(path)


KINDS = ["keras", "weights.h5", "h5"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backbone", ["small_conv", "MobileNet"])
def test_a_whole_student_of_each_kind_of_file(tmp_path, backbone, kind):
    donor = random_student(backbone)
    student, told = begun(backbone, weights=saved(donor, kind, tmp_path))
    assert_same(student, donor)
    assert told == []


@pytest.mark.parametrize("kind", KINDS)
def test_another_embedding_begins_anew_and_the_rest_is_taken(tmp_path, kind):
    path = saved(random_student(), kind, tmp_path)
    keras.utils.set_random_seed(3)
    student, told = begun(embedding=16, weights=path)
    keras.utils.set_random_seed(3)
    fresh, _ = begun(embedding=16)
    assert_same(student, random_student(), -2)
    for mine, theirs in zip(student.get_weights()[-2:], fresh.get_weights()[-2:], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    there = "40x8" if kind == "keras" else "another"
    assert told == [f"student.weights: {path} is taken but for embedding, which begins anew ({there} there, 40x16 here)"]


@pytest.mark.parametrize("kind", KINDS)
def test_another_backbone_is_refused_with_the_first_difference(tmp_path, kind):
    path = saved(random_student(widths=(4, 8)), kind, tmp_path)
    there = r"\(3, 3, 4, 8\)" if kind == "keras" else "another"
    with pytest.raises(DistillError, match=rf"another student: weight 6 has shape {there} there and \(3, 3, 4, 9\) here \(conv2/kernel\). Use the same"):
        begun(widths=(4, 9), weights=path)
    with pytest.raises(DistillError, match="another student: |cannot be loaded into this student: Layer count mismatch"):
        begun(widths=(4, 8, 8), weights=path)
    with pytest.raises(DistillError, match="another student: |cannot be loaded into this student: Layer count mismatch"):
        begun(widths=(4,), weights=path)


@pytest.mark.parametrize("kind", KINDS)
def test_projections_go_with_a_student_where_both_have_one(tmp_path, kind):
    donor = random_student(dimension=12, projection="export")
    path = saved(donor, kind, tmp_path)
    assert donor.output_shape == (None, 12)
    student, told = begun(dimension=12, projection="export", weights=path)
    assert_same(student, donor)
    assert told == []
    student, told = begun(dimension=10, projection="export", weights=path)
    assert_same(student, donor, -5)
    assert len(told) == 1 and "is taken but for projection, which begins anew" in told[0] and "projection_norm, which begins anew" in told[0]
    plain = saved(random_student(), kind, tmp_path)
    student, told = begun(dimension=12, projection="export", weights=plain)
    assert_same(student, random_student(), -5)
    assert "is taken but for projection, which begins anew (none there, 8x12 here), projection_norm" in told[0]
    if kind == "keras":
        donor.save(path)
        assert begun(weights=path)[1] == [f"student.weights: {path} is taken but for its projection, which is left out"]


def test_dropout_draws_the_same_whatever_kind_of_file_a_student_starts_from(tmp_path):
    found = []
    for kind in KINDS:
        path = saved(random_student(), kind, tmp_path)
        keras.utils.set_random_seed(3)
        student, _ = begun(weights=path)
        found.append(np.asarray(student(np.full((4, 32, 32, 3), 99.0), training=True)))
    assert np.ptp(found, axis=0).max() < 1e-5


def test_a_backbone_alone_is_told_from_a_student(tmp_path):
    with pytest.raises(DistillError, match=r"bad.h5 cannot be loaded into this student: "):
        (tmp_path / "bad.h5").write_text("no weights")
        begun(weights=str(tmp_path / "bad.h5"))
    net = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(32, 32, 3))
    for path in (tmp_path / "net.weights.h5", tmp_path / "net.h5"):
        net.save(path) if path.name == "net.h5" else net.save_weights(path)
        student, told = begun("MobileNet", weights=str(path))
        np.testing.assert_array_equal(student.get_weights()[0], net.get_weights()[0])
        assert told == []
        with pytest.raises(DistillError, match="student.weights: "):
            begun(weights=str(path))


def test_rows_go_by_name():
    old, new = np.arange(6.0).reshape(3, 2), np.full((4, 2), 9.0)
    rows, kept = rows_by_name(["ann", None, "bob"], old, ["bob", "cid", "ann", "dot"], new)
    np.testing.assert_array_equal(rows, [[4, 5], [9, 9], [0, 1], [9, 9]])
    assert kept == 2 and (new == 9).all()
    rows, kept = rows_by_name([], np.zeros((0, 2)), ["ann"], new[:1])
    assert kept == 0 and (rows == 9).all()


def test_a_projection_needs_a_dimension():
    with pytest.raises(DistillError, match='student.projection = "export" ends in the dimension of a teacher, and none is given. Use projection = "train".'):
        begun(projection="export")
