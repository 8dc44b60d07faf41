"""Embeddings of images for an evaluation. A model is any callable uint8 [B, H, W, 3] -> float32 [B, D], with
`.height`, `.width` (None: any size) and `.dimension`.

An image that cannot be decoded, or an embedding that is not finite, ends the evaluation with an error that names it: a figure over
only some of the pairs cannot be compared.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from distill.errors import BadImage, DistillError
from distill.storage.path import StoragePath

if TYPE_CHECKING:
    from distill.errors import Reason
    from distill.images.spec import ImageSpec

SHARED = 16  # images that a thread reads and decodes at a time

Progress = Callable[[int, int], object]  # called with (images done, all images)


class Model(Protocol):
    """What can be evaluated: a loaded teacher, student or export."""

    @property
    def height(self) -> int | None: ...
    @property
    def width(self) -> int | None: ...
    @property
    def dimension(self) -> int: ...
    def __call__(self, images: np.ndarray) -> np.ndarray: ...


Bad = list[tuple[str, str]]  # (key, reason) of images that cannot be read


def _bad_images(root: str | StoragePath, bad: Bad) -> str:
    named = "; ".join(f"{key}: {reason}" for key, reason in bad[:3]) + (f"; and {len(bad) - 3} more" if len(bad) > 3 else "")
    return f"{root}: {named}. An evaluation needs every image: mend or remove what cannot be read."


def embed_images(
    model: Model,
    root: str | StoragePath,
    keys: Sequence[str],
    spec: ImageSpec,
    batch: int = 128,
    progress: Progress | None = None,
    message: Callable[[str | StoragePath, Bad], str] = _bad_images,
    read: Callable[[str], bytes] | None = None,
    flip: bool = False,
    unit: bool = True,
) -> np.ndarray:
    """Returns the embedding of each key: float32 [len(keys), D], row i for keys[i]. Each distinct key is decoded and embedded once.

    `progress(done, of)` is called after each batch with counts of distinct keys. `read(key)` gives the bytes of an image; None: those of the file in
    `root`. flip, unit: see `embedded`. Raises DistillError for images that cannot be read or decoded, with the text of `message(root, bad)`, and for the
    first embedding that is not finite.
    """
    from distill.data.archives.reader import read_bytes

    read = read or partial(read_bytes, str(root))
    distinct = list(dict.fromkeys(keys))
    rows: list[np.ndarray] = []
    for names, pixels in _decoded(distinct, batch, spec, partial(_bytes, read, root, message), partial(message, root)):
        rows.append(embedded(model, pixels, names, flip, unit))
        if progress is not None:
            progress(sum(map(len, rows)), len(distinct))
    table = np.concatenate(rows) if rows else np.zeros((0, model.dimension), np.float32)
    place = {key: row for row, key in enumerate(distinct)}
    return table if len(distinct) == len(keys) else table[[place[key] for key in keys]]


def _decoded(
    keys: Sequence[str], batch: int, spec: ImageSpec, read: Callable[[str], bytes], message: Callable[[Bad], str]
) -> Iterator[tuple[Sequence[str], np.ndarray]]:
    """Yields (keys, pixels uint8 [B, H, W, 3]) in batches, which threads read and decode ahead: up to two while the model has one.

    Threads share a batch, so that the first one, and one of large photos, do not wait for a single core.
    """
    from distill.images.codec import ahead, decode_batch

    def made(names: Sequence[str]) -> tuple[np.ndarray, dict[int, Reason]]:
        return decode_batch([read(key) for key in names], spec)

    starts = range(0, len(keys), batch)
    parts = [keys[at : min(at + SHARED, start + batch)] for start in starts for at in range(start, min(start + batch, len(keys)), SHARED)]
    each = -(-batch // SHARED)  # parts of a whole batch
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        coming = ahead(pool, made, parts, depth=2 * each)
        for start in starts:
            names = keys[start : start + batch]
            found = [next(coming) for _ in range(-(-len(names) // SHARED))]
            bad = [(names[place * SHARED + row], str(reason)) for place, (_, lost) in enumerate(found) for row, reason in sorted(lost.items())]
            if bad:
                raise DistillError(message(bad))
            yield names, found[0][0] if len(found) == 1 else np.concatenate([pixels for pixels, _ in found])


def embedded(model: Model, pixels: np.ndarray, names: Sequence[str], flip: bool, unit: bool = True) -> np.ndarray:
    """Returns the embeddings of images uint8 [B, H, W, 3], float32 [B, D]. flip: each is f(image) + f(mirrored image), of length 1 where `unit` (0 stays 0)."""
    embeddings = finite(np.asarray(model(pixels), np.float32), names)
    if not flip:
        return embeddings
    both = embeddings + finite(np.asarray(model(np.ascontiguousarray(pixels[:, :, ::-1])), np.float32), names)
    if not unit:
        return both
    lengths = np.linalg.norm(both, axis=1, keepdims=True)
    return np.divide(both, lengths, out=np.zeros_like(both), where=lengths > 0)


def _bytes(read: Callable[[str], bytes], root: str | StoragePath, message: Callable[[str | StoragePath, Bad], str], key: str) -> bytes:
    try:
        return read(key)
    except BadImage as error:
        raise DistillError(message(root, [(key, str(error))])) from error


def finite(embeddings: np.ndarray, names: Sequence[str]) -> np.ndarray:
    if embeddings.ndim != 2 or len(embeddings) != len(names):
        raise DistillError(f"the model answered {len(names)} images with an array of shape {embeddings.shape}. Expected ({len(names)}, D).")
    lost = np.flatnonzero(~np.isfinite(embeddings).all(axis=1))
    if len(lost):
        more = f", nor are {len(lost) - 1} more of that batch" if len(lost) > 1 else ""
        raise DistillError(f"the model's embedding of {names[lost[0]]} is not finite{more}.")
    return embeddings


def spec_for(model: Model, resize: str = "none", size: tuple[int, int] | None = None, exif: str = "ignore") -> ImageSpec:
    """Returns the image spec of a model; `size` (height, width) is used where the model takes any."""
    from distill.images.spec import ImageSpec

    height, width = model.height or (size or (0, 0))[0], model.width or (size or (0, 0))[1]
    if not height or not width:
        raise DistillError("the model takes images of any size: say which one they have (height and width).")
    return ImageSpec(height, width, resize, exif)
