"""Terms at work that have state. It changes only in training; what it is for comes from pure functions, and no gradient flows into it."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from distill.config.losses import Adaface, Curricularface, Queue, Term
from distill.losses.adaptive import adaface, curricularface, next_norms, next_threshold
from distill.losses.embedding import length, queue_similarity, unit

Tensor = Any
Batch = Mapping[str, Tensor]


class TeacherQueue:
    """`queue_similarity` to the teacher's last embeddings. Those of a batch go in before it is compared, in the place of the oldest.

    variables: unit embeddings [size, D]; the place of the next one; how many there are.
    """

    def __init__(self, term: Queue) -> None:
        self.term = term
        self.variables: list[Any] = []

    def build(self, dimension: int, embedding: int, classes: int) -> None:
        self.variables = [_state(np.zeros((self.term.size, dimension), "float32"), "queue"), _state(np.int32(0), "place"), _state(np.int32(0), "filled")]

    def __call__(self, batch: Batch, predicted: Batch, training: bool) -> Tensor:
        if training:
            self._take(batch["embedding"])
        queue, _, filled = self.variables
        there = ops.arange(self.term.size, dtype="int32") < filled
        return queue_similarity(batch["embedding"], predicted[self.term.takes], queue, there, self.term.temperature)

    def _take(self, embedding: Tensor) -> None:
        queue, place, filled = self.variables
        rows = unit(embedding)[-self.term.size :]
        count = ops.shape(rows)[0]
        places = ops.mod(ops.arange(count, dtype="int32") + place, self.term.size)
        queue.assign(ops.scatter_update(ops.cast(queue, "float32"), places[:, None], rows))
        place.assign(ops.mod(place + count, self.term.size))
        filled.assign(ops.minimum(filled + count, self.term.size))


class Curricular:
    """`curricularface` with its threshold, the moving mean of the rows' own cosines, which begins at 0. A batch moves it before it is used."""

    def __init__(self, term: Curricularface) -> None:
        self.term = term
        self.variables: list[Any] = []

    def build(self, dimension: int, embedding: int, classes: int) -> None:
        self.variables = [_state(np.float32(0), "threshold")]

    def __call__(self, batch: Batch, predicted: Batch, training: bool) -> Tensor:
        (threshold,) = self.variables
        label, cosines = batch["label"], predicted[self.term.takes]
        if training:
            threshold.assign(next_threshold(label, cosines, threshold))
        return curricularface(label, cosines, threshold, self.term.scale, self.term.angle_add)


class Adaptive:
    """`adaface` with the moving mean and deviation of the embeddings' lengths, which begin at 20 and 100. A batch moves them before they are used."""

    def __init__(self, term: Adaface) -> None:
        self.term = term
        self.variables: list[Any] = []

    def build(self, dimension: int, embedding: int, classes: int) -> None:
        self.variables = [_state(np.float32(20), "mean"), _state(np.float32(100), "deviation")]

    def __call__(self, batch: Batch, predicted: Batch, training: bool) -> Tensor:
        term, label, norms = self.term, batch["label"], length(predicted["student"])
        mean, deviation = self.variables
        if training:
            for variable, value in zip(self.variables, next_norms(label, norms, mean, deviation, term.rate), strict=True):
                variable.assign(value)
        return adaface(label, predicted[term.takes], norms, mean, deviation, term.scale, term.margin, term.concentration)


class Centres:
    """A distance from the centres of the classes, which begin at 0. A batch moves them after it was compared.

    Args:
        distance: of (label, embedding, centres).
        moved: the next centres, of (label, embedding, centres, alpha).
    """

    def __init__(self, distance: Callable[..., Tensor], moved: Callable[..., Tensor], term: Term) -> None:
        self.distance, self.moved, self.term = distance, moved, term
        self.variables: list[Any] = []

    def build(self, dimension: int, embedding: int, classes: int) -> None:
        self.variables = [_state(np.zeros((classes, embedding), "float32"), "centres")]

    def __call__(self, batch: Batch, predicted: Batch, training: bool) -> Tensor:
        (centres,) = self.variables
        label, embedding = batch["label"], predicted[self.term.takes]
        rows = self.distance(label, embedding, centres)
        if training:
            centres.assign(self.moved(label, embedding, centres, **self.term.options))
        return rows


def _state(value: Any, name: str) -> Any:
    return keras.Variable(value, trainable=False, dtype=value.dtype.name, name=name)
