"""The learning rate as a function of the step, inside the graph on every backend."""

import math
from typing import Any

import keras
from keras import ops

from distill.config.schedule import Cosine, CosineRestarts, Exponential, Polynomial, Schedule, Steps, in_steps


class Rate(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rate of a step, inside the graph: warm-up from 0, times what the schedule leaves of the peak, times `factor` (plateau).

    Not Keras' CosineDecay: its rates differ from these in the last bit at a fifth of the steps, so that equal seeds would give other figures than before.

    Args:
        peak: the rate that the warm-up ends with.
        steps: of the whole stage.
        epoch_steps: of an epoch, for schedules whose unit is epochs.

    >>> float(Rate(Steps(at=(3, 6)), 1.0, 10)(6))  # 0.1 ** 2
    0.01
    """

    def __init__(self, schedule: Schedule, peak: float, steps: int, epoch_steps: int = 1) -> None:
        self.schedule, self.peak, self.steps, self.epoch_steps = schedule, peak, steps, epoch_steps
        self.warm = schedule.warm(steps)
        self.factor: Any = None  # a variable of the optimizer: it is stored with it, and every backend sees it change

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        rate = ops.convert_to_tensor(self.peak, "float32")
        share = self._share(step)
        if share is not None:
            rate = rate * share
        if self.warm:
            rate = rate * ops.minimum(1.0, (step + 1.0) / self.warm)
        return rate if self.factor is None else rate * ops.cast(self.factor, "float32")

    def _share(self, step: Any) -> Any:
        """What the schedule leaves of the peak at a step, in [0, 1]; None where it is always 1."""
        schedule, after = self.schedule, ops.maximum(step - self.warm, 0.0)
        gone = ops.clip((step - self.warm) / max(1, self.steps - self.warm), 0.0, 1.0)
        if isinstance(schedule, Cosine):
            share = 0.5 * (1.0 + ops.cos(math.pi * gone))
            return schedule.end + (1.0 - schedule.end) * share if schedule.end else share
        if isinstance(schedule, Polynomial):
            return schedule.end + (1.0 - schedule.end) * ops.power(1.0 - gone, schedule.power)
        if isinstance(schedule, Steps):
            boundaries = ops.convert_to_tensor(schedule.boundaries(self.epoch_steps), "float32")
            return ops.power(schedule.factor, ops.sum(ops.cast(step >= boundaries, "float32")))
        if isinstance(schedule, Exponential):
            times = after / (schedule.every * in_steps(schedule.unit, self.epoch_steps))
            return ops.power(schedule.factor, ops.floor(times) if schedule.staircase else times)
        if isinstance(schedule, CosineRestarts):
            starts, lengths = (ops.convert_to_tensor(each, "float32") for each in zip(*schedule.cycles(self.steps - self.warm, self.epoch_steps), strict=True))
            cycle = ops.sum(ops.cast(after >= starts, "int32")) - 1
            share = 0.5 * (1.0 + ops.cos(math.pi * (after - ops.take(starts, cycle)) / ops.take(lengths, cycle)))
            return ops.power(schedule.peak_factor, ops.cast(cycle, "float32")) * share
        return None
