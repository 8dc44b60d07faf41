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
from distill.files import sweep
from distill.holders import unchanged
from distill.images import BadImage, ImageSpec, ahead, decode_batch, read_bytes
from distill.remote import is_remote
from distill.shards import Record, Rows, ShardMeta, commit_shard
from pipelines.plan import Job, Plan, leave_note, standing

FAR_READERS = 32  # a request to an object store waits for most of its time


@dataclass(frozen=True)
class Task:
    """One element: label the chunk of `meta` as the plan says. It holds nothing of the other chunks: a set may have thousands."""

    job: Job
    format: str
    batch: int
    meta: ShardMeta

    @classmethod
    def of(cls, job: Job, plan: Plan, number: int) -> Task:
        return cls(job, plan.format, plan.batch, plan.chunk_meta(number))


def embed_chunk(task: Task) -> Record:
    """Label one chunk, or find that it was done. rows + rejects of the record = rows of the chunk, always."""
    job, meta, number = task.job, task.meta, task.meta.chunk
    record = standing(job, task.format, meta)
    if record is not None:
        _tell(job, number, record.rows + record.rejects, 0)
        return record
    if job.teacher.fingerprint() != meta.teacher:
        raise DistillError(f"{job.teacher.path} is another model than when this run began. Put the old one back, or use another OUT.")
    sweep(job.shards)
    chunk = read_chunk(job.chunks / chunk_name(number, meta.of))
    if chunk.sha256 != meta.chunk_sha256:
        raise DistillError(
            f"{job.chunks}: chunk {number} is not the one of the plan. Put the old file back or start again with another OUT."
        )
    rejects: list[dict[str, Any]] = []
    record = commit_shard(job.shards, task.format, meta, _told(task, chunk, rejects), rejects)
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


def _told(task: Task, chunk: Chunk, rejects: list[dict[str, Any]]) -> Iterator[Rows]:
    """The rows of `label_rows`; the launcher is told how far they are."""
    done, told = 0, 0.0
    for rows in unchanged(task.job.root, label_rows(task, chunk, rejects)):
        yield rows
        done += len(rows)
        if time.monotonic() - told > 1.0:
            told = time.monotonic()
            _tell(task.job, chunk.number, done + len(rejects), done + len(rejects))
    _tell(task.job, chunk.number, len(chunk.keys), len(chunk.keys))


def label_rows(task: Task, chunk: Chunk, rejects: list[dict[str, Any]]) -> Iterator[Rows]:
    """The chunk's rows, a window at a time in order, with their embeddings; what cannot be labelled goes to `rejects`."""
    job, meta, batch = task.job, task.meta, task.batch
    teacher, spec = job.teacher.load(), ImageSpec(**meta.image)
    keys = chunk.keys
    readers = FAR_READERS if is_remote(job.root) else 2
    with ThreadPoolExecutor(readers, thread_name_prefix="decode") as pool, ThreadPoolExecutor(1) as reader:

        def window(start: int) -> _Window:
            part = slice(start, start + batch)
            encoded, unread = _read_all(job.root, keys[part], pool)
            pixels, undecoded = decode_batch(encoded, spec, pool)
            return _Window(keys[part], chunk.labels[part], encoded, pixels, {**undecoded, **unread})

        for got in ahead(reader, window, range(0, len(keys), batch)):
            good = np.array([row for row in range(len(got.keys)) if row not in got.bad], int)
            raw = teacher(got.pixels[good] if got.bad else got.pixels) if len(good) else np.empty((0, meta.width), np.float32)
            stored, reasons = _storable(raw, meta.dtype)
            bad = {**got.bad, **{int(good[row]): reason for row, reason in reasons.items()}}
            rejects += [_reject(got, row, bad[row]) for row in sorted(bad)]
            fine = np.array([row not in reasons for row in range(len(good))], bool)
            yield _rows(got, good[fine], stored[fine], meta.images)


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
    leave_note(job, f"progress-{number:05d}.json", {"done": done, "made": made})
