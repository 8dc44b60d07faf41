"""Terms at work: each class of options fits its function, and what has state keeps it in checkpoints and out of students and exports."""

import inspect

import keras
import numpy as np
import pytest
from keras import ops

from distill.config.losses import TERMS, Cosine, Mse, Softmax
from distill.config.run import Run
from distill.errors import DistillError
from distill.losses.embedding import cosine_distance, mse, unit
from distill.losses.margin import softmax
from distill.losses.objective import OBJECTIVES
from distill.training import stages
from distill.training.run_folder import RunFolder
from distill.training.trainer import train
from tests.losses.rows import DIMENSION, E, T, gradients, mean


@pytest.mark.parametrize("name", TERMS)
def test_options_of_a_term_are_the_arguments_of_its_function(name):
    arguments = list(inspect.signature(OBJECTIVES[name](TERMS[name]()).function).parameters.values())[2:]
    assert TERMS[name]().options.items() <= {argument.name: argument.default for argument in arguments}.items()


def test_every_kind_of_term_has_an_objective():
    assert OBJECTIVES.keys() == TERMS.keys() and all(OBJECTIVES[name](kind()).variables == () for name, kind in TERMS.items())


def test_gradient_scales_are_in_one_unit():
    """On unit vectors mse with weight 1 in 512 dimensions has the gradient scale of cosine with weight 1/256."""
    assert Mse().gradient_scale(512, 1.0) == Cosine().gradient_scale(512, 1.0) / 256
    assert mean(mse(unit(T), unit(E))) == pytest.approx(Mse().gradient_scale(DIMENSION, 1.0) * mean(cosine_distance(T, E)), rel=1e-5)
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
    """Ten rows in batches of five; every embedding is (1, 2, 3, 4)."""

    name, fields, image_shape, dimension, classes = "shards", ("embedding",), (8, 8, 3), 4, 0
    rows, batch, steps, left_out, class_names = 10, 5, 2, {}, ()
    broken = None

    def epoch(self, number, start=0):
        if number == self.broken:
            raise DistillError("broken off")
        for step in range(self.steps):
            pixels = np.random.default_rng([number, step]).integers(0, 256, (5, *self.image_shape), np.uint8)
            yield pixels, {"embedding": np.tile(np.arange(1, 5, dtype=np.float32), (5, 1))}

    def epoch_images(self, number):
        yield from (images for images, _ in self.epoch(number))

    def teaches_nothing(self, field):
        return ""

    def identity(self):
        return "ten rows"


class HeldOut(Rows):
    """The same rows, which change no state."""


@pytest.fixture
def centred(monkeypatch):
    """A run of two stages of two epochs, in which the term "cosine" has state; its sources, the one to learn from and the held-out one."""
    monkeypatch.setitem(OBJECTIVES, "cosine", Centred)
    rows = Rows()
    monkeypatch.setitem(stages.SOURCES, "shards", lambda run, stage, teacher: (rows, HeldOut()))
    stage = {"epochs": 2, "optimizer": {"learning_rate": 1e-2}, "terms": [{"name": "cosine"}]}
    data = {"shards": "rows", "batch": 5, "holdout": {"by": "key", "fraction": 0.5}}
    run = Run.model_validate(
        {"student": {"widths": [4], "embedding": 4}, "data": data, "stage": [stage, {**stage, "terms": [{"name": "cosine"}, {"name": "mse"}]}]}
    )
    return run, rows


def test_state_moves_in_training_alone_and_goes_on_from_a_checkpoint(centred, tmp_path):
    """After n steps the mean is (1 - .9^n) of (1, 2, 3, 4): two steps an epoch, and none of the held-out rows."""
    run, rows = centred
    train(run, tmp_path / "whole", quiet=True)
    _, whole = RunFolder(tmp_path / "whole").load()
    for stage in (1, 2):
        np.testing.assert_allclose(whole[f"stage_{stage}_cosine/0"], (1 - 0.9**4) * np.arange(1, 5), rtol=1e-5)

    rows.broken = 3  # the second epoch of the second stage
    with pytest.raises(DistillError, match="broken off"):
        train(run, tmp_path / "stopped", quiet=True)
    _, stopped = RunFolder(tmp_path / "stopped").load()
    np.testing.assert_allclose(stopped["stage_2_cosine/0"], (1 - 0.9**2) * np.arange(1, 5), rtol=1e-5)
    rows.broken = None
    train(run, tmp_path / "stopped", quiet=True)
    _, after = RunFolder(tmp_path / "stopped").load()
    assert after.keys() == whole.keys()
    for name in after:
        np.testing.assert_array_equal(after[name], whole[name])


def test_state_is_in_no_student_and_so_in_no_export(centred, tmp_path):
    """student.keras, of which alone an export is made, has the weights of the student, one for one, and nothing beside them."""
    run, _ = centred
    train(run, tmp_path, quiet=True)
    _, arrays = RunFolder(tmp_path).load()
    stored = [array for name, array in arrays.items() if name.startswith("student/") and array.dtype == np.float32]  # dropout's random state stays behind
    saved = keras.models.load_model(tmp_path / "student.keras", compile=False).get_weights()
    for one, other in zip(saved, stored, strict=True):
        np.testing.assert_array_equal(one, other)
    assert {name for name in arrays if not name.startswith(("student/", "optimizer/"))} == {"stage_1_cosine/0", "stage_2_cosine/0"}
