"""Layers that a stage treats in a way of their own: frozen ones, and those whose learning rate and weight decay are multiplied.

Layers are named by a pattern of their names, as files are in a shell ("conv?_block*"), or by the part that they belong to (PARTS).
"""

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from distill.config.fields import AboveZero, NotNegative
from distill.storage.frozen import Frozen

# backbone: all of a student but its layer "embedding" and its own projection; head: directions of classes; projection: to a teacher's dimension
PARTS = ("backbone", "embedding", "head", "projection")
ALL_BUT_HEAD = "all but head"  # the whole student; class heads and projections go on learning


def _as_freeze(value: Any) -> Any:
    expected = f'should be "backbone", "{ALL_BUT_HEAD}" or a list of patterns of layers\' names and of {", ".join(PARTS)}'
    if isinstance(value, str) and value not in ("backbone", ALL_BUT_HEAD):
        raise ValueError(f'{expected}: freeze = ["{value}"]')
    if isinstance(value, str):
        return value
    if not isinstance(value, (list, tuple)) or not all(isinstance(each, str) and each for each in value):
        raise ValueError(expected)
    return tuple(value)


Freeze = Annotated[str | tuple[str, ...], BeforeValidator(_as_freeze)]


class Multiplier(Frozen):
    """By what the learning rate and the weight decay of the layers of a pattern are multiplied. A decay step is rate times decay, so both count there."""

    layers: Annotated[str, Field(min_length=1)]
    learning_rate: AboveZero = 1.0
    weight_decay: NotNegative = 1.0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.learning_rate == 1 and self.weight_decay == 1:
            raise ValueError(f'"{self.layers}" is multiplied by nothing; give it a learning_rate or a weight_decay')
        return self
