"""Noise and the teacher's answer to it, for training without images. Short, because noise has neither files nor an order."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from distill.data.sources.source import QUEUE, Batch, one_direction, open_threads
from distill.images.codec import ahead


class NoiseSource:
    """Uniform noise 0..255 and the teacher's answer to it: steps batches an epoch, none of them twice.

    teacher: callable uint8 [B, H, W, 3] -> float32 [B, D].
    """

    name = "noise"
    fields: tuple[str, ...] = ("embedding",)
    classes = 0
    left_out: Mapping[str, int] = {}
    class_names = ()

    def __init__(self, teacher: Callable[[np.ndarray], np.ndarray], *, size: tuple[int, int], batch: int, steps: int, seed: int) -> None:
        self.teacher, self.batch, self.steps, self.seed = teacher, batch, steps, seed
        self.image_shape = (*size, 3)
        self.rows = batch * steps
        self.dimension: int | None = int(teacher(np.zeros((1, *self.image_shape), np.uint8)).shape[1])

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        with open_threads(1) as maker:
            yield from ahead(maker, lambda step: self._batch(number, step), range(start, self.steps), QUEUE)

    def epoch_images(self, number: int) -> Iterator[np.ndarray]:
        yield from (self._images(number, step) for step in range(self.steps))

    def identity(self) -> str:
        return ""

    def teaches_nothing(self, field: str) -> str:
        return one_direction(self._batch(0, step)[1]["embedding"] for step in range(min(4, self.steps)))

    def _images(self, number: int, step: int) -> np.ndarray:
        return np.random.default_rng([self.seed, number, step]).integers(0, 256, (self.batch, *self.image_shape), np.uint8)

    def _batch(self, number: int, step: int) -> Batch:
        images = self._images(number, step)
        return images, {"embedding": np.asarray(self.teacher(images), np.float32)}
