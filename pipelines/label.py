"""One chunk through the teacher into one shard. Knows nothing of Beam.

Reading and decoding run two windows ahead of the teacher. Windows are cut by the rows of the chunk alone, and the teacher sees one view of a
window at a time, so that it gets the same batches, and the shard has the same bytes, whatever engine, thread or attempt made it, and whether
its views were made at once or added.

Memory does not grow with the size of images: a window keeps so many bytes of them, and what it does not keep is read again when it is written,
which must give the same bytes: of a batch of 128 photos of 5 MB, 60 % are read twice where the shard holds the images.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import numpy as np

from distill.data.archives.archive import unchanged
from distill.data.archives.reader import read_bytes
from distill.data.chunks import Chunk, chunk_name, read_chunk
from distill.data.shards import Record, Rows, RowsThere, ShardMeta, commit_shard, rows_there
from distill.data.shards.rows import quantise
from distill.data.shards.run_state import ChunkProgress
from distill.errors import BadImage, BrokenOff, DistillError, Reason
from distill.images.codec import ahead, decode_batch
from distill.images.views import replay
from distill.storage.path import is_remote
from pipelines.job import Job, Task, is_broken_off
from pipelines.reuse import find_finished
from pipelines.windows import BLOCK_BYTES, FAR_READERS, EarlierRows, SizeGuess, Window, fill_window
from teachers.trial import check_teacher

# How much of its length an embedding may lose when it is stored: some times what rounding costs where the numbers fit.
LOST = {"float16": 2e-3, "float32": 1e-6, "int8": 0.05}


def try_teacher(job: Job, meta: ShardMeta, batch: int, keys: list[str]) -> None:
    """DistillError where the teacher cannot label: see teachers.trial; or where what it answers to these images does not fit the set's dtype.

    keys: the first of what is to be labelled; those that cannot be read or decoded are passed over.
    """
    encoded = []
    for key in keys:
        with suppress(BadImage):
            encoded.append(read_bytes(job.root, key))
    pixels, bad = decode_batch(encoded, meta.image)
    answers = check_teacher(job.teacher.load(), pixels[[place for place in range(len(encoded)) if place not in bad]], batch)
    if said := lost_by(answers[np.isfinite(answers).all(axis=1)], meta.dtype):
        raise DistillError(f"{job.teacher.path} answers with numbers {said}. Store them as they are: --dtype float32.")


def lost_by(answers: np.ndarray, dtype: str) -> str:
    """What a dtype makes of most of these answers, as the end of a sentence; "" where they fit. All zeros fit any."""
    exact = answers[answers.any(axis=1)].astype(np.float64)
    if not len(exact):
        return ""
    with np.errstate(over="ignore", invalid="ignore"):
        there = stored(exact.astype(np.float32), dtype)
        lost = np.linalg.norm(there - exact, axis=1) / np.linalg.norm(exact, axis=1)
    odd = ~(lost <= LOST[dtype])  # also where something became infinite
    if odd.mean() <= 0.5:
        return ""
    largest = f"up to {np.abs(exact[odd]).max():.2g}, which {dtype} does not hold:"
    if not np.isfinite(there[odd]).all():
        return f"{largest} they become infinite"
    if not there[odd].any():
        return f"{largest} they become zeros"
    return f"{largest} they lose {np.median(lost[odd]):.1%} of their length, at most {LOST[dtype]:.1%} is rounding"


def stored(answers: np.ndarray, dtype: str) -> np.ndarray:
    """What a reader of the set gets, float64 [n, D]."""
    if dtype != "int8":
        return answers.astype(dtype).astype(np.float64)
    values, scale = quantise(answers)
    return values * scale[:, None].astype(np.float64)


def embed_chunk(task: Task) -> Record:
    """Label one chunk, or find that it was done. rows + rejects of the record = rows of the chunk, always."""
    job, meta, number = task.job, task.meta, task.meta.chunk
    record = find_finished(job, task.format, meta, task.layout)
    if record is not None:
        _tell(job, number, record.rows + record.rejects, 0)
        return record
    if job.teacher.fingerprint() != meta.teacher:
        raise DistillError(f"{job.teacher.path} is another model than when this run began. Put the old one back, or use another OUT.")
    chunk = read_chunk(job.chunks / chunk_name(number, meta.of))
    if chunk.sha256 != meta.chunk_sha256:
        raise DistillError(f"{job.chunks}: chunk {number} is not the one of the plan. Put the old file back or start again with another OUT.")
    rejects: list[dict[str, Any]] = []
    least = RowsThere() if number in job.only else rows_there(job.shards, task.format, meta, len(chunk.keys), task.layout)
    record = commit_shard(job.shards, task.format, meta, _told(task, chunk, rejects), rejects, least=least, layout=task.layout)
    if record.rows + record.rejects != len(chunk.keys):
        raise DistillError(f"chunk {number}: {record.rows} rows and {record.rejects} rejects are not the {len(chunk.keys)} rows of the chunk.")
    return record


def _told(task: Task, chunk: Chunk, rejects: list[dict[str, Any]]) -> Iterator[Rows]:
    """The rows of `label_rows`; the launcher is told how far they are, and how many have an EXIF rotation."""
    done, told, counted = 0, 0.0, Counter[str]()
    for rows in unchanged(task.job.root, label_rows(task, chunk, rejects, counted)):
        if is_broken_off(task.job):
            raise BrokenOff(f"{task.job.out}: the run was broken off.")
        yield rows
        done += len(rows)
        if time.monotonic() - told > 1.0:
            told = time.monotonic()
            _tell(task.job, chunk.number, done + len(rejects), done + len(rejects))
    _tell(task.job, chunk.number, len(chunk.keys), len(chunk.keys), counted["turned"])


def label_rows(task: Task, chunk: Chunk, rejects: list[dict[str, Any]], counted: Counter[str] | None = None) -> Iterator[Rows]:
    """The chunk's rows, a window at a time in order, with their embeddings; what cannot be labelled goes to `rejects`.

    counted: images whose EXIF rotation is not applied are counted in it as "turned".
    """
    job, meta, batch = task.job, task.meta, task.batch
    teacher, spec = job.teacher.load(), meta.image
    keys, earlier = chunk.keys, EarlierRows(task)
    readers = FAR_READERS if is_remote(job.root) else 2
    with ThreadPoolExecutor(readers, thread_name_prefix="decode") as pool, ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as viewer:
        sizes = SizeGuess(readers)

        def window(start: int) -> Window:
            part = slice(start, start + batch)
            return fill_window(Window(job.root, keys[part], chunk.labels[part], np.empty((0,), np.uint8)), earlier, spec, pool, sizes)

        for got in ahead(reader, window, range(0, len(keys), batch)):
            good = np.array([row for row in range(len(got.keys)) if row not in got.bad], int)
            if counted is not None:
                counted["turned"] += got.turned
            pixels, names = got.pixels[good] if got.bad else got.pixels, [got.keys[row] for row in good]
            # a row that was a reject then may be none now: the teacher sees the whole window again, as if all were made at once
            known = [got.known[row] for row in good if row in got.known]
            first = earlier.views if len(known) == len(good) else 0

            def seen(number: int, pixels: np.ndarray = pixels, names: list[str] = names) -> np.ndarray:
                return replay(pixels, meta.recipe, meta.view_seed, names, number)

            new = [teacher(view) for view in ahead(viewer, seen, range(first, meta.views), 1)] if len(good) else []
            stored, reasons = _storable(new, meta, first, np.stack(known) if first and known else None)
            bad = {**got.bad, **{int(good[row]): reason for row, reason in reasons.items()}}
            rejects += [_reject(got, row, bad[row]) for row in sorted(bad)]
            fine = np.array([row not in reasons for row in range(len(good))], bool)
            yield from _rows(got, good[fine], stored[fine], meta.images)


def _storable(new: list[np.ndarray], meta: ShardMeta, first: int, known: np.ndarray | None) -> tuple[np.ndarray, dict[int, Reason]]:
    """Embeddings as they are stored, [n, views * D], and the reason for each row that is not finite before or after the cast.

    new: the teacher's answers to views `first` on, float32 [n, D] each; known: the stored embeddings of the views before them.
    """
    dtype = "float32" if meta.dtype == "int8" else meta.dtype  # the writer makes int8 of it
    parts, reasons = [] if known is None else [known], dict[int, Reason]()
    for number, embeddings in enumerate(new, first):
        which = f" of view {number}" if number else ""
        with np.errstate(over="ignore"):
            stored = embeddings.astype(dtype)
        before, after = np.isfinite(embeddings).all(axis=1), np.isfinite(stored).all(axis=1)
        for row in np.flatnonzero(~before).tolist():
            reasons.setdefault(row, Reason(f"the teacher's embedding{which} is not finite", "answer"))
        for row in np.flatnonzero(before & ~after).tolist():
            reasons.setdefault(row, Reason(f"the embedding{which} does not fit into {dtype} (largest value {np.abs(embeddings[row]).max():.6g})", "range"))
        parts.append(stored)
    return np.concatenate(parts, axis=1) if parts else np.empty((0, meta.width), dtype), reasons


def _reject(window: Window, row: int, reason: str) -> dict[str, Any]:
    return {"key": window.keys[row], "reason": reason, "sha256": None if window.encoded[row] == b"" else window.digest(row).hex()}


def _rows(window: Window, places: np.ndarray, embeddings: np.ndarray, images: str) -> Iterator[Rows]:
    """The rows of a window, BLOCK_BYTES of images at a time."""
    keys, labels, inline = [window.keys[place] for place in places], window.labels[places], images == "inline"
    if not inline:
        yield Rows(keys, labels, embeddings, image_sha256=[window.digest(place) for place in places.tolist()])
        return
    start, held, encoded = 0, 0, list[bytes]()
    for at, place in enumerate(places.tolist()):
        data = window.image(place)
        if encoded and held + len(data) > BLOCK_BYTES:
            yield Rows(keys[start:at], labels[start:at], embeddings[start:at], encoded)
            start, held, encoded = at, 0, []
        encoded.append(data)
        held += len(data)
    yield Rows(keys[start:], labels[start:], embeddings[start:], encoded)


def _tell(job: Job, number: int, done: int, made: int, turned: int = 0) -> None:
    """For the launcher: rows of this chunk that are done, how many of them this run made, and how many have an EXIF rotation that is not applied."""
    job.notes.write(ChunkProgress(done, made, turned), number)
