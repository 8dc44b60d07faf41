"""How the weights move: learning rates at every step, and what weight decay leaves alone."""

import math

import keras
import numpy as np
import pytest
from pydantic import TypeAdapter

from distill.config.optimizer import Constant, Schedule, Sgd
from distill.training.optimizers import Rate, build_optimizer

SCHEDULES = TypeAdapter(Schedule)


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
    rate = Rate(SCHEDULES.validate_python(schedule), 2.0, 10)
    np.testing.assert_allclose([float(rate(step)) for step in range(5)], 2.0 * np.array(expected), rtol=1e-5)
    if schedule["name"] == "cosine":
        assert float(rate(10)) == pytest.approx(0, abs=1e-6)


def test_weight_decay_leaves_biases_norms_and_slopes_alone():

    slope = keras.layers.PReLU(shared_axes=[1, 2])
    model = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Conv2D(3, 3), keras.layers.BatchNormalization(), slope])
    rate = Rate(Constant(), 0.1, 10)
    optimizer = build_optimizer(Sgd(learning_rate=0.1, weight_decay=0.5), rate, model.trainable_variables, "float32")
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    optimizer.apply([np.zeros(variable.shape, "float32") for variable in model.trainable_variables])
    after = {variable.name: float(np.asarray(variable).mean()) for variable in model.trainable_variables}
    assert after == {"kernel": pytest.approx(0.95), "bias": 1.0, "gamma": 1.0, "beta": 1.0, "alpha": 1.0}


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
