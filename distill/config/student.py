"""The table [student] of a run file. Short, because it is one table."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from distill.config.fields import AboveZero, Positive, Share, later
from distill.storage.frozen import Frozen, Several

OURS = ("small_conv", "mobilefacenet", "ghostfacenet_v1", "iresnet18", "iresnet34", "iresnet50", "iresnet100")

# Why a backbone has the first convolution, or the top, that it has, by how its name begins.
STEMS = {
    "small_conv": "each of its convolutions has stride 2",
    "mobilefacenet": "its first convolution has stride 2, as in the paper",
    "iresnet": "its first convolution has stride 1",
    "VGG": "its first convolution has stride 1",
    "ConvNeXt": "its first convolution cuts the image into patches of 4x4",
}
TOPS = {
    "mobilefacenet": "it has the depthwise top",
    "ghostfacenet_v1": "it has the depthwise top",
    "iresnet": "its embedding layer sees all places of the last map",
}


class Student(Frozen):
    """What is built: a backbone by name, and the size of what comes out of it.

    backbone: "small_conv", "mobilefacenet", "ghostfacenet_v1", "iresnet18" (34, 50, 100), or any name of keras.applications. widths: channels of each
    block of small_conv. width: what the channels of ghostfacenet_v1 are multiplied with, 1.3 where it is not set.
    weights: what to start from: a run folder, a .keras file, an export, or an .h5 file (of a student, or of a keras.applications backbone alone).
    precision: what the backbone computes in; the embedding, the heads and the losses are float32 always.
    stem_stride: of the first convolution: 2 is what keras.applications have, and 1 what ghostfacenet_v1 has, where it is not set.
    top: how the last map becomes one vector, of small_conv and keras.applications: its average, or a weighted sum with a weight for each place.
    projection: how it is compared with a teacher of another dimension: by a linear map that is only trained with, or one that it ends in.
    head: whether the class heads begin anew, or with the rows of the run in weights of those classes that both have.
    """

    backbone: str = "small_conv"
    embedding: Positive = 128
    dropout: Share = 0.1
    widths: Annotated[tuple[Positive, ...], Several, Field(min_length=1)] | None = None
    weights: str | None = None
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    width: AboveZero | None = later(None)
    stem_stride: Literal[1, 2] | None = later(None)
    top: Literal["average", "depthwise"] = later("average")
    projection: Literal["train", "export"] = later("train")
    head: Literal["new", "kept"] = later("new")

    @property
    def numbers(self) -> str:
        """How many numbers come out of it, in words."""
        return f"{self.embedding} numbers" + (", projected to as many as the teacher's" if self.projection == "export" else "")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for key, backbone in (("widths", "small_conv"), ("width", "ghostfacenet_v1")):
            if getattr(self, key) and self.backbone != backbone:
                raise ValueError(f'"{key}" belongs to backbone "{backbone}", but backbone is "{self.backbone}"; leave it out')
        if self.head == "kept" and self.weights is None:
            raise ValueError('head = "kept" takes rows of the class heads of an earlier run, but weights is not set; add weights = RUN or leave head out')
        return self

    @model_validator(mode="after")
    def _parts(self) -> Self:
        given = {"stem_stride": (self.stem_stride, None, STEMS), "top": (self.top, "average", TOPS)}
        for key, (value, usual, reasons) in given.items():
            reason = next((reason for name, reason in reasons.items() if self.backbone.startswith(name)), None)
            if value != usual and reason:
                raise ValueError(f'{key} = {value!r} cannot be had with backbone "{self.backbone}": {reason}; leave it out')
        return self
