"""Learning rates at every step, and schedules that are longer than their stage."""

import math

import keras
import numpy as np
import pytest
from pydantic import TypeAdapter

from distill.config.optimizer import Sgd
from distill.config.schedule import Schedule
from distill.errors import DistillError
from distill.training import stages
from distill.training.optimizers import build_optimizer
from distill.training.rate import Rate
from distill.training.rehearsal import rehearse
from distill.training.stages import open_stages
from distill.training.trainer import train
from tests.training.test_trainer import COSINE, run_of, use

SCHEDULES = TypeAdapter(Schedule)


def rates(schedule, steps, epoch_steps=1, peak=2.0):
    """Returns the share of the peak at every step."""
    rate = Rate(SCHEDULES.validate_python(schedule), peak, steps, epoch_steps)
    return np.array([float(rate(step)) for step in range(steps)]) / peak


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"name": "constant"}, [1, 1, 1, 1, 1]),
        ({"name": "constant", "warmup": 0.5}, [0.2, 0.4, 0.6, 0.8, 1.0]),
        ({"name": "cosine"}, [1, 0.975528, 0.904508, 0.793893, 0.654508]),
        ({"name": "cosine", "warmup": 0.2}, [0.5, 1, 1, 0.96194, 0.853553]),
        ({"name": "plateau"}, [1, 1, 1, 1, 1]),
    ],
)
def test_learning_rates_of_the_first_five_of_ten_steps(schedule, expected):
    np.testing.assert_allclose(rates(schedule, 10)[:5], expected, rtol=1e-5)
    if schedule["name"] == "cosine":
        assert float(Rate(SCHEDULES.validate_python(schedule), 2.0, 10)(10)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ({"name": "steps", "at": [3, 6]}, [1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01, 0.01]),
        ({"name": "steps", "at": [1, 3], "factor": 0.5, "unit": "epochs"}, [1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25, 0.25]),
        ({"name": "steps", "at": [1], "warmup": 0.3}, [1 / 3, 2 / 30, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]),
        ({"name": "exponential", "factor": 0.25, "every": 2}, [1, 0.5, 0.25, 0.125, 2**-4, 2**-5, 2**-6, 2**-7, 2**-8, 2**-9]),
        ({"name": "exponential", "factor": 0.5, "every": 2, "unit": "epochs", "staircase": True}, [1, 1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25, 0.25]),
        ({"name": "exponential", "factor": 0.5, "every": 1, "warmup": 0.2}, [0.5, 1, 1, 0.5, 0.25, 0.125, 2**-4, 2**-5, 2**-6, 2**-7]),
        ({"name": "polynomial"}, [1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]),
        ({"name": "polynomial", "power": 2.0, "end": 0.2}, [0.2 + 0.8 * left**2 / 100 for left in range(10, 0, -1)]),
        ({"name": "polynomial", "warmup": 0.5}, [0.2, 0.4, 0.6, 0.8, 1, 1, 0.8, 0.6, 0.4, 0.2]),
        ({"name": "cosine", "end": 0.5}, [0.5 + 0.25 * (1 + math.cos(math.pi * step / 10)) for step in range(10)]),
        # a cycle of two steps: the whole peak, then half of it
        ({"name": "cosine_restarts", "cycle": 2}, [1, 0.5] * 5),
        ({"name": "cosine_restarts", "cycle": 2, "peak_factor": 0.5}, [1, 0.5, 0.5, 0.25, 0.25, 0.125, 0.125, 2**-4, 2**-4, 2**-5]),
        # of 2 and of 4 steps, then the beginning of one of 8: (1 + cos(pi / 4)) / 2 = .853553, (1 + cos(pi / 8)) / 2 = .961940
        ({"name": "cosine_restarts", "cycle": 1, "cycle_factor": 2.0, "unit": "epochs"}, [1, 0.5, 1, 0.853553, 0.5, 0.146447, 1, 0.961940, 0.853553, 0.691342]),
        ({"name": "cosine_restarts", "cycle": 4, "warmup": 0.2}, [0.5, 1, 1, 0.853553, 0.5, 0.146447, 1, 0.853553, 0.5, 0.146447]),
    ],
)
def test_learning_rates_of_all_ten_steps_of_five_epochs(schedule, expected):
    np.testing.assert_allclose(rates(schedule, 10, epoch_steps=2), expected, rtol=1e-5)


@pytest.mark.parametrize("name", ["constant", "cosine", "plateau"])
@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.5])
def test_learning_rates_of_every_step_are_those_of_the_formula(name, warmup):
    """peak (1 + cos(pi t)) / 2 with t from 0 after the warm-up to 1 at the last step, times (step + 1) / warm before; half of it after a plateau."""
    peak, steps, warm = 0.02, 40, math.ceil(warmup * 40)
    rate = Rate(SCHEDULES.validate_python({"name": name, "warmup": warmup}), peak, steps)
    expected = []
    for step in range(steps):
        fallen = (1 + math.cos(math.pi * max(0, step - warm) / (steps - warm))) / 2 if name == "cosine" else 1.0
        expected.append(peak * fallen * (min(1.0, (step + 1) / warm) if warm else 1.0))
    np.testing.assert_allclose([float(rate(step)) for step in range(steps)], expected, rtol=1e-6, atol=1e-6 * peak)
    build_optimizer(Sgd(learning_rate=peak), rate, [keras.Variable(np.ones(3, "float32"))], "float32")
    rate.factor.assign(0.5)
    np.testing.assert_allclose([float(rate(step)) for step in range(steps)], 0.5 * np.array(expected), rtol=1e-6, atol=1e-6 * peak)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"schedule": {"name": "steps", "at": [3, 10]}},
            'stage 2: schedule "steps" lowers the rate after 10 steps, but the stage has 10 steps in 2 epochs. Leave what is not before its end out of at',
        ),
        (
            {"schedule": {"name": "steps", "at": [2], "unit": "epochs"}},
            'schedule "steps" lowers the rate after 2 epochs, but the stage has 10 steps in 2 epochs',
        ),
        (
            {"schedule": {"name": "exponential", "factor": 0.5, "every": 10, "staircase": True}},
            'schedule "exponential" lowers the rate first after 10 steps, but the stage has 10 steps in 2 epochs. Use a smaller every, staircase = false',
        ),
        (
            {"schedule": {"name": "cosine_restarts", "cycle": 2, "unit": "epochs", "warmup": 0.05}},
            'schedule "cosine_restarts" has a first cycle of 2 epochs, but the stage has 10 steps in 2 epochs, of which 9 come after the warm-up. '
            "Use a shorter cycle, or train for more epochs.",
        ),
    ],
)
def test_what_is_longer_than_its_stage_is_refused_before_the_first_step(tmp_path, monkeypatch, options, message):
    monkeypatch.setattr(stages, "SOURCES", dict(stages.SOURCES))
    use()
    run = run_of({"terms": [COSINE]}, {"epochs": 2, "terms": [COSINE], **options})
    for refused in (lambda: train(run, tmp_path, quiet=True), lambda: rehearse(run)):
        with pytest.raises(DistillError) as caught:
            refused()
        assert message in str(caught.value)
    assert not (tmp_path / "history.csv").exists()


@pytest.mark.parametrize(
    "schedule",
    [
        {"name": "steps", "at": [9]},
        {"name": "steps", "at": [1], "unit": "epochs"},
        {"name": "exponential", "factor": 0.5, "every": 10},
        {"name": "cosine_restarts", "cycle": 2, "unit": "epochs"},
    ],
)
def test_what_just_fits_its_stage_is_taken(monkeypatch, schedule):
    monkeypatch.setattr(stages, "SOURCES", dict(stages.SOURCES))
    use()
    assert open_stages(run_of({"epochs": 2, "terms": [COSINE], "schedule": schedule}))
