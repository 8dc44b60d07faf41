"""Views: a picture as it might also have been taken. View n of a picture is a pure function of (recipe, seed, key, n); view 0 is the picture.

The teacher labels the views of a picture once. Whoever has the picture later makes the very same views again from those four values, so
that a student sees what the teacher saw without the teacher being there. For that the bytes have to be equal on every machine:

- Numbers come from NumPy's Philox, whose key is (seed, hash of the image's key) and whose counter holds n. It is made for this, and setting
  it costs 3 us; a new default_rng for each view costs 42, a quarter of decoding the picture.
- Where pixels come from is rounded to 1/32 of a pixel, and OpenCV's remap then works in whole numbers. (Its warpAffine works in float32, whose
  last bit, and with it some pixels, depends on the processor.) Scale and rotation go in steps, so that these places are worked out once.
  Colours take factors that float32 multiplies exactly; blur, grey and JPEG work in whole numbers. A test holds the processor's instruction
  sets against one another.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from distill.errors import BadImage, DistillError
from distill.images.augmentation import Change, Recipe
from distill.images.codec import decode, encode_jpeg
from distill.images.spec import ImageSpec
from distill.storage.path import StoragePath

VERSION = "1"  # of what this file makes of a picture: another one for other bytes, in a set's metadata
DRAWS = 32  # numbers of one view; each change has places of its own among them, so that a new one moves no other
FRACTION = 5  # bits behind the point of a position, as remap takes them
MAX_SIDE = 1024  # pixels: larger ones would need 100 MB to work out where each pixel comes from
KEPT_SIDE = 160  # pixels: of smaller pictures the places where pixels come from are kept, 40 MB at most


def check_size(recipe: Recipe, height: int, width: int) -> None:
    """DistillError where pixels would move of which there are too many."""
    if max(height, width) > MAX_SIDE and (recipe.scale.chance or recipe.rotation.chance):
        raise DistillError(f"views scale and turn images of up to {MAX_SIDE}x{MAX_SIDE}, received {height}x{width}. Use a recipe without scale and rotation.")


def view(image: np.ndarray, recipe: Recipe, seed: int, key: str, number: int) -> np.ndarray:
    """View `number` of an image uint8 [H, W, 3]: uint8 [H, W, 3], the same bytes on every machine, in every thread and run.

    seed: 0 to 2**63 - 1; key: that of the image's row; number 0 gives the image itself. H and W are at most MAX_SIDE where pixels move.
    """
    if number == 0:
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


def contact_sheet(paths: Sequence[StoragePath], size: tuple[int, int], recipe: Recipe, seed: int, views: int, exif: str = "ignore") -> np.ndarray:
    """Views 0 to `views` - 1 of each picture, a row of tiles each: uint8 [pictures * (H + 2), views * (W + 2), 3]. The key is the path."""
    if views < 1 or not 0 <= seed < 2**63:
        raise DistillError(f"{views} views of each picture with seed {seed}: expected 1 or more, and a seed from 0 to 2**63 - 1.")
    rows = []
    for path in paths:
        try:
            image = decode(path.read_bytes(), ImageSpec(*size, "crop", exif))
        except (BadImage, OSError) as error:
            raise DistillError(f"{path}: {error}") from error
        tiles = [view(image, recipe, seed, path.as_posix() if isinstance(path, Path) else str(path), number) for number in range(views)]
        rows.append(np.concatenate([np.pad(tile, ((1, 1), (1, 1), (0, 0)), constant_values=255) for tile in tiles], axis=1))
    return np.concatenate(rows)


def key_hash(key: str) -> int:
    """64 bits of blake2b, as a key of Philox.

    >>> key_hash("anna/1.jpg")
    6307530284742545831
    """
    return int.from_bytes(hashlib.blake2b(key.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "big")


def software() -> dict[str, str]:
    """What decides the bytes of views beside their recipe, as it stands in the metadata of a set."""
    return {"opencv": _opencv().__version__, "views": VERSION}


_thread = threading.local()


def _draws(seed: int, key: str, number: int) -> list[float]:
    """DRAWS numbers in [0, 1), multiples of 2**-53."""
    generator = getattr(_thread, "generator", None)
    if generator is None:
        generator = _thread.generator = np.random.Generator(np.random.Philox(0))
    generator.bit_generator.state = {
        "bit_generator": "Philox",
        "state": {"counter": (0, number, 0, 0), "key": (seed, key_hash(key))},
        "buffer": (0, 0, 0, 0),
        "buffer_pos": 4,
        "has_uint32": 0,
        "uinteger": 0,
    }
    drawn: list[float] = generator.random(DRAWS).tolist()
    return drawn


def _value(change: Change, draws: list[float], place: int, still: float) -> float:
    """The value drawn at `place` + 1 where the one at `place` says that it happens, else `still`."""
    return change.low + (change.high - change.low) * draws[place + 1] if draws[place] < change.chance else still


def _moved(image: np.ndarray, recipe: Recipe, draws: list[float]) -> np.ndarray:
    """Flip, then shift by whole pixels, then scale (in 64ths) and turn (by half degrees) about the middle. The picture is mirrored at its borders."""
    cv2, (height, width) = _opencv(), image.shape[:2]
    if draws[0] < recipe.flip:
        image = cv2.flip(image, 1)
    right, down = 0, 0
    if draws[5] < recipe.shift.chance:
        low, span = recipe.shift.low, recipe.shift.high - recipe.shift.low
        right, down = round((low + span * draws[6]) * width), round((low + span * draws[7]) * height)
    scale, angle = round(64 * _value(recipe.scale, draws, 1, 1.0)), round(2 * _value(recipe.rotation, draws, 3, 0.0))
    border, places = 0, None
    if scale != 64 or angle:
        check_size(recipe, height, width)
        border, *places = (_places if height * width <= KEPT_SIDE**2 else _places.__wrapped__)(height, width, scale, angle)
    if border or right or down:
        shown = image[max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
        edges = max(down, 0), max(-down, 0), max(right, 0), max(-right, 0)
        image = cv2.copyMakeBorder(shown, *(edge + border for edge in edges), cv2.BORDER_REFLECT_101)
    return cv2.remap(image, *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT) if places else image


@lru_cache(maxsize=256)
def _places(height: int, width: int, scale: int, angle: int) -> tuple[int, np.ndarray, np.ndarray]:
    """The border that is needed around a picture, and remap's two maps into it, int16 [H, W, 2] (x, y) and uint16 [H, W] (32nds of both).

    scale in 64ths, angle in half degrees. All in whole numbers, 2**-18 of a pixel, but for a cosine and a sine that are rounded to them.
    """
    turn = math.radians(-angle / 2)
    cos, sin = (round(value * (64 << 17) / scale) for value in (math.cos(turn), math.sin(turn)))
    x, y = (2 * np.arange(size, dtype=np.int32) - (size - 1) for size in (width, height))  # half pixels from the middle
    half = 1 << (17 - FRACTION)
    whole, fraction, border = np.empty((height, width, 2), np.int16), np.zeros((height, width), np.int32), 0
    for axis, (size, columns, rows) in enumerate(((width, cos * x, sin * y), (height, -sin * x, cos * y))):
        places = columns + (((size - 1) << 17) + half) + rows[:, None]  # below 2**30 each
        places >>= 18 - FRACTION
        fraction |= (places & 31) << (axis * FRACTION)
        np.right_shift(places, FRACTION, out=whole[..., axis], casting="unsafe")
        corners = whole[:: max(1, height - 1), :: max(1, width - 1), axis]  # where the least and the greatest are
        border = max(border, -int(corners.min()), int(corners.max()) - (size - 2))
    whole += border
    return border, whole, fraction.astype(np.uint16)


def _blurred(image: np.ndarray, recipe: Recipe, draws: list[float]) -> np.ndarray:
    deviation = _value(recipe.blur, draws, 8, 0.0) * image.shape[1]
    if deviation == 0.0:
        return image
    cv2, reach = _opencv(), max(1, min(15, math.ceil(2 * deviation)))
    changed: np.ndarray = cv2.GaussianBlur(image, (2 * reach + 1, 2 * reach + 1), deviation, borderType=cv2.BORDER_REFLECT_101, hint=cv2.ALGO_HINT_ACCURATE)
    return changed


def _coloured(image: np.ndarray, recipe: Recipe, draws: list[float]) -> np.ndarray:
    """Contrast about mid grey, then brightness, then a factor for each colour."""
    bright, contrast = _value(recipe.brightness, draws, 10, 0.0), _value(recipe.contrast, draws, 12, 1.0)
    offset = 127.5 * (1 - contrast) + 255 * bright
    if draws[14] < recipe.cast.chance:
        cv2, cast = _opencv(), recipe.cast
        factors = [cast.low + (cast.high - cast.low) * draw for draw in draws[15:18]]
        changed: np.ndarray = cv2.merge([_linear(plane, contrast * factor, offset * factor) for plane, factor in zip(cv2.split(image), factors, strict=True)])
        return changed
    return image if bright == 0.0 and contrast == 1.0 else _linear(image, contrast, offset)


def _linear(image: np.ndarray, factor: float, offset: float) -> np.ndarray:
    """factor * image + offset, as the nearest bytes. In 256ths and odd 512ths float32 holds each sum exactly, and none lies midway between two
    bytes: however a processor adds and rounds, the bytes are the same."""
    changed: np.ndarray = _opencv().addWeighted(image, round(256 * factor) / 256, image, 0, (2 * round(256 * offset) + 1) / 512)
    return changed


def _grey(image: np.ndarray, recipe: Recipe, draws: list[float]) -> np.ndarray:
    if draws[18] >= recipe.grey:
        return image
    cv2 = _opencv()
    changed: np.ndarray = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return changed


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
