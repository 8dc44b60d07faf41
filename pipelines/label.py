"""One chunk through the teacher into one shard. Knows nothing of Beam.

Reading and decoding run two windows ahead of the teacher. Windows are cut by the rows of the chunk alone, so that the teacher sees the
same batches, and the shard has the same bytes, whatever engine, thread or attempt made it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from distill import DistillError
from distill.chunks import Chunk, chunk_name, read_chunk
from distill.files import sweep, write_json
from distill.images import BadImage, ImageSpec, ahead, decode_batch, read_bytes
from distill.shards import Record, Rows, commit_shard
from pipelines.plan import Job, Plan


@dataclass(frozen=True)
class Task:
    """One element: label chunk `number` as the plan says."""

    job: Job
    plan: Plan
    number: int


def embed_chunk(task: Task) -> Record:
    """Label one chunk, or find that it was done. rows + rejects of the record = rows of the chunk, always."""
    job, plan, number, of = task.job, task.plan, task.number, len(task.plan.chunks)
    record = None if number in job.only else plan.find_record(job.shards, number)  # --only makes it again, whatever is there
    if record is not None:
        _tell(job, number, record.rows + record.rejects, 0)
        return record
    sweep(job.shards)
    chunk = read_chunk(job.chunks / chunk_name(number, of))
    if chunk.sha256 != plan.chunks[number]:
        raise DistillError(
            f"{job.chunks}: chunk {number} is not the one of the plan. Put the old file back or start again with another OUT."
        )
    rejects: list[dict[str, Any]] = []
    record = commit_shard(job.shards, plan.format, plan.chunk_meta(number), _labelled(task, chunk, rejects), rejects)
    if record.rows + record.rejects != len(chunk.keys):
        raise DistillError(
            f"chunk {number}: {record.rows} rows and {record.rejects} rejects are not the {len(chunk.keys)} rows of the chunk."
        )
    return record


@dataclass(frozen=True)
class _Window:
    """Up to `batch` consecutive rows of a chunk, read and decoded. bad: reason by place."""

    keys: list[str]
    labels: np.ndarray
    encoded: list[bytes]
    pixels: np.ndarray
    bad: dict[int, str]


def _labelled(task: Task, chunk: Chunk, rejects: list[dict[str, Any]]) -> Iterator[Rows]:
    """The chunk's rows, a window at a time in order, with their embeddings; what cannot be labelled goes to `rejects`."""
    job, plan = task.job, task.plan
    teacher, spec = job.teacher.load(), ImageSpec(**plan.meta.image)
    keys, total = chunk.keys, len(chunk.keys)
    done, told = 0, 0.0
    with ThreadPoolExecutor(2, thread_name_prefix="decode") as pool, ThreadPoolExecutor(1) as reader:

        def window(start: int) -> _Window:
            part = slice(start, start + plan.batch)
            encoded, unread = _read_all(job.root, keys[part], pool)
            pixels, undecoded = decode_batch(encoded, spec, pool)
            return _Window(keys[part], chunk.labels[part], encoded, pixels, {**undecoded, **unread})

        for got in ahead(reader, window, range(0, total, plan.batch)):
            good = np.array([row for row in range(len(got.keys)) if row not in got.bad], int)
            raw = teacher(got.pixels[good] if got.bad else got.pixels) if len(good) else np.empty((0, plan.meta.width), np.float32)
            stored, reasons = _storable(raw, plan.meta.dtype)
            bad = {**got.bad, **{int(good[row]): reason for row, reason in reasons.items()}}
            rejects += [_reject(got, row, bad[row]) for row in sorted(bad)]
            fine = np.array([row not in reasons for row in range(len(good))], bool)
            yield _rows(got, good[fine], stored[fine], plan.meta.images)
            done += len(got.keys)
            if done == total or time.monotonic() - told > 1.0:
                told = time.monotonic()
                _tell(job, task.number, done, done)


def _read_all(root: str, keys: list[str], pool: ThreadPoolExecutor) -> tuple[list[bytes], dict[int, str]]:
    bad: dict[int, str] = {}

    def read(place: int) -> bytes:
        try:
            return read_bytes(root, keys[place])
        except BadImage as reason:
            bad[place] = str(reason)
            return b""

    return list(pool.map(read, range(len(keys)))), bad


def _storable(embeddings: np.ndarray, dtype: str) -> tuple[np.ndarray, dict[int, str]]:
    """Embeddings in the stored dtype, and the reason for each row that is not finite before or after the cast."""
    with np.errstate(over="ignore"):
        stored = embeddings.astype(dtype)
    before, after = np.isfinite(embeddings).all(axis=1), np.isfinite(stored).all(axis=1)
    reasons = {int(row): "the teacher's embedding is not finite" for row in np.flatnonzero(~before)}
    for row in np.flatnonzero(before & ~after):
        reasons[int(row)] = f"the embedding does not fit into {dtype} (largest value {np.abs(embeddings[row]).max():.6g})"
    return stored, reasons


def _reject(window: _Window, row: int, reason: str) -> dict[str, Any]:
    data = window.encoded[row]
    return {"key": window.keys[row], "reason": reason, "sha256": hashlib.sha256(data).hexdigest() if data else None}


def _rows(window: _Window, places: np.ndarray, embeddings: np.ndarray, images: str) -> Rows:
    encoded = [window.encoded[place] for place in places]
    return Rows(
        keys=[window.keys[place] for place in places],
        labels=window.labels[places],
        embeddings=embeddings,
        images=encoded if images == "inline" else None,
        image_sha256=None if images == "inline" else [hashlib.sha256(data).digest() for data in encoded],
    )


def _tell(job: Job, number: int, done: int, made: int) -> None:
    """For the launcher's progress bar: rows of this chunk that are done, and how many of them this run made."""
    write_json(job.state / f"progress-{number:05d}.json", {"done": done, "made": made})
