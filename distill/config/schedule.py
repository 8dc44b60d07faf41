"""Learning-rate schedules: how the rate of a stage falls, one class a kind with exactly its own fields. The rates are computed in distill/training/rate.py.

The first line of a class is what `distill init --list` says of it. A step is a batch, and steps count from 0.
"""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from distill.config.fields import AboveZero, Positive, Share, later, usually
from distill.runtime.lines import many
from distill.storage.frozen import Frozen, Several

Unit = Literal["steps", "epochs"]
Fraction = Annotated[FiniteFloat, Field(gt=0, lt=1)]


class Warmed(Frozen):
    """A schedule. warmup: the fraction of the stage's steps over which the rate rises from 0."""

    name: str
    warmup: Share = 0.0

    def warm(self, steps: int) -> int:
        """Returns over how many of the stage's steps the rate rises.

        >>> Constant(warmup=0.05).warm(30)
        2
        """
        return math.ceil(self.warmup * steps)

    def too_long(self, epochs: int, epoch_steps: int) -> str:
        """Returns in words why a stage of so many epochs of so many steps ends before what the schedule says has come; "" where it does not."""
        return ""


class Constant(Warmed):
    """The same rate at every step."""

    name: Literal["constant"] = "constant"


class Cosine(Warmed):
    """Half a cosine after the warm-up, which falls to `end` of the rate at the end of the stage."""

    name: Literal["cosine"] = "cosine"
    end: Share = later(0.0)


class Plateau(Warmed):
    """The same rate, times `factor` after `patience` epochs without a better (held-out) loss."""

    name: Literal["plateau"] = "plateau"
    factor: Fraction = 0.1
    patience: Positive = 3


class Steps(Warmed):
    """The rate times `factor` after each of `at`, which are steps or epochs from the start of the stage."""

    name: Literal["steps"] = "steps"
    at: Annotated[tuple[Positive, ...], Several, Field(min_length=1)]
    factor: Fraction = 0.1
    unit: Unit = "steps"

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if list(self.at) != sorted(set(self.at)):
            raise ValueError(f"at has to rise from one to the next, but is {[*self.at]}")
        return self

    def boundaries(self, epoch_steps: int) -> tuple[int, ...]:
        """Returns the first step of each lower rate, where an epoch has so many steps.

        >>> Steps(at=(10, 20), unit="epochs").boundaries(100)
        (1000, 2000)
        """
        return tuple(each * in_steps(self.unit, epoch_steps) for each in self.at)

    def too_long(self, epochs: int, epoch_steps: int) -> str:
        if self.boundaries(epoch_steps)[-1] < epochs * epoch_steps:
            return ""
        return (
            f'schedule "steps" lowers the rate after {many(self.at[-1], self.unit)}, but {_length(epochs, epoch_steps)}. '
            "Leave what is not before its end out of at, or train for more epochs."
        )


class Exponential(Warmed):
    """The rate times `factor` over each `every` steps or epochs after the warm-up, smoothly, or at once with staircase."""

    name: Literal["exponential"] = "exponential"
    factor: Fraction
    every: Positive
    unit: Unit = "steps"
    staircase: bool = False

    def too_long(self, epochs: int, epoch_steps: int) -> str:
        left = epochs * epoch_steps - self.warm(epochs * epoch_steps)
        if not self.staircase or self.every * in_steps(self.unit, epoch_steps) < left:
            return ""
        return (
            f'schedule "exponential" lowers the rate first after {many(self.every, self.unit)}, but {_length(epochs, epoch_steps, left)}. '
            "Use a smaller every, staircase = false, or train for more epochs."
        )


class Polynomial(Warmed):
    """A line after the warm-up down to `end` of the rate at the end of the stage, bent where `power` is not 1."""

    name: Literal["polynomial"] = "polynomial"
    power: AboveZero = 1.0
    end: Share = 0.0


class CosineRestarts(Warmed):
    """Half cosines to 0 after the warm-up, the first over `cycle` steps or epochs; each next one is cycle_factor as long and peak_factor as high."""

    name: Literal["cosine_restarts"] = "cosine_restarts"
    cycle: Positive
    cycle_factor: Annotated[FiniteFloat, Field(ge=1)] = 1.0
    peak_factor: Annotated[FiniteFloat, Field(gt=0, le=1)] = 1.0
    unit: Unit = "steps"

    def cycles(self, within: int, epoch_steps: int) -> list[tuple[int, int]]:
        """Returns the start and the length of each cycle that begins within so many steps after the warm-up.

        >>> CosineRestarts(cycle=10, cycle_factor=2.0).cycles(100, 1)
        [(0, 10), (10, 20), (30, 40), (70, 80)]
        """
        found, start, length = [], 0, float(self.cycle * in_steps(self.unit, epoch_steps))
        while start < within:
            found.append((start, round(length)))
            start, length = start + round(length), length * self.cycle_factor
        return found

    def too_long(self, epochs: int, epoch_steps: int) -> str:
        left = epochs * epoch_steps - self.warm(epochs * epoch_steps)
        if self.cycle * in_steps(self.unit, epoch_steps) <= left:
            return ""
        return (
            f'schedule "cosine_restarts" has a first cycle of {many(self.cycle, self.unit)}, but {_length(epochs, epoch_steps, left)}. '
            "Use a shorter cycle, or train for more epochs."
        )


def in_steps(unit: str, epoch_steps: int) -> int:
    """Returns how many steps one of a unit has, where an epoch has so many."""
    return epoch_steps if unit == "epochs" else 1


def _length(epochs: int, epoch_steps: int, left: int | None = None) -> str:
    warm = f", of which {left:,} come after the warm-up" if left is not None and left < epochs * epoch_steps else ""
    return f"the stage has {many(epochs * epoch_steps, 'steps')} in {many(epochs, 'epochs')}{warm}"


Schedule = Annotated[Constant | Cosine | Plateau | Steps | Exponential | Polynomial | CosineRestarts, Field(discriminator="name"), usually("name", "constant")]
