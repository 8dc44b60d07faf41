"""The tables [[stage]] of a run file: one class a kind of source, with exactly its own fields."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from distill.config.fields import Positive, later, usually
from distill.config.layers import Freeze, Multiplier
from distill.config.losses import AnyTerm
from distill.config.optimizer import AdamW, Optimizer
from distill.config.schedule import Constant, Schedule
from distill.images.preprocessing import Preprocessing
from distill.storage.frozen import Frozen, Several


class Balanced(Frozen):
    """What a batch of a balanced stage is made of: so many different identities, and so many images of each."""

    identities: Positive
    images: Positive

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.identities < 2:
            raise ValueError(f"identities = {self.identities} leaves no two images of different people in a batch; use 2 or more")
        if self.images < 2:
            raise ValueError(f"images = {self.images} leaves no two images of one person in a batch; use 2 or more")
        return self

    @property
    def rows(self) -> int:
        """Rows of a batch."""
        return self.identities * self.images


class Stage(Frozen):
    """One stretch of training: a source, the terms, how long, and how the weights move. Runs through all rows of its source once an epoch.

    metrics: what else is measured on each batch: "mae", the mean absolute difference from the teacher's numbers.
    freeze: the layers whose weights and batch-norm averages stay as they are in this stage, and in this alone.
    multipliers: layers with a learning rate and weight decay of their own; of several that match a layer the first one counts.
    """

    source: str
    epochs: Positive = 1
    optimizer: Optimizer = AdamW()
    schedule: Schedule = Constant()
    terms: Annotated[tuple[AnyTerm, ...], Several, Field(min_length=1)]
    metrics: Annotated[tuple[Literal["mae"], ...], Several] = later(())
    freeze: Freeze = later(())
    multipliers: Annotated[tuple[Multiplier, ...], Several] = later(())

    @model_validator(mode="after")
    def _possible(self) -> Self:
        names = [term.name for term in self.terms]
        if len(set(names)) < len(names):
            raise ValueError(f"a term stands twice: {', '.join(names)}; give each once, with the sum of the weights")
        for each in self.multipliers:
            if each.weight_decay != 1 and not self.optimizer.weight_decay:
                raise ValueError(f'multipliers multiply the weight_decay of "{each.layers}", but that of the optimizer is 0; give it one (sgd, adamw)')
        return self

    @property
    def rows(self) -> tuple[Any, ...]:
        """What decides which rows it learns from: stages where that is equal share one source."""
        return (self.source,)


class ShardsStage(Stage):
    """On the shards of [data]. balanced: what a batch is made of, in place of `batch` rows of any identities."""

    source: Literal["shards"] = "shards"
    balanced: Balanced | None = later(None)

    @property
    def rows(self) -> tuple[Any, ...]:
        return self.source, self.balanced


class ImagesStage(Stage):
    """On the images of [data]. balanced: as of ShardsStage."""

    source: Literal["images"] = "images"
    balanced: Balanced | None = later(None)

    @property
    def rows(self) -> tuple[Any, ...]:
        return self.source, self.balanced


class NoiseStage(Stage):
    """On noise, about which the teacher at a path is asked. steps: batches an epoch; reading: how it is handed images."""

    source: Literal["noise"] = "noise"
    teacher: str
    steps: Positive
    reading: Preprocessing | None = None

    @property
    def rows(self) -> tuple[Any, ...]:
        return self.source, self.teacher, self.reading, self.steps


AnyStage = Annotated[ShardsStage | ImagesStage | NoiseStage, Field(discriminator="source"), usually("source", "shards")]
