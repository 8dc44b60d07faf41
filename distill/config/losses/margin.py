"""Terms on classes: one class a kind, with exactly the options that its formula in distill/losses takes.

The first line of a class is what `distill init --list` says of it.
"""

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from distill.config.fields import AboveZero, NotNegative
from distill.config.losses.term import ClassTerm


class Softmax(ClassTerm):
    """Softmax of the scaled cosines to the directions of all classes (NormFace)."""

    heading: ClassVar[str] = "softmax loss"
    name: Literal["softmax"] = "softmax"
    scale: AboveZero = 64.0

    def gradient_scale(self, dimension: int, norm: float) -> float:
        return self.scale


class Arcface(ClassTerm):
    """Softmax with margins for the right class: angle_add (ArcFace), angle_mult (SphereFace), cos_sub (CosFace)."""

    heading: ClassVar[str] = "arcface loss"
    name: Literal["arcface"] = "arcface"
    scale: AboveZero = 64.0
    angle_add: NotNegative = 0.5
    angle_mult: Annotated[FiniteFloat, Field(ge=1)] = 1.0
    cos_sub: NotNegative = 0.0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.angle_mult * math.pi + self.angle_add > 2 * math.pi:
            raise ValueError("angle_mult * pi + angle_add must not be above 2 pi: beyond that the guarded margin is not monotone")
        return self

    def gradient_scale(self, dimension: int, norm: float) -> float:
        return self.scale
