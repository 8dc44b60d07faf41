"""How the weights of a stage move: optimizers and learning-rate schedules, one class a kind with exactly its own fields. Keras is in distill/training.

slots: how many numbers an optimizer keeps for each weight.
"""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from distill.config.fields import AboveZero, NotNegative, Positive, Share, usually
from distill.storage.frozen import Frozen


class Sgd(Frozen):
    """Stochastic gradient descent. momentum is Nesterov's; weight_decay times the learning rate is taken off every kernel each step."""

    name: Literal["sgd"] = "sgd"
    learning_rate: AboveZero = 1e-3
    momentum: Share | None = None
    weight_decay: NotNegative = 0.0

    @property
    def slots(self) -> int:
        return 1 if self.momentum else 0


class Adam(Frozen):
    """Adam, which has no weight decay that stands apart from the gradient: that is adamw. weight_decay = 0.0 stands in every run.toml with it."""

    slots: ClassVar[int] = 2
    name: Literal["adam"] = "adam"
    learning_rate: AboveZero = 1e-3
    weight_decay: NotNegative = 0.0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.weight_decay:
            raise ValueError('optimizer "adam" takes no "weight_decay"; use "adamw"')
        return self


class AdamW(Frozen):
    """Adam with weight_decay, which is taken off as for sgd."""

    slots: ClassVar[int] = 2
    name: Literal["adamw"] = "adamw"
    learning_rate: AboveZero = 1e-3
    weight_decay: NotNegative = 0.0


class Constant(Frozen):
    """The same rate at every step. warmup, of each schedule: the fraction of the stage's steps over which the rate rises from 0."""

    name: Literal["constant"] = "constant"
    warmup: Share = 0.0


class Cosine(Frozen):
    """Half a cosine, which falls to 0 at the last step."""

    name: Literal["cosine"] = "cosine"
    warmup: Share = 0.0


class Plateau(Frozen):
    """The same rate, times `factor` after `patience` epochs without a better (held-out) loss."""

    name: Literal["plateau"] = "plateau"
    warmup: Share = 0.0
    factor: Annotated[FiniteFloat, Field(gt=0, lt=1)] = 0.1
    patience: Positive = 3


Optimizer = Annotated[Sgd | Adam | AdamW, Field(discriminator="name"), usually("name", "adamw")]
Schedule = Annotated[Constant | Cosine | Plateau, Field(discriminator="name"), usually("name", "constant")]
