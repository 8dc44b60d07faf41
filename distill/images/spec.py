"""What images must be. Short, because rooms that read no pixels need it too: metadata of a set, run files, options."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from distill.errors import BadValue

MAX_PIXELS = 64_000_000
RESIZE = ("none", "stretch", "crop")
EXIF = ("ignore", "apply")


@dataclass(frozen=True)
class ImageSpec:
    """The size that images must have, what happens to one of another size, and whether its EXIF rotation is applied before that.

    resize: "none" makes it a reject, "stretch" changes height and width each as needed, "crop" takes the largest centred part of the
    right proportions first. Both resize with Pillow's antialiased triangle filter: it works on uint8 in integers, so that the same
    pixels come out everywhere, has no overshoot, and takes 1/20 of the time of skimage's float64 resize. exif: None is "ignore" unsaid.
    """

    height: int
    width: int
    resize: str = "none"
    exif: str | None = None

    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if self.resize not in RESIZE:
            raise BadValue(f"resize is {self.resize!r}, expected one of: {', '.join(RESIZE)}.")
        if self.exif not in (None, *EXIF):
            raise BadValue(f"exif is {self.exif!r}, expected one of: {', '.join(EXIF)}.")
        if self.height < 1 or self.width < 1 or self.height * self.width > MAX_PIXELS:
            raise BadValue(f"image size {self.height}x{self.width}: expected 1 or more each way and {MAX_PIXELS:,} pixels at most.")

    def as_dict(self) -> dict[str, Any]:
        """Returns the fields for JSON, without `exif` where nothing is said of it: sets of the first two format versions lack it."""
        fields = asdict(self)
        if self.exif is None:
            del fields["exif"]
        return fields
