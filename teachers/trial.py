"""A teacher is tried before it labels: what it answers to an image must be the image's alone, and another one for another image.

    the same image asked twice                          |a - b| <= AGAIN * |a|
    the same image alone, and among others at any place |a - b| <= AMONG * |a|, or ROUGH * |a| in half precision, int8, on a GPU
    different images                                    |a - b| > EQUAL * |a| for some two of them

In float32 another batch or another place in it moves an answer by up to 4e-7 of its norm (measured on ResNet50, MobileNetV2 and a small net),
bfloat16 in place of float32 by 0.8 to 1.9 % (ResNet50); the limit on a GPU is taken from that, not measured. Dropout at a rate of r moves it by
about sqrt(r) by its variance. Noise, a ramp of colours and squares are asked beside the images,
so that a list of equal or of few images is no lesser trial. What a good teacher may do with a blank picture is no reason to refuse it: zeros, numbers
that are not finite, or where it normalises, its own rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from distill.errors import DistillError, NoMemory
from distill.runtime.progress import phase

if TYPE_CHECKING:
    from teachers.loaded import LoadedTeacher

AGAIN, AMONG, ROUGH, EQUAL = 1e-3, 1e-3, 2e-2, 1e-5
ALONE = 4  # images that are asked one by one
MOST = 16  # images looked at
OTHER = 8  # of pixels, 0 to 255: mean difference from which on two images are different ones to any eye, and deviation of one that shows something
DRAWN = 3  # pictures that are drawn beside them
SIDE = 112  # of the pictures that are drawn for a model of any size
INFERENCE = "Export it in inference mode (training=False, phase_train=False, eval mode in PyTorch)"


@phase("trying the teacher")
def check_teacher(teacher: LoadedTeacher, images: np.ndarray, batch: int) -> np.ndarray:
    """Try a teacher on images of a list; what it answers to each of the first different ones, float32 [up to MOST, D].

    images: uint8 [n, H, W, 3], or n = 0 with the size that is meant; batch: how many it will be asked at a time.
    DistillError: its answers are not finite, depend on chance or on the rest of the batch, are the same whatever the image, or it cannot
    answer so many at a time.
    """
    images = _distinct(images[:MOST])
    probes = np.concatenate([images, *drawn(*images.shape[1:3])])
    alone, many = _ask(teacher, probes, batch)
    _check_finite(teacher, probes, many)
    _check_steady(teacher, probes, batch, alone, many)
    _check_different(teacher, probes, images, many)
    return many[: len(images)]


@phase("trying the model")
def check_steady(teacher: LoadedTeacher, size: tuple[int, int] | None = None) -> None:
    """The part of the trial that needs no images: DistillError where answers depend on chance or on the rest of the batch."""
    height, width = teacher.height or (size or (SIDE, SIDE))[0], teacher.width or (size or (SIDE, SIDE))[1]
    probes = np.concatenate(list(drawn(height, width)))
    try:
        alone, many = _ask(teacher, probes, len(probes))
    except DistillError:
        return  # a size that it does not take, or one image only: told where it is asked in earnest
    _check_steady(teacher, probes, len(probes), alone, many)


def drawn(height: int, width: int) -> tuple[np.ndarray, ...]:
    """DRAWN pictures that differ in every pixel, uint8 [1, height, width, 3] each: noise, a ramp of colours, and squares."""
    down, right = np.mgrid[0:height, 0:width]
    ramp = np.stack([255 * down / height, 255 * right / width, 255 * (down + right) / (height + width)], -1)
    squares = np.where(((down // 8 + right // 8) % 2)[..., None], (230, 40, 120), (20, 180, 60))
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3))
    return tuple(picture.astype(np.uint8)[None] for picture in (noise, ramp, squares))


def _ask(teacher: LoadedTeacher, probes: np.ndarray, batch: int) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Answers to the first and the last probes that show something, alone, by their place; and to all probes as a set of `batch` asks: among
    others, or alone where that is 1."""
    showing = np.flatnonzero(_shows(probes)).tolist()
    picked = sorted({*showing[:ALONE], *showing[-DRAWN:]})
    if batch == 1:
        many = np.concatenate([teacher(probe[None]) for probe in probes])
        return {place: many[place] for place in picked}, many
    try:
        many = np.concatenate([_among(teacher, probes, range(start, min(start + batch, len(probes))), batch) for start in range(0, len(probes), batch)])
    except DistillError as error:
        raise _too_many(teacher, probes, batch, error) from error
    try:
        return {place: teacher(probes[place][None])[0] for place in picked}, many
    except DistillError as error:
        why = f"It answers {batch} images at once, but not one alone, and the last batch of a chunk is a short one."
        raise DistillError(f"{error} {why} Export it for any number of images.") from error


def _among(teacher: LoadedTeacher, probes: np.ndarray, wanted: range, batch: int) -> np.ndarray:
    """Answers to the wanted probes, last in a whole batch and in another order, so that none is at its first place."""
    filling = np.resize(np.arange(len(probes))[::-1], batch - len(wanted))
    return teacher(probes[[*filling.tolist(), *wanted]])[len(filling) :]


def _too_many(teacher: LoadedTeacher, probes: np.ndarray, batch: int, error: DistillError) -> DistillError:
    """The error of a whole batch, with the way out where one image alone is answered; want of memory says its own."""
    if isinstance(error, NoMemory):
        return error
    try:
        teacher(probes[:1])
    except DistillError:
        return error
    return DistillError(f"{error} One image alone it answers: ask {batch} of them one by one with --batch 1, or export it for any number of images.")


def _check_finite(teacher: LoadedTeacher, probes: np.ndarray, many: np.ndarray) -> None:
    """Half of the answers at least: a picture that is nothing to a teacher is left out where it comes, and counted."""
    finite = np.isfinite(many[_shows(probes)]).all(axis=1)
    if finite.mean() < 0.5:
        raise DistillError(
            f"teacher {teacher.teacher.path}: {(~finite).sum()} of its answers to {len(finite)} images, drawn ones among them, are not finite. It "
            f"saw {teacher.pixels}: does it want other ones (--preset, --scale, --offset, --color)?"
        )


def _check_steady(teacher: LoadedTeacher, probes: np.ndarray, batch: int, alone: dict[int, np.ndarray], many: np.ndarray) -> None:
    where = f"teacher {teacher.teacher.path}"
    asked = max(_apart(answer, teacher(probes[place][None])[0]) for place, answer in alone.items())
    if asked > AGAIN:
        raise DistillError(
            f"{where} answers the same image otherwise when it is asked again: by {asked:.2g} of its length, at most {AGAIN:g} is rounding. "
            f"Something in it is left to chance, as dropout is in training. {_way_out(teacher)}."
        )
    if batch == 1:
        return
    place = next((place for place in reversed(alone) if np.isfinite(alone[place]).all()), min(alone))
    few = [(place + 1) % len(probes), place, (place + 2) % len(probes)][: max(batch, 2)]
    worst = max(*(_apart(answer, many[at]) for at, answer in alone.items()), _apart(alone[place], teacher(probes[few])[1]))
    limit = ROUGH if worst > AMONG and teacher.rough else AMONG
    if worst > limit:
        raise DistillError(
            f"{where} answers an image otherwise among others than alone: by {worst:.2g} of its length, at most {limit:g} is rounding. What it answers "
            "depends on the rest of the batch, as with batch normalization in training, or with int8 whose range is taken from the whole batch "
            f"(dynamic quantization). {_way_out(teacher)}, or ask for each image alone: --batch 1."
        )


def _way_out(teacher: LoadedTeacher) -> str:
    on = [name for name, value in teacher.feed.items() if value is True or value == 1]
    return f"{INFERENCE}" + "".join(f", or try --feed {name}=false" for name in on)


def _check_different(teacher: LoadedTeacher, probes: np.ndarray, images: np.ndarray, many: np.ndarray) -> None:
    finite = np.isfinite(many).all(axis=1)
    shows = (finite & _shows(probes))[: len(images)]
    real, pixels = many[: len(images)][shows], images[shows].astype(np.float32)
    clearly = len(pixels) > 1 and np.abs(pixels - pixels[0]).mean((1, 2, 3)).max() > OTHER
    collapsed = real if clearly and _spread(real) <= EQUAL else many[finite]
    if len(collapsed) < 2 or _spread(collapsed) > EQUAL:
        return
    of = f"{len(collapsed)} different images" + ("" if collapsed is real else ", drawn ones among them,")
    what = "zeros" if not np.abs(collapsed).max() else "the same numbers"
    raise DistillError(
        f"teacher {teacher.teacher.path} answers {of} with {what}, within {EQUAL:g} of their length: there is nothing to learn from it. It saw "
        f"{teacher.pixels}: does it want other ones (--preset, --scale, --offset, --color), another --output, or is it untrained?"
    )


def _shows(images: np.ndarray) -> np.ndarray:
    """bool [n]: which are not one colour all over, or dark or bright all over; all where none is."""
    found = images.std((1, 2)).max(1) > OTHER
    return found if found.any() else np.ones(len(images), bool)


def _distinct(images: np.ndarray) -> np.ndarray:
    first = {image.tobytes(): place for place, image in reversed(list(enumerate(images)))}
    return images[sorted(first.values())]


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """Distance over the greater length; 0 where either is not finite, which is another matter."""
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return 0.0
    first, second = one.astype(np.float64), other.astype(np.float64)
    length = max(np.linalg.norm(first), np.linalg.norm(second))
    return float(np.linalg.norm(first - second) / length) if length else 0.0


def _spread(answers: np.ndarray) -> float:
    return max(_apart(answers[0], answer) for answer in answers)
