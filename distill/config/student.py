"""The table [student] of a run file. Short, because it is one table."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from distill.config.fields import Positive, Share
from distill.storage.frozen import Frozen, Several


class Student(Frozen):
    """What is built: a backbone by name, and the size of what comes out of it.

    backbone: "small_conv", "mobilefacenet", or any name of keras.applications. widths: channels of each block of small_conv.
    weights: what to start from, a run folder or .keras file (the whole student) or an .h5 file (the backbone, for keras.applications).
    precision: what the backbone computes in; the embedding, the heads and the losses are float32 always.
    """

    backbone: str = "small_conv"
    embedding: Positive = 128
    dropout: Share = 0.1
    widths: Annotated[tuple[Positive, ...], Several, Field(min_length=1)] | None = None
    weights: str | None = None
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.widths and self.backbone != "small_conv":
            raise ValueError(f'"widths" belongs to backbone "small_conv", but backbone is "{self.backbone}"; leave it out')
        if (self.weights or "").endswith(".h5") and self.backbone in ("small_conv", "mobilefacenet"):
            raise ValueError(
                f'weights "{self.weights}" is an .h5 file, which is for a keras.applications backbone, but backbone is "{self.backbone}"; '
                "name a run folder or a .keras file"
            )
        return self
