"""Batches as fit() takes them: those of a source, none too small for batch norm, epoch after epoch. Nothing here is of Keras."""

from collections.abc import Generator, Iterable, Iterator
from typing import Any, Protocol

import numpy as np

from distill.errors import DistillError
from distill.runtime.process import keep_memory_again

Batch = tuple[np.ndarray, dict[str, np.ndarray]]
SMALL = 8  # rows under which batch norm knows too little of the others: a last batch of fewer is no step of its own


class Epochs(Protocol):
    """What has batches by the number of an epoch: a source, or the data of a stage."""

    @property
    def name(self) -> str: ...
    @property
    def steps(self) -> int: ...
    def epoch(self, number: int) -> Iterator[Batch]: ...


def endless_batches(data: Epochs, fields: tuple[str, ...], epoch: int, errors: list[Exception], *, again: bool = False) -> Generator[Batch, None, None]:
    """Yields (images, {field: array}) of one epoch after another, without end.

    Args:
        epoch: the number of the first one.
        errors: what `data` raises is appended here, because a backend wraps it into an error of its own and loses the message.
        again: the same epoch comes again and again, as for held-out rows.
    """
    try:
        while True:
            steps = 0
            for images, values in data.epoch(epoch):
                steps += 1
                if steps == 2:  # TensorFlow's generator dataset takes the setting back when it starts: 28,000 page faults a step, 1.25 times the CPU time
                    keep_memory_again()
                yield images, {name: values[name] for name in fields}
            if steps != data.steps:
                raise DistillError(f'source "{data.name}" gave {steps} batches in epoch {epoch}, but promised {data.steps}.')
            epoch += not again
    except Exception as error:  # of any kind: the trainer raises it again as it was
        errors.append(error)
        raise


def joined_rows(source: Any) -> int:
    """Returns the rows of a last batch that comes with the one before; 0 where it is large enough, or alone.

    300 rows in batches of 64: the last has 44, so 0. 257 rows: 1.
    """
    last = source.rows - (source.steps - 1) * source.batch
    return last if source.steps > 1 and last < smallest(source) else 0


def smallest(source: Any) -> int:
    """Returns how many rows a batch of this source has to have."""
    return min(SMALL, source.batch)


def join_small(batches: Iterable[Batch], steps: int, smallest: int) -> Iterator[Batch]:
    """Yields `steps` batches, none of fewer than `smallest` rows where there is one before it.

    The short last one is joined to the one before. One that broken files left so short comes with the rows of the one before again.
    """
    before = last = None
    for number, batch in enumerate(batches):
        if before is not None and number < steps and len(batch[0]) < smallest:
            batch = _join(before, batch)
        before = batch
        if number < steps - 1:
            yield batch
        else:
            last = batch if last is None else _join(last, batch)
    if last is not None:
        yield last


def _join(first: Batch, second: Batch) -> Batch:
    return np.concatenate([first[0], second[0]]), {name: np.concatenate([first[1][name], second[1][name]]) for name in first[1]}
