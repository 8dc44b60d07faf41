"""The terms of a stage: one class a kind, with exactly the options that its formula in distill/losses takes. Nothing here computes with tensors.

The first line of a class is what `distill init --list` says of it.
"""

import math
from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import Field, FiniteFloat, model_validator

from distill.config.fields import AboveZero, NotNegative
from distill.storage.frozen import Frozen


class Term(Frozen):
    """One summand of the loss: weight times the mean over the batch.

    needs: the field of a batch that it learns from. heading: of its column in the table of a training; the last word may stand on a line of its own.
    """

    needs: ClassVar[str]
    heading: ClassVar[str]
    name: str
    weight: AboveZero = 1.0

    @classmethod
    def in_words(cls) -> str:
        """Returns what it computes and its keys, with what is taken where nothing is said.

        >>> Mse.in_words()
        "mean squared difference from the teacher's numbers; weight = 1"
        """
        words = (cls.__doc__ or "").partition("\n")[0].rstrip(".")
        keys = ", ".join(f"{key} = {field.default:g}" for key, field in cls.model_fields.items() if key != "name")
        return f"{words[:1].lower()}{words[1:]}; {keys}"

    @property
    def options(self) -> dict[str, float]:
        """The keyword arguments of the term's function."""
        return self.model_dump(exclude={"name", "weight"})

    def gradient_scale(self, dimension: int, norm: float) -> float:
        """Returns the largest change of the loss for a change of one cosine, the unit in which terms compare.

        Args:
            dimension: of the embeddings.
            norm: their mean length.
        """
        return self.weight


class Mse(Term):
    """Mean squared difference from the teacher's numbers."""

    needs: ClassVar[str] = "embedding"
    heading: ClassVar[str] = "mse"
    name: Literal["mse"] = "mse"

    def gradient_scale(self, dimension: int, norm: float) -> float:
        return self.weight * 2 * norm**2 / dimension  # |t - p|^2 / D with |t| = |p| = norm is 2 norm^2 (1 - cos) / D


class Cosine(Term):
    """Cosine distance from the teacher's direction: 1 - cosine similarity."""

    needs: ClassVar[str] = "embedding"
    heading: ClassVar[str] = "cosine distance"
    name: Literal["cosine"] = "cosine"


class Softmax(Term):
    """Softmax of the scaled cosines to the directions of all classes (NormFace)."""

    needs: ClassVar[str] = "label"
    heading: ClassVar[str] = "softmax loss"
    name: Literal["softmax"] = "softmax"
    scale: AboveZero = 64.0

    def gradient_scale(self, dimension: int, norm: float) -> float:
        return self.weight * self.scale


class Arcface(Term):
    """Softmax with margins for the right class: angle_add (ArcFace), angle_mult (SphereFace), cos_sub (CosFace)."""

    needs: ClassVar[str] = "label"
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
        return self.weight * self.scale


AnyTerm = Annotated[Mse | Cosine | Softmax | Arcface, Field(discriminator="name")]
TERMS: dict[str, type[Term]] = {kind.model_fields["name"].default: kind for kind in get_args(get_args(AnyTerm)[0])}
