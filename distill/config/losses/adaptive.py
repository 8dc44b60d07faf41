"""Terms whose margins follow the training or the row: one class a kind, with exactly the options that its formula in distill/losses takes.

The first line of a class is what `distill init --list` says of it.
"""

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, FiniteFloat, model_validator

from distill.config.fields import AboveZero, NotNegative
from distill.config.losses.term import ClassTerm

Angle = Annotated[FiniteFloat, Field(ge=0, le=math.pi)]


class Curricularface(ClassTerm):
    """Softmax with an angle margin, in which hard classes weigh more as the training goes on (CurricularFace)."""

    heading: ClassVar[str] = "curricular face"
    name: Literal["curricularface"] = "curricularface"
    angle_add: Angle = 0.5


class Adaface(ClassTerm):
    """Softmax with a margin that asks more of long embeddings, those of good images (AdaFace).

    rate: how fast the mean and deviation of the embeddings' lengths follow each batch.
    """

    heading: ClassVar[str] = "adaface loss"
    name: Literal["adaface"] = "adaface"
    margin: Annotated[FiniteFloat, Field(ge=0, le=1)] = 0.4
    concentration: AboveZero = 0.333
    rate: Annotated[FiniteFloat, Field(gt=0, le=1)] = 0.01


class Magface(ClassTerm):
    """Softmax with an angle margin that grows with the length of the embedding, and a pull to longer ones (MagFace).

    form: of the target where the own cosine is negative: "easy" leaves it as it is, "min" takes the margin's where that is smaller.
    """

    heading: ClassVar[str] = "magface loss"
    name: Literal["magface"] = "magface"
    lower_norm: AboveZero = 10.0
    upper_norm: AboveZero = 110.0
    lower_margin: Angle = 0.45
    upper_margin: Angle = 0.8
    norm_weight: NotNegative = 20.0
    form: Literal["easy", "min"] = "easy"

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.lower_norm >= self.upper_norm:
            raise ValueError(f"lower_norm = {self.lower_norm:g} must be below upper_norm = {self.upper_norm:g}")
        if self.lower_margin > self.upper_margin:
            raise ValueError(
                f"lower_margin = {self.lower_margin:g} must not be above upper_margin = {self.upper_margin:g}: longer embeddings have larger margins"
            )
        return self
