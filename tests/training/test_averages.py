"""Averaged weights: they are what is evaluated, saved and handed on, while training goes on from the weights themselves."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from distill.config.optimizer import AdamW
from distill.errors import DistillError
from distill.evaluation.verification import cosine_scores
from distill.training import stages
from distill.training.model import Training, build_parts
from distill.training.moves import describe_moves
from distill.training.run_folder import RunFolder
from distill.training.stages import open_stages
from distill.training.trainer import train
from tests.training.test_trainer import ADAM, ARCFACE, COSINE, Arrays, figures_of, history_of, run_of, use

HOLDOUT = {"by": "key", "fraction": 0.2}


@pytest.fixture(autouse=True)
def arrays(monkeypatch):
    monkeypatch.setattr(stages, "SOURCES", dict(stages.SOURCES))
    use()


def averaged_run(ema=0.9, **options):
    """Two stages whose learning rates are large enough for weights and averages to differ."""
    first = {"epochs": 2, "optimizer": {**ADAM, **({"ema": ema} if ema else {})}, "terms": [COSINE]}
    second = {"epochs": 2, "optimizer": {"name": "sgd", "learning_rate": 0.02, "ema": 0.8, "accumulate": 2}, "terms": [COSINE, ARCFACE]}
    return run_of(first, second, student={"dropout": 0.3}, **options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("averaged")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "SOURCES", dict(stages.SOURCES))
        use()
        train(averaged_run(holdout=HOLDOUT), folder, quiet=True)
    return folder


@pytest.mark.parametrize(
    "broken", [pytest.param(1, id="within stage 1"), pytest.param(2, id="between the stages"), pytest.param(3, id="within stage 2", marks=pytest.mark.slow)]
)
def test_a_run_that_was_broken_off_ends_as_a_whole_one(tmp_path, whole, broken):
    class Broken(Arrays):
        pass

    Broken.broken = (broken, DistillError("broken off"))
    use({"shards": Broken})
    run = averaged_run(holdout=HOLDOUT)
    with pytest.raises(DistillError, match="broken off"):
        train(run, tmp_path, quiet=True)
    progress, arrays = RunFolder(tmp_path).load()
    parts = build_parts(run, open_stages(run))
    averages = averages_in(run, parts, progress, arrays)
    names = {name for name, variable in parts.variables().items() if variable.trainable and name in averages}
    assert {np.array_equal(arrays[name], averages[name]) for name in names if name.endswith("/0")} == {progress.epoch == 2}  # conv1, the head
    use()
    train(run, tmp_path, quiet=True)
    assert figures_of(tmp_path) == figures_of(whole)
    (_, one), (_, other) = (RunFolder(folder).load() for folder in (tmp_path, whole))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def averages_in(run, parts, progress, arrays):
    """Returns the averages that a checkpoint holds, by the name of what they are of."""
    from distill.training.model import compiled

    model, _ = compiled(run, open_stages(run)[progress.stage], parts)
    for number, variable in enumerate(model.optimizer.variables):
        variable.assign(arrays[f"optimizer/{number}"])
    model.optimizer.finalize_variable_values(model.trainable_variables)
    return {name: np.array(variable) for name, variable in parts.variables().items() if any(variable is each for each in model.trainable_variables)}


def test_what_is_saved_is_what_was_evaluated(whole):
    """Batch norm's averages are those of the averaged weights."""
    images, fields = next(Arrays(part="held_out", batch=300).epoch(0))
    rows = history_of(whole)
    best = min(rows[2:], key=lambda row: float(row["held_out_loss"]))
    for saved, row in (("student.keras", rows[-1]), ("checkpoints/best.keras", best)):
        student = keras.models.load_model(whole / saved, compile=False)
        given = cosine_scores(fields["embedding"], np.asarray(student(images.astype(np.float32)))).mean()
        assert given == pytest.approx(float(row["held_out_agreement"]), abs=1e-4)


def test_training_goes_on_from_the_weights_themselves(tmp_path, whole):
    """The loss of each epoch of the first stage is that of a run without averages, in all its digits; held-out figures are not."""
    run = averaged_run(ema=None, holdout=HOLDOUT)
    train(run.model_copy(update={"stage": run.stage[:1]}), tmp_path, quiet=True)
    (one, other) = ([row for row in history_of(folder) if row["stage"] == "1"] for folder in (tmp_path, whole))
    assert [row["loss"] for row in one] == [row["loss"] for row in other]
    assert [row["held_out_loss"] for row in one] != [row["held_out_loss"] for row in other]


def test_without_held_out_rows_the_averages_are_saved_too(tmp_path):
    """In the middle of a stage best.keras has the averages, and the checkpoint the weights that go on."""

    class Broken(Arrays):
        broken = (1, DistillError("broken off"))

    use({"shards": Broken})
    run = run_of({"epochs": 2, "optimizer": {**ADAM, "ema": 0.5}, "terms": [COSINE]})
    with pytest.raises(DistillError, match="broken off"):
        train(run, tmp_path, quiet=True)
    progress, arrays = RunFolder(tmp_path).load()
    averages = averages_in(run, build_parts(run, open_stages(run)), progress, arrays)
    student = keras.models.load_model(tmp_path / "checkpoints" / "best.keras", compile=False)
    for weight, (name, average) in zip(student.trainable_weights, averages.items(), strict=True):
        np.testing.assert_array_equal(weight, average)
        assert not np.array_equal(arrays[name], average)


@pytest.mark.parametrize(
    ("optimizer", "lines"),
    [
        ({"ema": 0.5}, ["  averaged: evaluated and saved are the weights as averaged with ema = 0.5"]),
        (
            # ten steps, nine after the first: .9 ** 9 = .387; .01 ** (1 / 9) = .5994
            {"ema": 0.9},
            [
                "  averaged: evaluated and saved are the weights as averaged with ema = 0.9",
                "  warning: after 10 updates with ema = 0.9 39% of the average are still the weights of the first update. "
                "1% or less takes ema = 0.5994 or less, or more epochs.",
            ],
        ),
        ({"accumulate": 4}, ["  accumulated: one update for each 4 batches, 2 updates in all; of the last 2 batches of the stage none is made"]),
        ({"accumulate": 10}, ["  accumulated: one update for each 10 batches, 1 update in all"]),
        ({}, []),
    ],
)
def test_what_is_averaged_and_accumulated_is_told(optimizer, lines):
    run = run_of({"epochs": 2, "optimizer": optimizer, "terms": [COSINE]})
    data = open_stages(run)[0]
    assert describe_moves(Training(build_parts(run, [data]), data), data) == lines


def test_a_stage_without_one_update_is_refused():
    with pytest.raises(
        DistillError, match=r"stage 1: an update takes accumulate = 11 batches, but the stage has 10 steps in 2 epochs. Use a smaller accumulate"
    ):
        open_stages(run_of({"epochs": 2, "optimizer": {"accumulate": 11}, "terms": [COSINE]}))
    assert AdamW(accumulate=10).too_long(2, 5) == ""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="JAX is not installed")
def test_all_that_moves_weights_does_so_on_jax():
    here = Path(__file__).parent
    files = [here / f"test_{name}.py" for name in ("rate", "optimizers", "layers", "averages")]
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-m", "not slow", *files]
    done = subprocess.run(words, cwd=here.parents[1], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
