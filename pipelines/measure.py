"""Images a second of this machine, measured in worker processes of their own: one alone, several threads, several processes."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import psutil

from distill.data.chunks import Chunk
from distill.errors import DistillError, Unfinished
from distill.runtime.process import keep_memory
from distill.runtime.progress import phases
from distill.runtime.quiet import quiet_import
from distill.runtime.signals import uninterrupted
from pipelines.job import Job, Task
from pipelines.label import label_rows, try_teacher
from pipelines.metadata import meta_of
from teachers import limit_threads

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
class _Ready:
    """What a process of the measurement says when its teacher is loaded. rejects: of the images looked at."""

    embedding_bytes: int
    rejects: int
    megabytes: float


def _fits(megabytes: float, workers: int, free_megabytes: float) -> bool:
    return megabytes * workers < free_megabytes * (1 - KEEP_FREE)


def measure(job: Job, keys: list[str], workers: int) -> tuple[_Ready, Rates]:
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
