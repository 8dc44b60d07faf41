"""model.json beside a model: who wins over whom, what it must not change, and what is refused."""

import json
import shutil

import numpy as np
import pytest

from distill import DistillError
from distill.api import load_described
from distill.data.shards import open_shards
from distill.images.preprocessing import PRESETS
from teachers import load_teacher, open_teacher
from teachers.model_json import FORMAT, path_beside, read_beside
from tests.conftest import folder, inside, put, store  # noqa: F401

BLACK = np.zeros((2, 32, 32, 3), np.uint8)


def say(model, **said):
    path_beside(str(model)).write_text(json.dumps({"format": FORMAT, "preprocessing": said}))


@pytest.fixture
def model(quick, tmp_path):
    return shutil.copy(quick, tmp_path / "mean.onnx")


def test_where_it_lies(tmp_path, model):
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "saved_model.pb").write_bytes(b"x")
    assert path_beside(str(tmp_path / "saved")) == tmp_path / "saved" / "model.json" and path_beside(str(model)) == tmp_path / "mean.model.json"


def test_a_word_wins_over_the_file_and_the_file_over_what_is_usual(model):
    plain = open_teacher(model)
    say(model, scale=0.5, offset=-1, color="bgr")
    beside = open_teacher(model)
    assert (beside.preprocessing.scale, beside.preprocessing.offset, beside.preprocessing.color) == (0.5, -1.0, "bgr")
    assert open_teacher(model, scale=2) == open_teacher(model, scale=2, offset=-1, color="bgr", beside=False)
    assert open_teacher(model, preset="unit", beside=False) == open_teacher(model, preset="unit")  # a preset says all three
    assert open_teacher(model, scale=1, offset=0, color="rgb") == open_teacher(model, beside=False) == plain
    np.testing.assert_array_equal(load_teacher(model)(BLACK), -np.ones((2, 3), np.float32))


def test_feeds_of_both_are_put_together(model):
    say(model, feed={"phase": False, "other": 1})
    assert open_teacher(model, feed={"other": "2"}).preprocessing.feed == (("other", "2"), ("phase", False))


@pytest.mark.parametrize("kind", ["saved_model", "onnx"])
def test_it_is_no_part_of_the_fingerprint(kind, tmp_path, model):
    if kind == "saved_model":
        model = tmp_path / "saved"
        (model / "variables").mkdir(parents=True)
        for name in ("saved_model.pb", "variables/variables.index"):
            (model / name).write_bytes(name.encode())
    mark = open_teacher(model).fingerprint()
    say(model, scale=0.5)
    assert open_teacher(model).preprocessing.scale == 0.5 and open_teacher(model).fingerprint() == mark


@pytest.mark.parametrize(
    "text, message",
    [
        ("{", "is no JSON"),
        ('{"format": "distill.model.2"}', '"format" is "distill.model.2", expected "distill.model.1"'),
        ('{"preprocessing": {}}', '"format" is null'),
        ('{"format": "distill.model.1", "prepocessing": {}}', 'unknown key "prepocessing"'),
        ('{"format": "distill.model.1", "preprocessing": {"colour": "bgr"}}', 'unknown key "colour" in "preprocessing". Known here: signature, output, scale'),
        ('{"format": "distill.model.1", "preprocessing": {"scale": "1"}}', '"scale" in "preprocessing" is "1", expected a number that is not 0'),
        ('{"format": "distill.model.1", "preprocessing": {"scale": true}}', "expected a number that is not 0"),
        ('{"format": "distill.model.1", "preprocessing": {"offset": NaN}}', "expected a number"),
        ('{"format": "distill.model.1", "preprocessing": {"scale": 1' + "0" * 400 + "}}", "expected a number that is not 0"),
        ('{"format": "distill.model.1", "preprocessing": {"color": "grb"}}', 'expected "rgb" or "bgr"'),
        ('{"format": "distill.model.1", "preprocessing": {"feed": ["a"]}}', "expected names with a constant each"),
        ('{"format": "distill.model.1", "preprocessing": {"tags": "serve"}}', "expected a list of names"),
        ('{"format": "distill.model.1", "preprocessing": [1]}', '"preprocessing" is [1]'),
    ],
)
def test_what_is_not_as_it_should_be_is_refused(text, message, model, faces, tmp_path):
    path_beside(str(model)).write_text(text)
    with pytest.raises(DistillError) as caught:
        open_teacher(model)
    assert message in str(caught.value) and str(path_beside(str(model))) in str(caught.value)
    assert open_teacher(model, beside=False).preprocessing.scale == 1


def test_a_file_of_another_program_is_left_alone(model):
    path_beside(str(model)).write_text('{"format": "graph-model", "modelTopology": {}}')  # TensorFlow.js
    assert read_beside(str(model)).said == {} and open_teacher(model).preprocessing.scale == 1
    done = inside("inspect", model, "--preset", "unit", "--save")
    assert done.returncode == 2 and "says something else" in done.stderr


def test_inspect_saves_what_it_was_told_and_all_verbs_take_it(model, faces, tmp_path):
    done = inside("inspect", model, "--preset", "insightface", "--save")
    where = tmp_path / "mean.model.json"
    assert done.returncode == 0 and f"{where}: scale 0.00784314, offset -1, color rgb" in done.stderr
    assert json.loads(where.read_bytes()) == {
        "format": "distill.model.1",
        "preprocessing": dict(zip(("scale", "offset", "color"), PRESETS["insightface"], strict=True)),
    }
    told = inside("embed", faces, tmp_path / "out", "--teacher", model, "--rows", 60)
    assert told.returncode == 0 and told.stderr.count(f"preprocessing from {where}: scale 0.00784314, offset -1, color rgb") == 1
    meta = open_shards(tmp_path / "out").meta
    assert (meta.reading.scale, meta.reading.offset, meta.reading.color) == (1 / 127.5, -1.0, "rgb")
    again = inside("inspect", model, "--preset", "insightface", "--save")
    assert again.returncode == 0 and "says this already" in again.stderr
    other = inside("inspect", model, "--scale", "2", "--save")
    assert other.returncode == 2 and "--force replaces it" in other.stderr and read_beside(str(model)).offset == -1
    assert inside("inspect", model, "--scale", "2", "--save", "--force").returncode == 0 and read_beside(str(model)).said == {"scale": 2.0}


def test_a_set_is_verified_with_the_reading_it_was_made_with(model, faces, tmp_path):
    """Also where that was the usual one, and model.json came later and says another."""
    assert inside("embed", faces, tmp_path / "out", "--teacher", model, "--rows", 60).returncode == 0
    say(model, scale=-0.5, offset=3, color="bgr", output="nowhere")
    done = inside("verify", tmp_path / "out", "--teacher", model)
    assert done.returncode == 0 and "worst cosine 1.0000000" in done.stdout and "model.json" not in done.stderr, done.stderr
    assert load_described(model, open_shards(tmp_path / "out").meta.reading, beside=False).pixels == "rgb * 1 + 0"  # as training proves it
    refused = inside("embed", faces, tmp_path / "out", "--teacher", model, "--rows", 60, "--scale", "1", "--offset", "0", "--color", "rgb")
    assert refused.returncode == 2 and "nowhere" in refused.stderr
    say(model, scale=-0.5)
    assert inside("embed", faces, tmp_path / "out", "--teacher", model, "--rows", 60, "--scale", "1").returncode == 0


def test_options_that_nothing_takes_are_refused(faces, model, tmp_path):
    done = inside("inspect", faces, "--scale", "2")
    assert done.returncode == 2 and "is no model, but image list" in done.stderr
    done = inside("inspect", model, "--save")
    assert done.returncode == 2 and "none is given" in done.stderr and not (tmp_path / "mean.model.json").exists()


def test_in_an_object_store(folder, quick):  # noqa: F811
    model = put(folder / "zoo" / "mean.onnx", quick.read_bytes())
    mark = open_teacher(model).fingerprint()
    assert inside("inspect", model, "--preset", "unit", "--save").returncode == 0
    assert open_teacher(model).preprocessing.scale == 1 / 255 and open_teacher(model).fingerprint() == mark
    assert (folder / "zoo" / "mean.model.json").is_file()
