"""How a model wants its images, said once: by a run file, a `model.json`, options, the metadata of a set, and a teacher that is opened.

The pixels that the model sees are

    x * scale + offset        computed in float32; x are the pixels 0 to 255, in the order of `color`

so that (x - 127.5) / 127.5 is scale=1/127.5, offset=-1, and x / 255 is scale=1/255; a preset names the three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict, Unpack

from pydantic import BeforeValidator, FiniteFloat, PlainSerializer, SerializerFunctionWrapHandler, ValidationError, model_serializer

from distill.errors import DistillError
from distill.storage.frozen import Frozen, Several

Scalar = bool | int | float | str
# What models want of their pixels, by the name of the habit: scale, offset, color.
PRESETS: dict[str, tuple[float, float, str]] = {
    "none": (1.0, 0.0, "rgb"),
    "unit": (1 / 255, 0.0, "rgb"),
    "insightface": (1 / 127.5, -1.0, "rgb"),  # (x - 127.5) / 127.5, the models of its zoo
    "insightface-128": (1 / 128, -127.5 / 128, "rgb"),  # (x - 127.5) / 128, the older habit
}
PIXELS = ("scale", "offset", "color")
# What the value of each field has to be, for messages.
EXPECTED = {
    "signature": "a name in quotes",
    "output": "a name in quotes",
    "scale": "a number that is not 0",
    "offset": "a number",
    "color": '"rgb" or "bgr"',
    "feed": "names with a constant each: {...}",
    "input": "a name in quotes",
    "tags": 'a list of names: ["serve"]',
}


def _as_pairs(value: Any) -> Any:
    if isinstance(value, dict) and all(isinstance(constant, bool | int | float | str) for constant in value.values()):
        return tuple(sorted(value.items()))
    if isinstance(value, tuple):
        return tuple(sorted(value))
    raise ValueError("expected a table of plain values, such as feed = { phase_train = false }")


# A table in TOML and JSON; pairs here, ordered by name, because a frozen value is compared and hashed.
Constants = Annotated[tuple[tuple[str, bool | int | FiniteFloat | str], ...], BeforeValidator(_as_pairs), PlainSerializer(dict)]


class Preprocessing(Frozen):
    """How images are handed to a model, and which of its answers is the embedding. What is not said is as for any other model, and is not written.

    Attributes:
        signature, output: names inside the model; None for its own (`serving_default`; `output`; or the only one there is).
        scale, offset, color: see the formula of the module.
        feed: a constant for each of its inputs beside the images, by name.
        input: the name of the input that takes the images, where the model does not say it.
        tags: of the graph in a SavedModel that has several; empty for that without tags, None for the model's own choice.

    >>> Preprocessing(scale=0.5).said
    {'scale': 0.5}
    """

    signature: str | None = None
    output: str | None = None
    scale: FiniteFloat = 1.0
    offset: FiniteFloat = 0.0
    color: Literal["rgb", "bgr"] = "rgb"
    feed: Constants = ()
    tags: Annotated[tuple[str, ...], Several] | None = None
    input: str | None = None

    @model_serializer(mode="wrap")
    def _only_what_is_said(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in write(self).items() if name in self.model_fields_set}

    @property
    def said(self) -> dict[str, Any]:
        """What is said, by name, in the order of the fields; with the default values that were said too."""
        return {name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set}

    def over(self, other: Preprocessing) -> Preprocessing:
        """Returns what this says, and what only the other one says; constants come from both."""
        said = {**other.said, **self.said}
        if "feed" in said:
            said["feed"] = {**dict(other.feed), **dict(self.feed)}
        return Preprocessing(**said)

    def whole(self) -> Preprocessing:
        """Returns it as a set says it: all but the constants, tags and the input is said; these, which versions 1 and 2 did not have, where there are some."""
        said = {name: getattr(self, name) for name in ("signature", "output", *PIXELS)}
        if self.feed:
            said["feed"] = self.feed
        if self.tags is not None:
            said["tags"] = tuple(sorted(self.tags))
        if self.input is not None:
            said["input"] = self.input
        return Preprocessing(**said)

    def without(self, other: Preprocessing) -> Preprocessing:
        """Returns what this says and the other one does not."""
        said = {name: value for name, value in self.said.items() if name not in other.said}
        if feed := tuple(pair for pair in self.feed if pair[0] not in dict(other.feed)):
            said["feed"] = feed
        return Preprocessing(**said)

    def __str__(self) -> str:
        """On one line, what is said: "scale 0.5, color bgr"."""
        return ", ".join(f"{name} {_in_words(value)}" for name, value in self.model_dump(mode="json").items())


def _in_words(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={one}" for name, one in value.items())
    return ",".join(value) if isinstance(value, list) else f"{value:g}" if isinstance(value, float) else str(value)


class PreprocessingOptions(TypedDict, total=False):
    """The same as keyword arguments and options of a command; None is as if it were left out."""

    signature: str | None
    output: str | None
    scale: float | None
    offset: float | None
    color: str | None
    preset: str | None
    feed: Mapping[str, Scalar] | None
    tags: Sequence[str] | None
    input: str | None


def preprocessing_of(model: object, **options: Unpack[PreprocessingOptions]) -> Preprocessing:
    """Returns what options say, a preset as its scale, offset and color.

    Raises:
        DistillError: a value is not possible, or a preset and another option speak of the same. `model` is named in it.

    >>> preprocessing_of("model.onnx", preset="unit", signature=None).said
    {'scale': 0.00392156862745098, 'offset': 0.0, 'color': 'rgb'}
    """
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None and not (name == "feed" and not value)}
    if (preset := given.pop("preset", None)) is not None:
        if preset not in PRESETS:
            raise DistillError(f"teacher {model}: preset {preset!r}, expected one of: {', '.join(PRESETS)}.")
        if others := " and ".join(f"--{name} {given[name]}" for name in PIXELS if name in given):
            raise DistillError(f"teacher {model}: --preset {preset} and {others} both say what pixels it sees. Give one of them.")
        given |= dict(zip(PIXELS, PRESETS[preset], strict=True))
    given |= {name: float(given[name]) for name in ("scale", "offset") if name in given}  # numpy's numbers too
    given |= {name: kind(given[name]) for name, kind in (("feed", dict), ("tags", tuple)) if name in given}
    try:
        return Preprocessing(**given)
    except ValidationError as error:
        name = str(error.errors()[0]["loc"][0])
        raise DistillError(f"teacher {model}: {name} {given[name]!r}, expected {EXPECTED[name]}.") from None
