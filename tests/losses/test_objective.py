"""Terms at work: each class of options fits its function, and what has state keeps it in checkpoints and out of students and exports."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

from distill.config.losses import TERMS, Cosine, Mse, Softmax, SumOfSquares
from distill.config.run import Run
from distill.errors import DistillError
from distill.losses.adaptive import adaface, curricularface, next_norms
from distill.losses.embedding import cosine_distance, mse, queue_similarity, sum_of_squares, unit
from distill.losses.margin import softmax
from distill.losses.metric import moved_centres, moved_centres_mean
from distill.losses.objective import OBJECTIVES
from distill.training import stages
from distill.training.run_folder import RunFolder
from distill.training.table import table_columns
from distill.training.trainer import train
from tests.losses.rows import DIMENSION, E, T, gradients, mean

WITH_STATE = {  # the functions that take their options
    "queue": [queue_similarity],
    "curricularface": [curricularface],
    "adaface": [adaface, next_norms],
    "centre": [moved_centres],
    "centre_mean": [moved_centres_mean],
}


@pytest.mark.parametrize("name", TERMS)
def test_options_of_a_term_are_the_arguments_of_its_function(name):
    functions = WITH_STATE.get(name) or [OBJECTIVES[name](TERMS[name]()).function]
    arguments = [argument for function in functions for argument in inspect.signature(function).parameters.values()]
    options = {key: value for key, value in TERMS[name]().options.items() if (name, key) != ("queue", "size")}
    assert {argument.name: argument.default for argument in arguments if argument.default is not argument.empty} == options


def test_every_kind_of_term_has_an_objective():
    assert OBJECTIVES.keys() == TERMS.keys()
    assert all(len(OBJECTIVES[name](kind()).variables) == 0 for name, kind in TERMS.items())
    assert {name for name in TERMS if not hasattr(OBJECTIVES[name](TERMS[name]()), "function")} == WITH_STATE.keys()


def test_headings_fit_their_columns_and_are_whole_words():
    for name, kind in TERMS.items():
        column = next(one for one in table_columns([name, "softmax" if name == "mse" else "mse"], 200) if one.name == name)
        assert all(len(line) <= column.width for line in column.heading) and column.width <= 10 and "-" not in kind.heading


def test_gradient_scales_are_in_one_unit():
    """On unit vectors mse with weight 1 in 512 dimensions has the gradient scale of cosine with weight 1/256."""
    assert Mse().gradient_scale(512, 1.0) == Cosine().gradient_scale(512, 1.0) / 256
    assert mean(mse(unit(T), unit(E))) == pytest.approx(Mse().gradient_scale(DIMENSION, 1.0) * mean(cosine_distance(T, E)), rel=1e-5)
    assert mean(sum_of_squares(unit(T), unit(E))) == pytest.approx(SumOfSquares().gradient_scale(DIMENSION, 1.0) * mean(cosine_distance(T, E)), rel=1e-5)
    row = gradients(lambda c: 2.0 * softmax(np.array([0], np.int32), c, 16.0), [[-1.0, 1.0]])
    assert np.abs(row).max() == pytest.approx(2.0 * Softmax(scale=16.0).gradient_scale(8, 1.0), rel=1e-4)


# ------------------------------------------------------------------------------------------------------------------------------ state


class Centred:
    """Squared distance from the teacher, both without the mean of the teacher's embeddings so far: mean <- (9 mean + mean of the batch) / 10."""

    def __init__(self, term):
        self.term, self.variables = term, []

    def build(self, dimension, embedding, classes):
        self.variables = [keras.Variable(np.zeros(dimension, "float32"), trainable=False, name="mean")]

    def __call__(self, batch, predicted, training):
        (middle,) = self.variables
        if training:
            middle.assign(0.9 * middle + 0.1 * ops.mean(batch["embedding"], axis=0))
        return mse(unit(batch["embedding"] - middle), unit(predicted["embedding"] - middle))


class Rows:
    """Ten rows in batches of five; every embedding is (1, 2, 3, 4), and the classes are 0, 1, 2, 0, 1."""

    name, fields, image_shape, dimension, classes = "shards", ("embedding", "label"), (8, 8, 3), 4, 3
    rows, batch, steps, left_out, class_names = 10, 5, 2, {}, ()
    broken = None

    def epoch(self, number, start=0):
        if number == self.broken:
            raise DistillError("broken off")
        for step in range(self.steps):
            pixels = np.random.default_rng([number, step]).integers(0, 256, (5, *self.image_shape), np.uint8)
            yield pixels, {"embedding": np.tile(np.arange(1, 5, dtype=np.float32), (5, 1)), "label": np.arange(5, dtype=np.int32) % 3}

    def epoch_images(self, number):
        yield from (images for images, _ in self.epoch(number))

    def teaches_nothing(self, field):
        return ""

    def identity(self):
        return "ten rows"


class HeldOut(Rows):
    """The same rows, which change no state."""


@pytest.fixture(scope="module")
def centred(tmp_path_factory):
    """A run of two stages of two epochs, in which the term "cosine" has state, and in the second of which all others are that have; its source, and the
    folder where it was trained."""
    rows, folder = Rows(), tmp_path_factory.mktemp("state") / "whole"
    stage = {"epochs": 2, "optimizer": {"learning_rate": 1e-2}, "terms": [{"name": "cosine"}]}
    terms = [{"name": "cosine"}, {"name": "mse"}, *({"name": name} | ({"size": 16} if name == "queue" else {}) for name in WITH_STATE)]
    data = {"shards": "rows", "batch": 5, "holdout": {"by": "key", "fraction": 0.5}}
    run = Run.model_validate({"student": {"widths": [4], "embedding": 4}, "data": data, "stage": [stage, {**stage, "terms": terms}]})
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(OBJECTIVES, "cosine", Centred)
        patched.setitem(stages.SOURCES, "shards", lambda run, stage, teacher: (rows, HeldOut()))
        train(run, folder, quiet=True)
        yield run, rows, folder


def test_state_moves_in_training_alone_and_goes_on_from_a_checkpoint(centred, tmp_path):
    """After n steps the mean is (1 - .9^n) of (1, 2, 3, 4): two steps an epoch, and none of the held-out rows."""
    run, rows, folder = centred
    _, whole = RunFolder(folder).load()
    for stage in (1, 2):
        np.testing.assert_allclose(whole[f"stage_{stage}_cosine/0"], (1 - 0.9**4) * np.arange(1, 5), rtol=1e-5)
    assert (whole["stage_2_queue/1"], whole["stage_2_queue/2"]) == (20 % 16, 16)  # four steps of five rows
    assert whole["stage_2_adaface/1"] < 100 * 0.99**4 + 1 and whole["stage_2_curricularface/0"] != 0 and whole["stage_2_centre/0"].all()

    rows.broken = 3  # the second epoch of the second stage
    with pytest.raises(DistillError, match="broken off"):
        train(run, tmp_path / "stopped", quiet=True)
    _, stopped = RunFolder(tmp_path / "stopped").load()
    np.testing.assert_allclose(stopped["stage_2_cosine/0"], (1 - 0.9**2) * np.arange(1, 5), rtol=1e-5)
    assert (stopped["stage_2_queue/1"], stopped["stage_2_queue/2"]) == (10, 10)
    rows.broken = None
    train(run, tmp_path / "stopped", quiet=True)
    _, after = RunFolder(tmp_path / "stopped").load()
    assert after.keys() == whole.keys()
    for name in after:
        np.testing.assert_array_equal(after[name], whole[name])


def test_state_is_in_no_student_and_so_in_no_export(centred):
    """student.keras, of which alone an export is made, has the weights of the student, one for one, and nothing beside them."""
    _, _, folder = centred
    _, arrays = RunFolder(folder).load()
    stored = [array for name, array in arrays.items() if name.startswith("student/") and array.dtype == np.float32]  # dropout's random state stays behind
    saved = keras.models.load_model(folder / "student.keras", compile=False).get_weights()
    for one, other in zip(saved, stored, strict=True):
        np.testing.assert_array_equal(one, other)
    state = {"stage_1_cosine/0", "stage_2_cosine/0", "stage_2_adaface/0", "stage_2_adaface/1", "stage_2_centre/0", "stage_2_centre_mean/0"}
    state |= {"stage_2_curricularface/0", "stage_2_queue/0", "stage_2_queue/1", "stage_2_queue/2"}
    assert {name for name in arrays if name.startswith("stage_")} == state
