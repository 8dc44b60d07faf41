"""Photos side by side: as a model sees them, and the cosines of their embeddings.

A photo that cannot be read, or whose embedding is not finite, ends it with an error that names it as it was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from distill.errors import BadImage, DistillError
from distill.evaluation.embed import Model, finite
from distill.storage.path import StoragePath, as_path, close_to, is_remote

if TYPE_CHECKING:
    from distill.images.spec import ImageSpec

BATCH = 32
MOST_NAMED = 3  # of photos that cannot be read


@dataclass(frozen=True)
class Photos:
    """pixels: uint8 [N, H, W, 3], as a model is given them; resized: names of those that had another size, turned: of those whose EXIF rotation was left."""

    names: tuple[str, ...]
    pixels: np.ndarray
    resized: tuple[str, ...]
    turned: tuple[str, ...]


def check_photos(paths: Sequence[str | StoragePath]) -> None:
    """Raises DistillError unless two or more photos exist. Called before a model is loaded, which takes seconds."""
    if len(paths) < 2:
        raise DistillError(f"compare: {len(paths)} image{'s' * (len(paths) != 1)} given. Expected two or more.")
    for path in map(as_path, paths):
        if path.is_dir():
            raise DistillError(f"{path} is a folder. compare takes photos: name the files in it that are meant.")
        if not path.exists():
            raise DistillError(f"{path}: no such {'object' if is_remote(path) else 'file'}.{close_to(path)}")


def read_photos(paths: Sequence[str | StoragePath], spec: ImageSpec) -> Photos:
    """Returns photos at the size of a spec. Paths are files anywhere.

    Raises:
        DistillError: a photo cannot be read, or has another size where the spec resizes none.
    """
    from distill.images.exif import orientation

    check_photos(paths)
    found, resized, turned, bad = list[np.ndarray](), list[str](), list[str](), list[str]()
    for path in paths:
        try:
            data = as_path(path).read_bytes()
            pixels, changed = _pixels(data, spec)
        except (BadImage, OSError) as error:
            bad.append(f"{path}: {error.strerror if isinstance(error, OSError) and error.strerror else error}")
            continue
        found.append(pixels)
        resized += [str(path)] * changed
        turned += [str(path)] * (spec.exif != "apply" and orientation(data) != 1)
    if bad:
        more = f"; and {len(bad) - MOST_NAMED} more" if len(bad) > MOST_NAMED else ""
        raise DistillError(f"{'; '.join(bad[:MOST_NAMED])}{more}. Leave out what cannot be read.")
    return Photos(tuple(map(str, paths)), np.stack(found), tuple(resized), tuple(turned))


def _pixels(data: bytes, spec: ImageSpec) -> tuple[np.ndarray, bool]:
    """An image at the size of a spec, and whether it had another one."""
    from distill.images.codec import decode

    try:
        return decode(data, replace(spec, resize="none")), False
    except BadImage as error:
        if error.kind != "size" or spec.resize == "none":
            raise
        return decode(data, spec), True


def cosines(model: Model, photos: Photos) -> np.ndarray:
    """Returns the cosines of all photos with all: float64 [N, N], symmetric, 1 on the diagonal; 0 for an embedding of zeros.

    Raises:
        DistillError: an embedding is not finite.
    """
    starts = range(0, len(photos.pixels), BATCH)
    answers = [finite(np.asarray(model(photos.pixels[start : start + BATCH]), np.float32), photos.names[start : start + BATCH]) for start in starts]
    embeddings = np.concatenate(answers).astype(np.float64)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = np.divide(embeddings, lengths, out=np.zeros(embeddings.shape), where=lengths > 0)
    return np.clip(unit @ unit.T, -1.0, 1.0)
