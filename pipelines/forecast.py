"""How long a list will take and how many GB it will fill: a few hundred of its images are labelled as the pipeline would, here and now.

Two ways are measured, one after the other: as many threads of one process as there are workers (`local`), and as many processes
(`processes`). Which is faster depends on the teacher and on the cores, so it is measured and not guessed; it also has to fit into memory.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import psutil

from distill.data.archives.reader import read_bytes
from distill.data.chunks import Chunk, list_chunks, read_chunk
from distill.data.kinds import is_chunk_folder
from distill.data.lists.image_list import open_list, way_to
from distill.errors import BadImage, DistillError, Unfinished
from distill.runtime.lines import many
from distill.runtime.process import keep_memory
from distill.runtime.progress import phase, phases
from distill.runtime.quiet import quiet_import
from distill.runtime.signals import uninterrupted
from distill.storage.path import StoragePath
from pipelines.job import Job, Task
from pipelines.label import label_rows, try_teacher
from pipelines.metadata import meta_of
from teachers import limit_threads

IMAGES = 384  # looked at, spread evenly over the list
SECONDS = 4.0  # of labelling for each figure, after a first round that does not count
ENOUGH = 400_000  # rows that no worker labels meanwhile; one long chunk, because at its beginning and end reading and the teacher wait for each other
STARTING = 300.0  # seconds that a worker may take to load its teacher
KEEP_FREE = 0.2  # of the memory


@dataclass(frozen=True)
class Rates:
    """Images a second of this machine. one: a worker alone; local, processes: `workers` of them as threads or processes.

    processes: 0 where so many do not fit into memory, and so were not measured. megabytes: of one process.
    """

    workers: int
    one: float
    local: float
    processes: float
    megabytes: float
    free_megabytes: float

    def in_words(self) -> str:
        processes = f"{self.processes:,.0f} with {self.workers} processes" if self.processes else f"no memory for {self.workers} processes"
        return f"{self.local:,.0f} images/s with {self.workers} threads, {processes}"

    @property
    def engine(self) -> str:
        """The faster of the two ways that fits into memory."""
        fits = _fits(self.megabytes, self.workers, self.free_megabytes)
        return "processes" if fits and self.processes > self.local else "local"

    @property
    def best(self) -> float:
        return self.processes if self.engine == "processes" else self.local


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


@dataclass(frozen=True)
class _Ready:
    """What a process of the measurement says when its teacher is loaded. rejects: of the images looked at."""

    embedding_bytes: int
    rejects: int
    megabytes: float


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
    ready, rates = _ask(job, keys, workers)
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


def _fits(megabytes: float, workers: int, free_megabytes: float) -> bool:
    return megabytes * workers < free_megabytes * (1 - KEEP_FREE)


def _ask(job: Job, keys: list[str], workers: int) -> tuple[_Ready, Rates]:
    """The figures of the first and of all of `workers` processes that label by turns. The first one shows whether the others fit into memory."""
    context = multiprocessing.get_context("spawn")
    free = psutil.virtual_memory().available / 1e6
    pipes, children = list[Connection](), []

    def start(number: int) -> list[_Ready]:
        for _ in range(number):
            mine, theirs = context.Pipe()
            child = context.Process(target=_work, args=(theirs, job, keys, SECONDS), daemon=True)
            with uninterrupted():
                child.start()
            theirs.close()  # so that a child that ends is seen as the end of the pipe
            pipes.append(mine)
            children.append(child)
        return [_hear(pipe) for pipe in pipes[len(pipes) - number :]]

    def rate(asked: list[Connection], threads: int) -> float:
        for pipe in asked:
            pipe.send(threads)
        return sum(_hear(pipe) for pipe in asked)

    try:
        with phases() as show:
            show("loading the teacher in a process of its own")
            (ready,) = start(1)
            show("measuring one worker")
            one, processes = rate(pipes, 1), 0.0
            show(f"measuring {workers} threads")
            local = rate(pipes, workers)
            if _fits(ready.megabytes, workers, free):
                show(f"loading the teacher in {workers} processes")
                start(workers - 1)
                show(f"measuring {workers} processes")
                processes = rate(pipes, 1)
        return ready, Rates(workers, round(one, 1), round(local, 1), round(processes, 1), round(ready.megabytes), round(free))
    finally:
        for child in children:
            child.kill()
            child.join()


def _hear(pipe: Connection) -> Any:
    """Returns what a process says next: _Ready, then a number of images a second for each question. Raises the error that it ended with."""
    if not pipe.poll(STARTING):
        raise Unfinished(f"A process of the measurement said nothing for {STARTING:.0f} s. Is the teacher's storage that slow?")
    try:
        told = pipe.recv()
    except EOFError:
        raise Unfinished("A process of the measurement ended by itself: killed, or out of memory. Ask for fewer --workers.") from None
    if isinstance(told, Exception):
        raise told
    return told


def _work(pipe: Connection, job: Job, keys: list[str], seconds: float) -> None:
    """A process of the measurement: says what it knows when it is ready, then for each number of threads the images a second."""
    keep_memory()
    limit_threads(1)
    rejects: list[dict[str, Any]] = []
    try:
        with quiet_import():
            meta = meta_of(job)
            task = Task(job, job.format, job.batch, meta)
            try_teacher(job, meta, job.batch, keys[:16])
            for _ in label_rows(task, _chunk(keys), rejects):
                pass
    except (DistillError, OSError) as error:
        pipe.send(error)
        return
    if len(rejects) == len(keys):
        one = rejects[0]
        pipe.send(DistillError(f"{job.root}: none of the {len(keys)} images looked at can be embedded. {one['key']!r}, for one: {one['reason']}."))
        return
    pipe.send(_Ready(meta.embedding_bytes, len(rejects), psutil.Process().memory_info().rss / 1e6))
    chunk = _chunk(keys * (ENOUGH // len(keys)))
    while True:
        threads = pipe.recv()
        with ThreadPoolExecutor(threads) as pool:
            pipe.send(sum(pool.map(lambda _: _rate(task, chunk, seconds), range(threads))))


def _chunk(keys: list[str]) -> Chunk:
    return Chunk(0, 1, "", "", keys, np.full(len(keys), -1, np.int32))


def _rate(task: Task, chunk: Chunk, seconds: float) -> float:
    done, started = 0, time.perf_counter()
    for rows in label_rows(task, chunk, []):
        done += len(rows)
        if time.perf_counter() - started > seconds:
            break
    return done / (time.perf_counter() - started)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
