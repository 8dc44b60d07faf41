"""Recipes: what may happen to an image, how often and how much. They are values, with names or from TOML files; `distill.images.views` applies them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from distill.errors import DistillError
from distill.storage.json_files import first_problem, read_toml
from distill.storage.path import as_path


def _as_floats(value: Any, *names: str) -> None:
    """8 and 8.0 are one recipe and have to be one text, because a shard holds it."""
    for name in names:
        object.__setattr__(value, name, float(getattr(value, name)))


@dataclass(frozen=True)
class Change:
    """How often a change happens (0 to 1), and between which values it is then drawn, evenly."""

    chance: float = 0.0
    low: float = 0.0
    high: float = 0.0

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}

    def __post_init__(self) -> None:
        _as_floats(self, "chance", "low", "high")


NEVER = Change()


# What a value may be, and what it is: for messages.
RANGES: dict[str, tuple[float, float, str]] = {
    "shift": (-0.5, 0.5, "of height and width, to whole pixels"),
    "scale": (0.5, 2.0, "times as large"),
    "rotation": (-180.0, 180.0, "degrees, counterclockwise"),
    "brightness": (-1.0, 1.0, "of white, added"),
    "contrast": (0.0, 4.0, "times the distance from mid grey"),
    "cast": (0.0, 4.0, "times each colour"),
    "blur": (0.0, 0.1, "of the width: the deviation of a Gaussian"),
    "erasing": (0.0, 1.0, "of the area"),
    "jpeg": (1.0, 100.0, "the quality of a JPEG written and read again"),
}


@dataclass(frozen=True)
class Recipe:
    """What may happen to a picture, in this order: flip, move, blur, colours, grey, erasing, JPEG. flip and grey are chances alone.

    ValueError where a chance is not in 0 to 1, or a value not in its range (RANGES).
    """

    flip: float = 0.0
    shift: Change = NEVER
    scale: Change = NEVER
    rotation: Change = NEVER
    blur: Change = NEVER
    brightness: Change = NEVER
    contrast: Change = NEVER
    cast: Change = NEVER
    grey: float = 0.0
    erasing: Change = NEVER
    jpeg: Change = NEVER

    __pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}

    def __post_init__(self) -> None:
        _as_floats(self, "flip", "grey")
        for name, (least, most, what) in RANGES.items():
            change: Change = getattr(self, name)
            if not 0 <= change.chance <= 1:
                raise ValueError(f"{name}: chance {change.chance}, expected 0 to 1")
            if change.chance and not least <= change.low <= change.high <= most:
                raise ValueError(f"{name}: {change.low} to {change.high}, expected low <= high within {least:g} to {most:g} ({what})")
        if not (0 <= self.flip <= 1 and 0 <= self.grey <= 1):
            raise ValueError(f"flip {self.flip}, grey {self.grey}: expected chances from 0 to 1")

    @property
    def name(self) -> str:
        """Its name in RECIPES, or "own"."""
        return next((name for name, recipe in RECIPES.items() if recipe == self), "own")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


# face: what an aligned face stands without becoming another person; photo: anything that stays the same thing.
RECIPES = {
    "none": Recipe(),
    "face": Recipe(
        flip=0.5,
        shift=Change(0.5, -0.05, 0.05),
        scale=Change(0.25, 0.9, 1.1),
        rotation=Change(0.05, -10, 10),
        blur=Change(0.05, 0.005, 0.0085),
        brightness=Change(0.25, -0.15, 0.15),
        contrast=Change(0.25, 0.7, 1.35),
        cast=Change(0.05, 0.9, 1.1),
        grey=0.02,
        erasing=Change(0.05, 0.02, 0.1),
        jpeg=Change(0.02, 40, 90),
    ),
    "photo": Recipe(
        flip=0.5,
        shift=Change(0.5, -0.15, 0.15),
        scale=Change(0.8, 0.8, 1.5),
        rotation=Change(0.3, -15, 15),
        blur=Change(0.2, 0.005, 0.02),
        brightness=Change(0.5, -0.25, 0.25),
        contrast=Change(0.5, 0.6, 1.6),
        cast=Change(0.3, 0.75, 1.3),
        grey=0.1,
        erasing=Change(0.2, 0.02, 0.2),
        jpeg=Change(0.2, 25, 90),
    ),
}


def find_recipe(name: str) -> Recipe:
    """A recipe by its name in RECIPES, or from a TOML file that has the fields of Recipe. DistillError where it is neither.

    A file may say `flip = 0.5` and `shift = { chance = 0.5, low = -0.1, high = 0.1 }`.
    """
    if name in RECIPES:
        return RECIPES[name]
    expected = f"Expected one of {', '.join(RECIPES)}, or a TOML file with some of: {', '.join(field.name for field in fields(Recipe))}."
    if not name.endswith(".toml") or not as_path(name).is_file():
        raise DistillError(f"recipe {name!r} is unknown. {expected}")
    try:
        return recipe_of(read_toml(name))
    except (OSError, ValueError) as error:
        raise DistillError(f"recipe {name}: {error}. {expected}") from error


def recipe_of(values: Any) -> Recipe:
    """A recipe from a dict of Recipe's fields, as TOML gives it. ValueError says in one line what is wrong."""
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Recipe).validate_python(values)
    except ValidationError as error:
        raise ValueError(first_problem(error)) from error
