"""Views: a picture as it might also have been taken. View n of a picture is a pure function of (recipe, seed, key, n); view 0 is the picture.

The teacher labels the views of a picture once. Whoever has the picture later makes the very same views again from those four values, so
that a student sees what the teacher saw without the teacher being there. For that the bytes have to be equal on every machine:

- Numbers come from NumPy's Philox, whose key is (seed, hash of the image's key) and whose counter holds n. It is made for this, and setting
  it costs 3 us; a new default_rng for each view costs 42, a quarter of decoding the picture.
- Where pixels move to is rounded to 1/32 of a pixel, and OpenCV's remap then works in whole numbers. (Its warpAffine works in float32, whose
  last bit, and with it some pixels, depends on the processor.) Colours go through tables of 256 bytes; blur, grey and JPEG are exact in
  whole numbers too. A test holds the processor's instruction sets against one another.
"""

from __future__ import annotations

import hashlib
import math
import threading
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from distill import DistillError
from distill.images import BadImage, ImageSpec, decode, encode_jpeg

DRAWS = 32  # numbers of one view; each change has places of its own among them, so that a new one moves no other
FRACTION = 5  # bits behind the point of a position, as remap takes them
MAX_SIDE = 500  # pixels: a position and its border have to fit into 15 bits


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
        flip=0.5, shift=Change(0.5, -0.05, 0.05), scale=Change(0.3, 0.9, 1.1), rotation=Change(0.15, -10, 10), blur=Change(0.1, 0.005, 0.012),
        brightness=Change(0.3, -0.15, 0.15), contrast=Change(0.3, 0.7, 1.35), cast=Change(0.1, 0.9, 1.1), grey=0.05, erasing=Change(0.1, 0.02, 0.1),
        jpeg=Change(0.05, 40, 90),
    ),
    "photo": Recipe(
        flip=0.5, shift=Change(0.5, -0.15, 0.15), scale=Change(0.8, 0.8, 1.5), rotation=Change(0.3, -15, 15), blur=Change(0.2, 0.005, 0.02),
        brightness=Change(0.5, -0.25, 0.25), contrast=Change(0.5, 0.6, 1.6), cast=Change(0.3, 0.75, 1.3), grey=0.1, erasing=Change(0.2, 0.02, 0.2),
        jpeg=Change(0.2, 25, 90),
    ),
}  # fmt: skip


def find_recipe(name: str) -> Recipe:
    """A recipe by its name in RECIPES, or from a TOML file that has the fields of Recipe. DistillError where it is neither.

    A file may say `flip = 0.5` and `shift = { chance = 0.5, low = -0.1, high = 0.1 }`.
    """
    if name in RECIPES:
        return RECIPES[name]
    from pydantic import TypeAdapter

    expected = f"Expected one of {', '.join(RECIPES)}, or a TOML file with some of: {', '.join(field.name for field in fields(Recipe))}."
    if not name.endswith(".toml") or not Path(name).is_file():
        raise DistillError(f"recipe {name!r} is unknown. {expected}")
    try:
        return TypeAdapter(Recipe).validate_python(tomllib.loads(Path(name).read_text("utf-8")))
    except ValueError as error:
        raise DistillError(f"recipe {name}: {error}. {expected}") from error


def check_size(recipe: Recipe, height: int, width: int) -> None:
    """DistillError where pixels would move that are too many for 15 bits of position."""
    if max(height, width) > MAX_SIDE and (recipe.scale.chance or recipe.rotation.chance):
        raise DistillError(f"views scale and turn images of up to {MAX_SIDE}x{MAX_SIDE}, received {height}x{width}. Use a recipe without scale and rotation.")


def view(image: np.ndarray, recipe: Recipe, seed: int, key: str, number: int) -> np.ndarray:
    """View `number` of an image uint8 [H, W, 3]: uint8 [H, W, 3], the same bytes on every machine, in every thread and run.

    seed: 0 to 2**63 - 1; key: that of the image's row; number 0 gives the image itself. H and W are at most MAX_SIDE where pixels move.
    """
    if number == 0 or recipe == RECIPES["none"]:
        return image
    draws = _draws(seed, key, number)
    for change in (_moved, _blurred, _coloured, _grey, _erased, _written_again):
        image = change(image, recipe, draws)
    return image


def replay(images: np.ndarray | Sequence[np.ndarray], recipe: Recipe, seed: int, keys: Sequence[str], number: int | Sequence[int]) -> np.ndarray:
    """View `number` of each image, uint8 [B, H, W, 3] in one array or one after another, or view number[row] of each row.

    An array comes back itself where all numbers are 0. One thread does it: two that hand Python's lock to and fro take 1.4 times the CPU time.
    """
    numbers = [number] * len(images) if isinstance(number, int) else number
    if isinstance(images, np.ndarray) and not any(numbers):
        return images
    out = np.empty((len(images), *images[0].shape), np.uint8)
    for row, key in enumerate(keys):
        out[row] = view(images[row], recipe, seed, key, numbers[row])
    return out


def contact_sheet(paths: Sequence[Path], size: tuple[int, int], recipe: Recipe, seed: int, views: int) -> np.ndarray:
    """Views 0 to `views` - 1 of each picture, a row of tiles each: uint8 [pictures * (H + 2), views * (W + 2), 3]. The key is the path."""
    if views < 1:
        raise DistillError(f"{views} views of each picture: expected 1 or more.")
    rows = []
    for path in paths:
        try:
            image = decode(path.read_bytes(), ImageSpec(*size, resize="crop"))
        except (BadImage, OSError) as error:
            raise DistillError(f"{path}: {error}") from error
        tiles = [view(image, recipe, seed, path.as_posix(), number) for number in range(views)]
        rows.append(np.concatenate([np.pad(tile, ((1, 1), (1, 1), (0, 0)), constant_values=255) for tile in tiles], axis=1))
    return np.concatenate(rows)


def key_hash(key: str) -> int:
    """64 bits of blake2b, as a key of Philox.

    >>> key_hash("anna/1.jpg")
    6307530284742545831
    """
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "big")


def opencv_version() -> str:
    return _opencv().__version__


_thread = threading.local()


def _draws(seed: int, key: str, number: int) -> list[float]:
    """DRAWS numbers in [0, 1), multiples of 2**-53."""
    generator = getattr(_thread, "generator", None)
    if generator is None:
        generator = _thread.generator = np.random.Generator(np.random.Philox(0))
    generator.bit_generator.state = {
        "bit_generator": "Philox", "state": {"counter": (0, number, 0, 0), "key": (seed, key_hash(key))},
        "buffer": (0, 0, 0, 0), "buffer_pos": 4, "has_uint32": 0, "uinteger": 0,
    }  # fmt: skip
    return generator.random(DRAWS).tolist()


def _value(change: Change, draws: list[float], place: int, still: float) -> float:
    """The value drawn at `place` + 1 where the one at `place` says that it happens, else `still`."""
    return change.low + (change.high - change.low) * draws[place + 1] if draws[place] < change.chance else still


def _moved(image: np.ndarray, recipe: Recipe, draws: list[float]) -> np.ndarray:
    """Flip, shift, scale and rotation in one step, about the middle; the picture is mirrored at its borders."""
    flip = draws[0] < recipe.flip
    scale, angle = _value(recipe.scale, draws, 1, 1.0), -math.radians(_value(recipe.rotation, draws, 3, 0.0))
    height, width = image.shape[:2]
    right, down = 0, 0
    if draws[5] < recipe.shift.chance:
        right, down = (round((recipe.shift.low + (recipe.shift.high - recipe.shift.low) * draw) * size) for draw, size in ((draws[6], width), (draws[7], height)))
    if scale == 1.0 and angle == 0.0:
        return _shifted(_opencv().flip(image, 1) if flip else image, right, down)
    check_size(recipe, height, width)
    unit, turn = 1 << FRACTION, -1 if flip else 1
    cos, sin = math.cos(angle) * unit / scale, math.sin(angle) * unit / scale
    middle, below = (width - 1) / 2, (height - 1) / 2
    across, along = -turn * (middle + right), -(below + down)
    # pixel (x, y) comes from (starts[0] + steps[0] x + starts[2] + steps[2] y, starts[1] + steps[1] x + starts[3] + steps[3] y) / 32
    steps = (turn * cos, -turn * sin, sin, cos)
    starts = (across * cos, -across * sin, along * sin + middle * unit, along * cos + below * unit)
    before, after = _border(steps, starts, width, height)
    cv2 = _opencv()
    padded = cv2.copyMakeBorder(image, before, after, before, after, cv2.BORDER_REFLECT_101) if before or after else image
    starts = (*starts[:2], starts[2] + before * unit, starts[3] + before * unit)
    grid = np.rint(_counting(max(height, width)) * np.array(steps)[:, None] + np.array(starts)[:, None]).astype(np.int32)
    whole, fraction = _positions(grid[:2, :width], grid[2:, :height])
    return cv2.remap(padded, whole, fraction, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)


def _shifted(image: np.ndarray, right: int, down: int) -> np.ndarray:
    if not (right or down):
        return image
    cv2, (height, width) = _opencv(), image.shape[:2]
    wide = cv2.copyMakeBorder(image, max(down, 0), max(-down, 0), max(right, 0), max(-right, 0), cv2.BORDER_REFLECT_101)
    return wide[max(-down, 0) :][:height, max(-right, 0) :][:, :width]


def _border(steps: Sequence[float], starts: Sequence[float], width: int, height: int) -> tuple[int, int]:
    """Pixels that are needed before and after each row and column, so that no position lies outside: 1 more than may be needed at most."""
    least, most = 0.0, 0.0
    for place, size in ((0, width), (1, height)):
        x_end, y_end = steps[place] * (width - 1), steps[place + 2] * (height - 1)
        start = starts[place] + starts[place + 2]
        least = min(least, start + min(x_end, 0.0) + min(y_end, 0.0))
        most = max(most, start + max(x_end, 0.0) + max(y_end, 0.0) - ((size - 2) << FRACTION))
    unit = 1 << FRACTION
    return (math.ceil(-least / unit + 0.1) if least else 0), (math.ceil(most / unit + 0.1) if most else 0)


@lru_cache(maxsize=8)
def _counting(number: int) -> np.ndarray:
    return np.arange(number, dtype=np.float64)


def _positions(columns: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """remap's two maps, int16 [H, W, 2] (x, y) and uint16 [H, W], of positions >= 0 in 1/32 of a pixel: columns[:, x] + rows[:, y].

    x and y lie side by side in one 32-bit word, so that each step is one pass over H * W words; no sum passes 15 bits.
    """
    words = (columns[0] + (columns[1] << 16))[None, :] + (rows[0] + (rows[1] << 16))[:, None]
    whole = words.view(np.int16).reshape(*words.shape, 2) >> FRACTION
    words &= 0x001F001F
    words |= words >> 11
    return whole, words.astype(np.uint16)


def _blurred(image: np.ndarray, recipe: Recipe, draws: list[float]) -> np.ndarray:
    deviation = _value(recipe.blur, draws, 8, 0.0) * image.shape[1]
    if deviation == 0.0:
        return image
    cv2, reach = _opencv(), max(1, min(15, math.ceil(2 * deviation)))
    return cv2.GaussianBlur(image, (2 * reach + 1, 2 * reach + 1), deviation, borderType=cv2.BORDER_REFLECT_101, hint=cv2.ALGO_HINT_ACCURATE)


def _coloured(image: np.ndarray, recipe: Recipe, draws: list[float]) -> np.ndarray:
    """Contrast about mid grey, then brightness, then a factor for each colour, by a table."""
    bright, contrast = _value(recipe.brightness, draws, 10, 0.0), _value(recipe.contrast, draws, 12, 1.0)
    cast = recipe.cast if draws[14] < recipe.cast.chance else None
    if bright == 0.0 and contrast == 1.0 and cast is None:
        return image
    levels = (_LEVELS - 127.5) * contrast + (127.5 + 255 * bright)
    if cast is None:
        return _opencv().LUT(image, _to_bytes(levels))
    factors = np.array([[cast.low + (cast.high - cast.low) * draw for draw in draws[15:18]]])
    return _opencv().LUT(image, _to_bytes(levels[:, None] * factors)[None])


_LEVELS = np.arange(256.0)


def _to_bytes(levels: np.ndarray) -> np.ndarray:
    return np.minimum(np.maximum(np.rint(levels), 0), 255).astype(np.uint8)


def _grey(image: np.ndarray, recipe: Recipe, draws: list[float]) -> np.ndarray:
    if draws[18] >= recipe.grey:
        return image
    cv2 = _opencv()
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _erased(image: np.ndarray, recipe: Recipe, draws: list[float]) -> np.ndarray:
    """A rectangle of one grey: its part of the area is drawn, its sides are as 1:2 to 2:1 (Zhong et al. 2017)."""
    area = _value(recipe.erasing, draws, 19, 0.0)
    if area == 0.0:
        return image
    (height, width), stretch = image.shape[:2], 0.5 + 1.5 * draws[21]
    tall, wide = min(height, round(height * math.sqrt(area * stretch))), min(width, round(width * math.sqrt(area / stretch)))
    top, left = int((height - tall + 1) * draws[22]), int((width - wide + 1) * draws[23])
    image = image.copy()
    image[top : top + tall, left : left + wide] = int(256 * draws[24])
    return image


def _written_again(image: np.ndarray, recipe: Recipe, draws: list[float]) -> np.ndarray:
    quality = _value(recipe.jpeg, draws, 25, 0.0)
    return decode(encode_jpeg(image, round(quality), "420")) if quality else image


@lru_cache(maxsize=1)
def _opencv() -> Any:
    """OpenCV, imported when it is first needed, without threads of its own: those of the source share the rows already."""
    import cv2

    cv2.setNumThreads(1)
    return cv2
