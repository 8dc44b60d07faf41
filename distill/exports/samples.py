"""The images that an export is proven by, and those that show an int8 export the ranges of its numbers; never the same ones, where there are two."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.config.data import Holdout
from distill.data.sources import ImageSource, ShardSource
from distill.errors import DistillError
from distill.images.spec import ImageSpec
from distill.storage.path import as_path

PROOF, CALIBRATION, DRAWN, BATCH = 256, 192, 128, 32  # images
CANDIDATES = 100_000  # keys of a list among which images are taken, evenly


@dataclass(frozen=True)
class Where:
    """Where images come from: a set of shards, or a folder or list; neither: drawn faces.

    given: whether a person named it, so that what is wrong with it ends the export; otherwise it is what a run learned from, and faces are drawn instead.
    """

    shards: str | None = None
    images: str | None = None
    root: str | None = None
    holdout: dict[str, Any] | None = None
    resize: str = "none"
    exif: str = "ignore"
    given: bool = False

    @property
    def nothing(self) -> bool:
        """Whether there are no images but drawn ones."""
        return self.shards is None and self.images is None


@dataclass(frozen=True)
class Samples:
    """proof, calibration: uint8 [N, H, W, 3], calibration None where there are no photos; source: where they are from, in words."""

    proof: np.ndarray
    calibration: np.ndarray | None
    source: str


def find_samples(where: Where, height: int, width: int) -> Samples:
    """Returns images of that size. DistillError where those that a person named cannot be used."""
    if where.nothing:
        return drawn_samples(height, width)
    try:
        return _from_shards(where, height, width) if where.shards is not None else _from_images(where, height, width)
    except (DistillError, OSError) as error:
        if where.given:
            raise
        drawn = drawn_samples(height, width)
        return Samples(drawn.proof, None, f"{drawn.source}, because those that the run learned from could not be read: {str(error).rstrip('.')}")


def drawn_samples(height: int, width: int) -> Samples:
    """Returns drawn faces, each of another identity, for proof alone."""
    from distill.synthetic.faces import draw_face

    size = max(height, width, 8)
    top, left = (size - height) // 2, (size - width) // 2
    faces = (draw_face(identity, 0, size)[top : top + height, left : left + width] for identity in range(DRAWN))
    return Samples(np.stack(list(faces)), None, "drawn faces (distill.synthetic)")


def _from_shards(where: Where, height: int, width: int) -> Samples:
    holdout = None if where.holdout is None else Holdout.model_validate(where.holdout)
    source = ShardSource(str(where.shards), batch=BATCH, seed=0, part="train" if holdout else "all", holdout=holdout, root=where.root, views="plain")
    if source.image_shape != (height, width, 3):
        got = "x".join(map(str, source.image_shape[:2]))
        raise DistillError(f"{where.shards} has images of {got}, the student takes {height}x{width}. Name others: --images FOLDER --resize crop.")
    return _split(source, holdout, str(where.shards))


def _from_images(where: Where, height: int, width: int) -> Samples:
    if where.holdout is None:
        return _from_list(where, height, width)
    holdout, path = Holdout.model_validate(where.holdout), str(where.images)
    options: dict[str, Any] = {"root": where.root, "resize": where.resize, "exif": where.exif, "max_rejects": 1.0}
    source = ImageSource(path, size=(height, width), batch=BATCH, seed=0, part="train", holdout=holdout, **options)
    return _split(source, holdout, path)


def _split(source: ShardSource | ImageSource, holdout: Holdout | None, name: str) -> Samples:
    if holdout is not None:
        proof, calibration = _take(source.other("held_out"), PROOF), _take(source, CALIBRATION)
        return Samples(proof, calibration, f"held-out rows of {name} ({holdout.fraction:g} by {holdout.by})")
    images = _take(source, PROOF + CALIBRATION)
    return _halves(images, f"rows of {name}, of which none were held out")


def _halves(images: np.ndarray, source: str) -> Samples:
    return Samples(images[::2][:PROOF], (images[1::2] if len(images) > 1 else images)[:CALIBRATION], source)


def _take(source: ShardSource | ImageSource, number: int) -> np.ndarray:
    """Returns up to so many images, from batches that lie evenly apart in an epoch."""
    parts: list[np.ndarray] = []
    for step in np.unique(np.linspace(0, source.steps - 1, -(-number // BATCH)).astype(int)).tolist():
        epoch = source.epoch(0, step)
        parts += [images for images, _ in [next(epoch, (np.zeros((0, *source.image_shape), np.uint8), {}))]]
        epoch.close()  # type: ignore[attr-defined]
    images = np.concatenate(parts)[:number]
    if not len(images):
        raise DistillError(f"{source.name}: no image could be read.")
    return images


def _from_list(where: Where, height: int, width: int) -> Samples:
    from distill.data.archives.reader import read_bytes
    from distill.data.lists.image_list import open_list
    from distill.data.sources.images import root_of
    from distill.errors import BadImage
    from distill.images.codec import decode_batch

    path = as_path(str(where.images))
    keys = _some_keys(path, PROOF + CALIBRATION, open_list)
    root, encoded, bad = where.root or root_of(path), list[bytes](), list[str]()
    for key in keys:
        try:
            encoded.append(read_bytes(root, key))
        except BadImage as error:
            bad.append(f"{key}: {error}")
    images, refused = decode_batch(encoded, ImageSpec(height, width, where.resize, where.exif))
    bad += [str(reason) for reason in refused.values()]
    good = np.delete(images, list(refused), axis=0)
    if not len(good):
        way = "" if where.resize != "none" else " Images of another size need --resize stretch or crop."
        raise DistillError(f"{path}: none of {len(keys)} images can be used{f'; the first: {bad[0]}' if bad else ''}.{way}")
    return _halves(good, f"images of {path}" + (f" ({len(bad)} could not be read)" if bad else ""))


def _some_keys(path: Any, number: int, open_list: Any) -> Sequence[str]:
    """Returns up to so many keys of an image list, evenly apart among the first CANDIDATES."""
    keys: list[str] = []
    for some, _ in open_list(path).batches(10_000):
        keys += some
        if len(keys) >= CANDIDATES:
            break
    return [keys[place] for place in np.unique(np.linspace(0, len(keys) - 1, min(number, len(keys))).astype(int))] if keys else []
