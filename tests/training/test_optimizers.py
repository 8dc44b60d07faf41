"""How the weights move: one step by hand, what weight decay leaves alone, and learning rates and decays of layers that have their own."""

import keras
import numpy as np
import pytest

from distill.config.optimizer import Adam, AdamW, Sgd
from distill.config.schedule import Constant, Polynomial
from distill.training.optimizers import build_optimizer, last_rate
from distill.training.rate import Rate

RATE = 0.1


def step(optimizer, gradients, *, multiplied=(), start=1.0, precision="float32"):
    """Returns two kernels of one number after steps with these gradients for both, the first multiplied as (learning rate, weight decay)."""
    kernels = [keras.Variable(np.full((1, 1), start, "float32"), name=name) for name in ("first", "second")]
    table = [(kernels[0], *multiplied)] if multiplied else []
    made = build_optimizer(optimizer, Rate(Constant(), RATE, 10), kernels, precision, table)
    for gradient in gradients:
        apply(made, kernels, [np.full((1, 1), gradient, "float32")] * 2)
    return [float(kernel[0, 0]) for kernel in kernels], made


def apply(optimizer, kernels, gradients):
    """One step as fit() takes it: without state under JAX."""
    if keras.backend.backend() != "jax":
        optimizer.apply(gradients)
        return
    state = [variable.value for variable in optimizer.variables]
    for variables, values in zip(
        (kernels, optimizer.variables), optimizer.stateless_apply(state, gradients, [kernel.value for kernel in kernels]), strict=True
    ):
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def test_weight_decay_leaves_biases_norms_and_slopes_alone():
    slope = keras.layers.PReLU(shared_axes=[1, 2])
    model = keras.Sequential([keras.Input((4, 4, 2)), keras.layers.Conv2D(3, 3), keras.layers.BatchNormalization(), slope])
    rate = Rate(Constant(), RATE, 10)
    everywhere = [(variable, 1.0, 2.0) for variable in model.trainable_variables]
    for multiplied, kernel in (((), 0.95), (everywhere, 0.9)):
        optimizer = build_optimizer(Sgd(learning_rate=RATE, weight_decay=0.5), rate, model.trainable_variables, "float32", multiplied)
        for variable in model.trainable_variables:
            variable.assign(np.ones(variable.shape))
        optimizer.apply([np.zeros(variable.shape, "float32") for variable in model.trainable_variables])
        after = {variable.name: float(np.asarray(variable).mean()) for variable in model.trainable_variables}
        assert after == {"kernel": pytest.approx(kernel), "bias": 1.0, "gamma": 1.0, "beta": 1.0, "alpha": 1.0}


@pytest.mark.parametrize(
    ("optimizer", "multiplied", "expected"),
    [
        # sgd: w - rate * decay * w - rate * gradient = 1 - .1 * .5 - .1 * 2
        (Sgd(weight_decay=0.5), (1.0, 1.0), 0.75),
        (Sgd(weight_decay=0.5), (3.0, 1.0), 1 - 0.3 * 0.5 - 0.3 * 2),
        (Sgd(weight_decay=0.5), (1.0, 10.0), 1 - 0.1 * 5 - 0.1 * 2),
        (Sgd(weight_decay=0.5), (3.0, 2.0), 1 - 0.3 * 1 - 0.3 * 2),
        (Sgd(weight_decay=0.5), (1.0, 0.0), 1 - 0.1 * 2),
        (Sgd(), (3.0, 1.0), 1 - 0.3 * 2),
        # Nesterov: the first step goes (1 + momentum) as far
        (Sgd(momentum=0.5), (3.0, 1.0), 1 - 0.3 * 2 * 1.5),
        (Sgd(momentum=0.5, nesterov=False), (3.0, 1.0), 1 - 0.3 * 2),
        # adam: the first step is the rate whatever the gradient, but for epsilon
        (Adam(), (3.0, 1.0), 1 - 0.3),
        (AdamW(weight_decay=0.5), (3.0, 2.0), 1 - 0.3 * 1 - 0.3),
        (AdamW(weight_decay=0.5), (1.0, 10.0), 1 - 0.1 * 5 - 0.1),
    ],
)
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_one_step_with_multipliers_by_hand(optimizer, multiplied, expected, precision):
    """The other kernel moves as it does without any."""
    gradient = 2.0 * (2**15 if precision == "mixed_float16" else 1)  # the loss scale, which is taken off again
    (first, second), _ = step(optimizer, [gradient], multiplied=multiplied, precision=precision)
    (plain, _), _ = step(optimizer, [gradient], precision=precision)
    assert first == pytest.approx(expected, abs=1e-5)
    assert second == plain


@pytest.mark.parametrize(
    ("optimizer", "kind"), [(Sgd(), keras.optimizers.SGD), (Adam(), keras.optimizers.Adam), (AdamW(weight_decay=0.1), keras.optimizers.AdamW)]
)
def test_without_multipliers_an_optimizer_is_that_of_keras(optimizer, kind):
    _, made = step(optimizer, [1.0])
    assert type(made) is kind
    alike, other = step(optimizer, [1.0, -3.0, 0.5], multiplied=(1.0, 1.0))
    assert type(other) is not kind and isinstance(other, kind)
    assert alike == step(optimizer, [1.0, -3.0, 0.5])[0]


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
@pytest.mark.parametrize(
    ("options", "gradients", "weight", "average"),
    [
        # weights 0.9, 0.8, 0.7; average 0.9, then 0.9 * 0.9 + 0.1 * 0.8 = 0.89, then 0.9 * 0.89 + 0.1 * 0.7
        ({"ema": 0.9}, [1, 1, 1], 0.7, 0.871),
        ({"accumulate": 2}, [1, 3, 5, 100], 0.8 - 5.25, None),  # means 2 and 52.5
        ({"accumulate": 2}, [1, 3, 5], 0.8, None),
        # weights 1, 0.9, 0.9, 0.7 at the four batches; after the second update 0.9 ** (1 / 2) of 0.9 and the rest of 0.7
        ({"accumulate": 2, "ema": 0.9}, [1, 1, 2, 2], 0.7, 0.9 * 0.9**0.5 + 0.7 * (1 - 0.9**0.5)),
        # the gradient of both kernels together has the length sqrt(2) * 4
        ({"clip_norm": 1.0}, [4], 1 - 0.1 / 2**0.5, None),
        ({"clip_norm": 10.0}, [4], 0.6, None),
        ({"clip_value": 3.0}, [4], 0.7, None),
        ({"clip_value": 3.0, "accumulate": 2}, [1, 4], 0.75, None),  # of the mean, 2.5
    ],
)
def test_clipping_accumulation_and_averages_by_hand(options, gradients, weight, average, precision):
    scale = 2**15 if precision == "mixed_float16" else 1  # the loss scale, which is taken off again
    weights, made = step(Sgd(learning_rate=RATE, **options), [scale * gradient for gradient in gradients], precision=precision)
    assert weights == pytest.approx([weight] * 2, abs=1e-5)
    kernels = getattr(made, "inner_optimizer", made)._trainable_variables
    made.finalize_variable_values(kernels)
    assert [float(kernel[0, 0]) for kernel in kernels] == pytest.approx([weight if average is None else average] * 2, abs=1e-5)


def test_the_rate_told_is_that_of_the_last_update():
    """A rate of 10 steps that falls by 0.1 each. With three batches an update, step 2 is the first that has one."""
    for accumulate, expected in ((1, [1, 1, 0.9, 0.8, 0.7, 0.6, 0.5]), (3, [1, 1, 1, 0.8, 0.8, 0.8, 0.5])):
        kernel = keras.Variable(np.ones((1, 1), "float32"))
        rate = Rate(Polynomial(), 1.0, 10)
        made = build_optimizer(Sgd(accumulate=accumulate), rate, [kernel], "float32")
        seen = [last_rate(rate, made)]
        for _ in range(6):
            made.apply([np.ones((1, 1), "float32")])
            seen.append(last_rate(rate, made))
        assert seen == pytest.approx(expected)
    assert float(kernel[0, 0]) == pytest.approx(1 - 0.8 - 0.5)


def test_slots_are_the_numbers_for_each_weight_that_an_optimizer_keeps():
    for optimizer, expected in ((Sgd(), 0), (Sgd(momentum=0.9, accumulate=2), 2), (AdamW(), 2), (AdamW(ema=0.9, accumulate=2), 4)):
        assert optimizer.slots == expected
        _, made = step(optimizer, [])
        assert sum(int(np.prod(variable.shape)) for variable in made.variables if len(variable.shape)) == 2 * expected
