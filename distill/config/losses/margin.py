"""Terms on classes: one class a kind, with exactly the options that its formula in distill/losses takes.

The first line of a class is what `distill init --list` says of it.
"""

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from distill.config.fields import AboveZero, NotNegative, Share, later
from distill.config.losses.term import ClassTerm, Head, Term


class Softmax(ClassTerm):
    """Softmax of the scaled cosines to the directions of all classes (NormFace).

    label_smoothing: the share of the wanted probability that all classes have alike.
    """

    heading: ClassVar[str] = "softmax loss"
    name: Literal["softmax"] = "softmax"
    label_smoothing: Share = later(0.0)


class LinearSoftmax(Term):
    """Softmax of a linear layer with a bias, as a classifier ends in.

    batch_norm: whether its scores go through batch norm. label_smoothing: as of `Softmax`.
    """

    needs: ClassVar[str] = "label"
    heading: ClassVar[str] = "linear softmax"
    name: Literal["linear_softmax"] = "linear_softmax"
    batch_norm: bool = False
    label_smoothing: Share = 0.0

    @property
    def head(self) -> Head:
        return Head("linear", batch_norm=self.batch_norm)


class Arcface(ClassTerm):
    """Softmax with margins for the right class: angle_add (ArcFace), angle_mult (SphereFace), cos_sub (CosFace).

    guard: what the target is where the widened angle passes pi; gradient: "straight_through" takes the target's slope for 1. Both as of `margin_cosine`.
    """

    heading: ClassVar[str] = "arcface loss"
    name: Literal["arcface"] = "arcface"
    angle_add: NotNegative = 0.5
    angle_mult: Annotated[FiniteFloat, Field(ge=1)] = 1.0
    cos_sub: NotNegative = 0.0
    guard: Literal["mirror", "classic", "none", "clip"] = later("mirror")
    gradient: Literal["exact", "straight_through"] = later("exact")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.angle_mult * math.pi + self.angle_add > 2 * math.pi:
            raise ValueError("angle_mult * pi + angle_add must not be above 2 pi: beyond that the guarded margin is not monotone")
        if self.guard == "classic" and self.angle_mult != 1:
            raise ValueError(f'guard = "classic" is of angles that are not multiplied, but angle_mult is {self.angle_mult:g}; take guard = "mirror"')
        return self


class Cosface(ClassTerm):
    """Softmax with a margin on the cosine of the right class (CosFace)."""

    heading: ClassVar[str] = "cosface loss"
    name: Literal["cosface"] = "cosface"
    cos_sub: NotNegative = 0.35


class Sphereface(ClassTerm):
    """Softmax with the angle to the right class multiplied, by any number from 1 (SphereFace).

    free_norm: scores are scaled by the length of the embedding, which then learns too, and not by `scale`.
    """

    heading: ClassVar[str] = "sphere face"
    name: Literal["sphereface"] = "sphereface"
    scale: AboveZero = 30.0
    angle_mult: Annotated[FiniteFloat, Field(ge=1)] = 1.7
    free_norm: bool = False

    @model_validator(mode="after")
    def _one_scale(self) -> Self:
        if self.free_norm and self.scale != 30:
            raise ValueError(f"free_norm = true takes the length of each embedding for its scale, but scale = {self.scale:g} is given; leave one of them out")
        return self

    def gradient_scale(self, dimension: int, norm: float) -> float:
        return 1.0 if self.free_norm else self.scale
