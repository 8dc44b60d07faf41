"""Optimizers: how the gradients of a stage move its weights, one class a kind with exactly its own fields. Keras is in distill/training.

The first line of a class is what `distill init --list` says of it.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from distill.config.fields import AboveZero, NotNegative, Positive, Share, later, usually
from distill.runtime.lines import many
from distill.storage.frozen import Frozen

Momentum = Annotated[FiniteFloat, Field(gt=0, lt=1)]


class Moving(Frozen):
    """An optimizer.

    Attributes:
        clip_norm: the longest gradient, over all weights together; a longer one is shortened to it.
        clip_value: the largest number in a gradient, up or down; not together with clip_norm.
        accumulate: over how many batches gradients are averaged for one update. Batch norm still sees each batch by itself.
        ema: the momentum of a moving average of the weights, which is what is evaluated, saved and given to the next stage; training goes on
            from the weights themselves. average = ema * average + (1 - ema) * weights after each update, beginning with the first one's weights.
    """

    own_slots: ClassVar[int]
    name: str
    learning_rate: AboveZero = 1e-3
    clip_norm: AboveZero | None = later(None)
    clip_value: AboveZero | None = later(None)
    accumulate: Positive = later(1)
    ema: Momentum | None = later(None)

    @model_validator(mode="after")
    def _one_clip(self) -> Self:
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("clip_norm and clip_value do not go together; leave one out")
        return self

    @property
    def slots(self) -> int:
        """How many numbers it keeps for each weight."""
        return self.own_slots + (self.accumulate > 1) + (self.ema is not None)

    def too_long(self, epochs: int, epoch_steps: int) -> str:
        """Returns in words why a stage of so many epochs of so many steps has no update at all; "" where it has."""
        if self.accumulate <= epochs * epoch_steps:
            return ""
        return (
            f"an update takes accumulate = {self.accumulate:,} batches, but the stage has {many(epochs * epoch_steps, 'steps')} "
            f"in {many(epochs, 'epochs')}. Use a smaller accumulate, or train for more epochs."
        )


class Sgd(Moving):
    """Stochastic gradient descent; momentum is Nesterov's where nesterov is true; weight_decay as for adamw."""

    own_slots: ClassVar[int] = 0
    name: Literal["sgd"] = "sgd"
    momentum: Share | None = None
    nesterov: bool = later(True)
    weight_decay: NotNegative = 0.0

    @property
    def slots(self) -> int:
        return super().slots + bool(self.momentum)


class Adam(Moving):
    """Adam without weight decay, which adamw has."""

    own_slots: ClassVar[int] = 2
    name: Literal["adam"] = "adam"
    weight_decay: NotNegative = 0.0  # stands in every run.toml with it

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.weight_decay:
            raise ValueError('optimizer "adam" takes no "weight_decay"; use "adamw"')
        return self


class AdamW(Moving):
    """Adam with weight decay apart from the gradient: weight_decay times the learning rate is taken off every kernel each update."""

    own_slots: ClassVar[int] = 2
    name: Literal["adamw"] = "adamw"
    weight_decay: NotNegative = 0.0


Optimizer = Annotated[Sgd | Adam | AdamW, Field(discriminator="name"), usually("name", "adamw")]
