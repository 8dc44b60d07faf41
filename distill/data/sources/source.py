"""What the trainer asks of every source, and what all sources share: their threads, and whether anything can be learned from their rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Protocol

import numpy as np

Batch = tuple[np.ndarray, dict[str, np.ndarray]]
QUEUE = 4  # batches that are made ahead
MIN_NORM = 1e-6  # length under which an embedding has no direction, as in distill/losses/embedding.py
SAME_DIRECTION = 1e-3  # of one number of two unit vectors: twice what float16 moves it by


class Source(Protocol):
    """What the trainer asks of a source. `classes` is 0 where there are no labels; `dimension` None where there are no embeddings; `rows` are those that
    an epoch gives, `steps` batches of `batch` each, the last of which may be short."""

    name: str
    fields: tuple[str, ...]
    image_shape: tuple[int, int, int]
    dimension: int | None
    classes: int
    batch: int
    rows: int
    steps: int
    left_out: Mapping[str, int]  # rows that could not be read so far, by the kind of their reason
    class_names: Sequence[str] | None  # None where rows may show anybody

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        """Yields the batches of one epoch from step `start` on; skipping decodes nothing."""

    def epoch_images(self, number: int) -> Iterator[np.ndarray]:
        """Yields the images of the batches of one epoch alone; no teacher is asked for them."""

    def identity(self) -> str:
        """Returns a hash of what it gives, the same wherever its files lie; "" where they are no files."""

    def teaches_nothing(self, field: str) -> str:
        """Returns why nothing can be learned from this field of its rows, as the end of a sentence; "" where something can."""


@contextmanager
def open_threads(number: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of so many threads while the block runs; 0: one for each core. Who leaves early waits for no work that has not begun."""
    pool = ThreadPoolExecutor(number or os.cpu_count() or 1, thread_name_prefix="source")
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def one_class(labels: Iterable[np.ndarray], rows: int, classes: int, changing: bool) -> str:
    """Returns why a class head learns nothing from these rows, "" where it does.

    Stops looking as soon as it knows: two classes, and more rows than classes, so that one of them has two rows.

    Args:
        labels: int32 [n] each, `rows` in all.
        changing: the same row looks different when it comes again.

    >>> one_class([np.array([0, 1, 2])], rows=3, classes=3, changing=False)
    'no class has two rows'
    """
    several = changing or rows > classes
    seen = np.zeros(classes, np.int64)
    for part in labels:
        seen += np.bincount(part, minlength=classes)
        if (several or seen.max() > 1) and np.count_nonzero(seen) > 1:
            return ""
    if np.count_nonzero(seen) < 2:
        return f"all {rows:,} rows have one class"
    return "no class has two rows"


def one_direction(embeddings: Iterable[np.ndarray]) -> str:
    """Returns why nothing is learned from these embeddings, "" where something is. Stops at the first one that points elsewhere.

    Args:
        embeddings: floats [n, D] each.

    >>> one_direction([np.array([[3.0, 4.0], [0.0, 0.0], [6.0, 8.0]])])
    'all embeddings point one way'
    """
    first = None
    for part in embeddings:
        length = np.linalg.norm(part.astype(np.float64), axis=1, keepdims=True)
        directions = part[length[:, 0] > MIN_NORM] / length[length > MIN_NORM][:, None]
        if len(directions):
            first = directions[0] if first is None else first
            if np.abs(directions - first).max() > SAME_DIRECTION:
                return ""
    return "all embeddings are zeros" if first is None else "all embeddings point one way"
