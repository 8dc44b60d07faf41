"""How long a list will take and how many GB it will fill: a few hundred of its images are labelled as the pipeline would, here and now.

Two ways are measured, one after the other: as many threads of one process as there are workers (`local`), and as many processes
(`processes`). Which is faster depends on the teacher and on the cores, so it is measured and not guessed; it also has to fit into memory.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from distill.data.archives.reader import read_bytes
from distill.data.chunks import list_chunks, read_chunk
from distill.data.kinds import is_chunk_folder
from distill.data.lists.image_list import open_list, way_to
from distill.errors import BadImage, DistillError
from distill.runtime.lines import many
from distill.runtime.progress import phase
from distill.storage.path import StoragePath
from pipelines.job import Job
from pipelines.measure import Rates, measure

IMAGES = 384  # looked at, spread evenly over the list


@dataclass(frozen=True)
class Forecast:
    """rows of the list; gigabytes of its shards; rejects: fraction of the images looked at that cannot be labelled."""

    rows: int
    chunks: int
    gigabytes: float
    rejects: float
    rates: Rates

    def seconds(self, workers: int | None = None) -> float:
        """Of labelling: here, or on so many workers that are each as fast as one here alone."""
        return self.seconds_at(self.rates) if workers is None else self.rows / (self.rates.one * self._busy(workers))

    def seconds_at(self, rates: Rates) -> float:
        """Of labelling on a machine that was measured."""
        return self.rows / (rates.best * self._busy(rates.workers) / rates.workers)

    def _busy(self, workers: int) -> float:
        """How many workers have a chunk, on average: 59 chunks keep 40 workers busy for two rounds, as if they were 29.5."""
        return self.chunks / math.ceil(self.chunks / workers)

    def as_dict(self, workers: Sequence[int] = (), elsewhere: Mapping[str, Rates] | None = None) -> dict[str, Any]:
        on_workers = {str(number): round(self.seconds(number), 1) for number in workers}
        machines = {name: round(self.seconds_at(rates), 1) for name, rates in (elsewhere or {}).items()}
        here = {"engine": self.rates.engine, "seconds": round(self.seconds(), 1)}
        return {**asdict(self), **here, "seconds_on_workers": on_workers, "seconds_on_machines": machines}

    def in_words(self, workers: Sequence[int] = (), elsewhere: Mapping[str, Rates] | None = None) -> str:
        """The forecast as a person reads it: here, on so many workers of this kind, and on machines that were measured."""
        rates = self.rates
        lines = [
            f"{many(self.rows, 'rows')} in {many(self.chunks, 'chunks')}, about {self.gigabytes:.2f} GB of shards; "
            f"of the images looked at {self.rejects:.1%} would be rejected",
            f"measured: {rates.one:,.0f} images/s with one worker, {rates.in_words()}; a process takes {rates.megabytes:,.0f} MB",
            f"here, --engine {rates.engine} --workers {rates.workers}: {_duration(self.seconds())}{_idle(rates.workers, self.chunks)}",
        ]
        lines += [f"{number} workers as fast as one here: {_duration(self.seconds(number))}{_idle(number, self.chunks)}" for number in workers]
        for name, there in (elsewhere or {}).items():
            line = f"{name}, --engine {there.engine} --workers {there.workers}: {_duration(self.seconds_at(there))}"
            lines.append(line + _idle(there.workers, self.chunks))
        return "\n".join(lines)


def forecast(job: Job, workers: int) -> Forecast:
    """Measure. Takes about 15 s and the time that the teacher takes to load, twice."""
    job.check_paths()
    with phase("reading the list"):
        keys, rows, chunks = sample(job, IMAGES)
    sizes = []
    for key in keys:
        with suppress(BadImage):
            sizes.append(len(read_bytes(job.root, key)))
    if not sizes:
        raise DistillError(f"{job.root}: none of the {len(keys)} images looked at can be read, {keys[0]!r} for one. {way_to(job.root, keys[0])}")
    ready, rates = measure(job, keys, workers)
    size = rows * row_bytes(job, ready.embedding_bytes, keys, sizes)
    return Forecast(rows, chunks, round(size / 1e9, 6), round(ready.rejects / len(keys), 4), rates)


def row_bytes(job: Job, embedding_bytes: int, keys: Sequence[str], sizes: Sequence[int]) -> float:
    """Of one row in a shard, on average. embedding_bytes: of all views of a row; sizes: of the images looked at."""
    image = float(np.mean(sizes)) if job.images == "inline" else 32
    return embedding_bytes + image + float(np.mean([len(key.encode()) for key in keys])) + 8


def _idle(workers: int, chunks: int) -> str:
    return (
        f" ({workers - chunks} of them idle: there {'is' if chunks == 1 else 'are'} {many(chunks, 'chunks')}; use smaller --rows)" if workers > chunks else ""
    )


def _duration(seconds: float) -> str:
    """(90) -> "1.5 minutes"."""
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 1.5 * size or unit == "minutes" and seconds >= 60:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def read_rates(path: StoragePath) -> Rates:
    """What `distill plan --json` wrote on another machine."""
    try:
        value = json.loads(path.read_text(encoding="utf-8-sig"))["rates"]
        rates = Rates(**value)
        if not all(type(figure) in (int, float) and 0 <= figure < math.inf for figure in value.values()):
            raise ValueError("a figure is no number from 0 on")
        if type(rates.workers) is not int or not min(rates.workers, rates.one, rates.local):
            raise ValueError("workers, one and local cannot be 0, and workers is a whole number")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DistillError(f"--machine {path}: {error!r}. Expected a file that distill plan --json wrote.") from error
    return rates


def sample(job: Job, number: int) -> tuple[list[str], int, int]:
    """(keys spread evenly over the list, rows of the list, chunks of it), without cutting anything."""
    keys = list[str]()
    if not is_chunk_folder(job.source):
        images = open_list(job.source, job.rule)
        wanted, first = _spread(images.rows, number), 0
        for batch, _ in images.batches(100_000):
            keys += [batch[row - first] for row in wanted[(wanted >= first) & (wanted < first + len(batch))].tolist()]
            first += len(batch)
        return keys, images.rows, -(-images.rows // job.rows)
    paths, rows = list_chunks(job.source), 0
    for place, path in enumerate(paths):
        chunk = read_chunk(path).keys
        share = number * (place + 1) // len(paths) - number * place // len(paths)
        keys += [chunk[row] for row in _spread(len(chunk), share).tolist()]
        rows += len(chunk)
    return keys, rows, len(paths)


def _spread(rows: int, number: int) -> np.ndarray:
    """(10, 4) -> [0, 3, 6, 9]."""
    return np.linspace(0, rows - 1, min(number, rows)).astype(int)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
