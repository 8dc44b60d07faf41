"""How the weights move: optimizers by name, and the learning rate as a function of the step, inside the graph on every backend."""

import math
from typing import Any, assert_never

import keras
from keras import ops

from distill.config.optimizer import Adam, AdamW, Cosine, Optimizer, Schedule, Sgd


class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of a step, inside the graph: warm-up from 0, then constant or half a cosine to 0, times `factor` (plateau).

    Not Keras' CosineDecay: its rates differ from these in the last bit at a fifth of the steps, so that equal seeds would give other figures than before.
    """

    def __init__(self, schedule: Schedule, peak: float, steps: int) -> None:
        self.schedule, self.peak, self.steps = schedule, peak, steps
        self.warm = math.ceil(schedule.warmup * steps)
        self.factor: Any = None  # a variable of the optimizer: it is stored with it, and every backend sees it change

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        rate = ops.convert_to_tensor(self.peak, "float32")
        if isinstance(self.schedule, Cosine):
            gone = ops.clip((step - self.warm) / max(1, self.steps - self.warm), 0.0, 1.0)
            rate = rate * 0.5 * (1.0 + ops.cos(math.pi * gone))
        if self.warm:
            rate = rate * ops.minimum(1.0, (step + 1.0) / self.warm)
        return rate if self.factor is None else rate * ops.cast(self.factor, "float32")


def build_optimizer(optimizer: Optimizer, rate: Rate, variables: list[Any], precision: str) -> Any:
    """The optimizer, built for the variables. Weight decay leaves biases, norms and slopes alone; float16 gets a moving loss scale."""
    decay = optimizer.weight_decay or None
    made: Any
    if isinstance(optimizer, Sgd):
        momentum = optimizer.momentum or 0.0
        made = keras.optimizers.SGD(rate, momentum=momentum, nesterov=momentum > 0, weight_decay=decay)
    elif isinstance(optimizer, Adam):
        made = keras.optimizers.Adam(rate)
    elif isinstance(optimizer, AdamW):
        made = keras.optimizers.AdamW(rate, weight_decay=optimizer.weight_decay)
    else:
        assert_never(optimizer)
    if decay:
        made.exclude_from_weight_decay(var_list=[each for each in variables if len(each.shape) < 2 or each.name == "alpha"])
    rate.factor = made.add_variable(shape=(), initializer="ones", dtype="float32", name="plateau_factor")
    if precision == "mixed_float16":
        made = keras.optimizers.LossScaleOptimizer(made)
    made.build(variables)
    return made
