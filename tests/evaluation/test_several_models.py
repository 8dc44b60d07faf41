"""Several models in one evaluation: what they are called, what they are compared with, how they are loaded, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import distill
import teachers
from distill import DistillError
from distill.api.evaluating import _taken
from distill.cli.evaluating import _asked_and_left_out
from distill.evaluation.evaluate import evaluate_models
from distill.evaluation.model_names import short_names
from distill.evaluation.pair_sets import drawn_set
from distill.evaluation.request import EvaluationRequest
from distill.results import EvaluateResult, Judged
from tests.builders import FirstColour
from tests.conftest import inside


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a", "runs/b"], ["a", "b"]),
        (["runs/a", "old/a", "runs/b"], ["runs-a", "old-a", "b"]),
        (["/x/1/student.keras", "/x/2/student.keras"], ["1-student.keras", "2-student.keras"]),
        (["/a", "/b/a"], ["a", "b-a"]),
        (["/a-b/c", "/a/b-c"], ["c", "b-c"]),
        (["/a-b/c", "/d/a-b-c", "/e/c"], ["a-b-c", "d-a-b-c", "e-c"]),
        (["/y/teacher", "/y/student"], ["y-teacher", "student"]),
        (["/teacher"], ["teacher-2"]),
        (["/x/../y/a", "/y/b/."], ["a", "b"]),
        (["/"], ["model"]),
    ],
)
def test_models_are_called_by_the_last_parts_of_their_paths(paths, names):
    assert short_names([Path(path) for path in paths], {"teacher"}) == names


PARTS = st.text("ab-", min_size=1, max_size=3)


@given(st.lists(st.lists(PARTS, min_size=1, max_size=3).map(lambda parts: "/" + "/".join(parts)), min_size=1, max_size=6, unique=True))
def test_names_are_different_and_parts_of_file_names(paths):
    names = short_names([Path(path) for path in paths], {"a", "model"})
    assert len(set(names)) == len(paths) and not {"a", "model"} & set(names) and not any("/" in name for name in names)


def test_differences_are_to_the_first_model_where_there_is_no_teacher(faces):
    sets = (drawn_set(faces, 60),)
    models = {"one": ("1", lambda: FirstColour(32, 32)), "two": ("2", lambda: FirstColour(32, 32, 2)), "three": ("3", lambda: FirstColour(32, 32))}
    found = evaluate_models(models, EvaluationRequest(sets=sets, resamples=100, reference="one"))
    assert "minus_first" not in found["one"]["pairs"]
    assert found["two"]["pairs"]["minus_first"]["auc"]["value"] == pytest.approx(found["two"]["pairs"]["auc"] - found["one"]["pairs"]["auc"])
    assert found["three"]["pairs"]["minus_first"]["auc"] == {"value": 0.0, "low": 0.0, "high": 0.0}


@pytest.fixture(scope="module")
def judged(faces, teacher, quick, tmp_path_factory):
    """A SavedModel of 32x32 pictures and an ONNX file, judged in one call."""
    out = tmp_path_factory.mktemp("judged")
    return distill.evaluate([teacher, quick], pairs=faces, number=200, resamples=50, speed=False, out=out, progress=False), out


def test_several_models_are_judged_in_the_order_given(judged, teacher, quick, faces):
    found, out = judged
    assert list(found.judged) == ["teacher", "mean.onnx"] and found.model is found.judged["teacher"]
    assert found.judged["mean.onnx"].minus_teacher and not found.judged["mean.onnx"].minus_first  # its reference is called "teacher"
    alone = distill.evaluate(quick, pairs=faces, number=200, resamples=50, progress=False)
    assert list(alone.judged) == ["model"]
    figures = dict(found.judged["mean.onnx"].figures["pairs"])
    figures.pop("minus_teacher")
    assert figures == alone.model.figures["pairs"]


def test_files_are_called_as_the_models_are_and_are_known_again(judged):
    found, out = judged
    assert json.loads((out / "evaluation.json").read_text()) == json.loads(json.dumps(found.as_dict()))
    with np.load(out / "scores-mean.onnx.npz") as held:
        assert len(held["scores"]) == 200
    told = json.loads(inside("inspect", out, "--json").stdout)
    assert told["kind"] == "evaluation" and told["mean.onnx"]["accuracy"] == found.judged["mean.onnx"].accuracy
    assert inside("inspect", out / "scores-mean.onnx.npz").returncode == 0


def test_a_model_is_let_go_when_the_next_one_comes(judged, teacher, quick):
    kept = [state[0].path for state, _ in teachers._loaded.values()]
    assert str(quick) in kept and str(teacher) not in kept


def test_what_cannot_be_judged_is_said_before_a_model_is_loaded(teacher, quick, faces, tmp_path, monkeypatch):
    monkeypatch.setattr(teachers.Teacher, "load", lambda self: pytest.fail("loaded"))
    for models, options, said in (
        ([teacher, tmp_path / "gone"], {}, "No model at .*gone"),
        ([teacher, teacher / "saved_model.pb"], {}, f"evaluate: {teacher} and {teacher}/saved_model.pb are the same model, {teacher}. Name each model once"),
        ([quick, teacher], {"teacher": teacher}, f"{teacher} and --teacher {teacher} are the same model"),
        ([teacher, quick], {"preset": "unit"}, "--preset: of which of the 2 models.*--teacher"),
        ([], {}, "no model is given"),
        ([teacher, 3], {}, r"received model=3 \(int\), expected a path"),
        (teacher, {"number": "6"}, r"received number='6' \(str\), expected a whole number or None"),
        (teacher, {"numbers": 6}, "no argument 'numbers'. Did you mean number"),
    ):
        with pytest.raises(DistillError, match=said):
            distill.evaluate(models, pairs=faces, out=tmp_path / "out", progress=False, **options)
    assert not (tmp_path / "out").exists()


def test_what_a_model_cannot_do_is_said_with_its_name(faces):
    class Lost(FirstColour):
        def __call__(self, images):
            return np.full((len(images), 3), np.nan, np.float32)

    models = {"good": ("1", lambda: FirstColour(32, 32)), "lost": ("2", lambda: Lost(32, 32))}
    with pytest.raises(DistillError, match=r"^lost: the model's embedding of .* is not finite"):
        evaluate_models(models, EvaluationRequest(sets=(drawn_set(faces, 60),), reference="good"))


def test_models_of_different_sizes_stand_side_by_side(faces):
    """Each is given images of its own size; without --resize those of another size are refused, with the name of the model."""
    seen = {}

    class Sees(FirstColour):
        def __call__(self, images):
            seen.setdefault(self.height, set()).add(images.shape[1:])
            return super().__call__(images)

    models = {"large": ("1", lambda: Sees(32, 32)), "small": ("2", lambda: Sees(16, 24))}
    found = evaluate_models(models, EvaluationRequest(sets=(drawn_set(faces, 60),), resize="stretch", resamples=0, reference="large"))
    assert seen == {32: {(32, 32, 3)}, 16: {(16, 24, 3)}} and found["small"]["pairs"]["accuracy"] > 0
    with pytest.raises(DistillError, match=r"^small: .*the image is 32x32 \(height x width\), expected 16x24"):
        evaluate_models(models, EvaluationRequest(sets=(drawn_set(faces, 60),), reference="large"))


def test_a_long_name_is_cut_in_bytes_since_it_is_part_of_a_file_name():
    (name,) = short_names([Path("runs") / ("가" * 80)])
    assert name == "가" * 40


def test_model_is_the_name_of_one_alone_and_teacher_that_of_the_first():
    zoo = [Path("zoo/model"), Path("zoo/teacher")]
    assert short_names(zoo, _taken(zoo, None)) == ["zoo-model", "zoo-teacher"]
    assert short_names(zoo[::-1], _taken(zoo[::-1], None)) == ["teacher", "zoo-model"]
    assert short_names(zoo[::-1], _taken(zoo[::-1], "other")) == ["zoo-teacher", "zoo-model"]


def test_what_was_asked_for_and_could_not_be_done_is_no_success():
    figures = {"path": "r", "cost": {"left_out": {"latency": "no CPU"}}, "leaks": {"bound": 0.95, "near_duplicates": {"left_out": "no embeddings"}}}
    found = EvaluateResult({"model": Judged("r", figures)})
    assert _asked_and_left_out(found, {"speed": True, "leaks": True}) == ["the time of model (no CPU)", "near duplicates (no embeddings)"]
    assert _asked_and_left_out(found, {"speed": None, "leaks": None}) == []
