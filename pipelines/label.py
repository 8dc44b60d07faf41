"""One chunk through the teacher into one shard. Knows nothing of Beam.

Reading and decoding run two windows ahead of the teacher. Windows are cut by the rows of the chunk alone, and the teacher sees one view of a
window at a time, so that it gets the same batches, and the shard has the same bytes, whatever engine, thread or attempt made it, and whether
its views were made at once or added.

Memory does not grow with the size of images: a window keeps so many bytes of them, and what it does not keep is read again when it is written,
which must give the same bytes: of a batch of 128 photos of 5 MB, 60 % are read twice where the shard holds the images.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from distill.data.archives.archive import unchanged
from distill.data.archives.reader import read_bytes
from distill.data.chunks import Chunk, chunk_name, read_chunk
from distill.data.layout import UNDERSCORE, Layout
from distill.data.shards import FORMATS, Held, Record, Rows, ShardMeta, commit_shard, rows_there, shard_path
from distill.data.shards.plan import Plan
from distill.data.shards.rows import quantise
from distill.data.shards.run_state import ChunkProgress
from distill.errors import BadImage, BrokenOff, DistillError, Reason, Unfinished
from distill.images.codec import ahead, decode_batch
from distill.images.exif import orientation
from distill.images.spec import ImageSpec
from distill.images.views import replay
from distill.storage.path import is_remote
from pipelines.job import Job, is_broken_off
from pipelines.reuse import find_finished, find_reusable
from teachers.trial import check_teacher

# How much of its length an embedding may lose when it is stored: some times what rounding costs where the numbers fit.
LOST = {"float16": 2e-3, "float32": 1e-6, "int8": 0.05}
WINDOW_BYTES = 256 << 20  # of encoded images that a window keeps; up to four windows are in memory
BLOCK_BYTES = 64 << 20  # of encoded images that are read before they are decoded, and that are handed to the writer at a time
FIRST_BLOCK = 8  # images at a time, while nobody knows how large they are
FAR_READERS = 32  # a request to an object store waits for most of its time


_Found = tuple[int, Rows, int]  # a row that was labelled: number of its row group, the group, its place there


@dataclass(frozen=True)
class Task:
    """One element: label the chunk of `meta` as the plan says. It holds nothing of the other chunks: a set may have thousands."""

    job: Job
    format: str
    batch: int
    meta: ShardMeta
    layout: Layout = UNDERSCORE

    @classmethod
    def of(cls, job: Job, plan: Plan, number: int) -> Task:
        return cls(job, plan.format, plan.batch, plan.chunk_meta(number), plan.names)


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
    least = Held() if number in job.only else rows_there(job.shards, task.format, meta, len(chunk.keys), task.layout)
    record = commit_shard(job.shards, task.format, meta, _told(task, chunk, rejects), rejects, least=least, layout=task.layout)
    if record.rows + record.rejects != len(chunk.keys):
        raise DistillError(f"chunk {number}: {record.rows} rows and {record.rejects} rejects are not the {len(chunk.keys)} rows of the chunk.")
    return record


@dataclass
class _Window:
    """Up to `batch` consecutive rows of a chunk, read and decoded. bad: reason by place; known: stored embeddings by place, of some views.

    encoded: None where the bytes were not kept; then there are their hash, and what reads them again. turned: how many have an EXIF rotation that
    is not applied."""

    root: str
    keys: list[str]
    labels: np.ndarray
    pixels: np.ndarray
    encoded: list[bytes | None] = field(default_factory=list)
    bad: dict[int, Reason] = field(default_factory=dict)
    known: dict[int, np.ndarray] = field(default_factory=dict)
    hashes: dict[int, bytes] = field(default_factory=dict)
    again: dict[int, Callable[[], bytes]] = field(default_factory=dict)
    kept: int = 0
    turned: int = 0

    def keep(self, data: bytes, again: Callable[[], bytes]) -> None:
        """Take the bytes of the next image, or only their hash where too many are kept already."""
        self.kept += len(data)
        if not data or self.kept <= WINDOW_BYTES:
            self.encoded.append(data)
            return
        self.hashes[len(self.encoded)], self.again[len(self.encoded)] = hashlib.sha256(data).digest(), again
        self.encoded.append(None)

    def image(self, place: int) -> bytes:
        """The encoded bytes that the teacher saw. Unfinished where others lie there by now."""
        data = self.encoded[place]
        if data is not None:
            return data
        try:
            data = self.again[place]()
        except BadImage:
            data = b""
        if hashlib.sha256(data).digest() != self.hashes[place]:
            raise Unfinished(f"{self.root}: {self.keys[place]!r} changed while it was embedded. What is done stays; run the same command again.")
        return data

    def digest(self, place: int) -> bytes:
        data = self.encoded[place]
        return self.hashes[place] if data is None else hashlib.sha256(data).digest()


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
    keys, earlier = chunk.keys, _Earlier(task)
    readers = FAR_READERS if is_remote(job.root) else 2
    with ThreadPoolExecutor(readers, thread_name_prefix="decode") as pool, ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as viewer:
        sizes = _Sizes(readers)

        def window(start: int) -> _Window:
            part = slice(start, start + batch)
            return _filled(_Window(job.root, keys[part], chunk.labels[part], np.empty((0,), np.uint8)), earlier, spec, pool, sizes)

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


class _Sizes:
    """How many images may be on their way: so many as there is room for where all are as large as those that were read last."""

    def __init__(self, readers: int = FAR_READERS) -> None:
        self.readers, self.last = readers, 0.0

    def seen(self, size: int) -> None:
        self.last = max(size, self.last / 4)  # one large image is forgotten after some small ones

    def may_ask(self, held: int, on_their_way: int) -> bool:
        """Whether to ask for one more, where so many bytes of a block are here."""
        if not self.last:
            return on_their_way < FIRST_BLOCK
        return on_their_way < 2 * self.readers and held + (on_their_way + 1) * self.last <= BLOCK_BYTES


@dataclass
class _Block:
    """Some consecutive images, BLOCK_BYTES of them. found: those of an earlier shard by place; unread: reasons by place."""

    encoded: list[bytes] = field(default_factory=list)
    found: dict[int, _Found] = field(default_factory=dict)
    unread: dict[int, Reason] = field(default_factory=dict)


def _read_block(root: str, keys: list[str], earlier: _Earlier, pool: ThreadPoolExecutor, sizes: _Sizes) -> _Block:
    """The first images of `keys`, one at least, read side by side; no more are asked for once they come to BLOCK_BYTES."""
    block, held, asked = _Block(), 0, 0
    reads: deque[Future[tuple[bytes, Reason | None]]] = deque()
    try:
        while True:
            while asked < len(keys) and (sizes.may_ask(held, len(reads)) or not asked):
                found = earlier.find([keys[asked]]).get(0)
                if found is not None:
                    block.found[asked] = found
                reads.append(pool.submit(_read, root, keys[asked], found))
                asked += 1
            if not reads:
                return block
            data, reason = reads.popleft().result()
            if reason:
                block.unread[len(block.encoded)] = reason
            block.encoded.append(data)
            held += len(data)
            sizes.seen(len(data))
    finally:
        for read in reads:
            read.cancel()


def _filled(window: _Window, earlier: _Earlier, spec: ImageSpec, pool: ThreadPoolExecutor, sizes: _Sizes) -> _Window:
    """The window with its images read and decoded, a block at a time."""
    pixels, start = list[np.ndarray](), 0
    while start < len(window.keys):
        block = _read_block(window.root, window.keys[start:], earlier, pool, sizes)
        decoded, undecoded = decode_batch(block.encoded, spec, pool)
        pixels.append(decoded)
        window.bad |= {start + place: reason for place, reason in {**undecoded, **block.unread}.items()}
        window.known |= {start + place: rows.embeddings[row] for place, (_, rows, row) in block.found.items()}
        if spec.exif != "apply":
            window.turned += sum(orientation(data) != 1 for place, data in enumerate(block.encoded) if start + place not in window.bad)
        for place, data in enumerate(block.encoded):
            group, rows, row = block.found.get(place, (0, None, 0))
            inline = rows is not None and rows.images is not None
            again = partial(earlier.image, group, row) if inline else partial(read_bytes, window.root, window.keys[start + place])
            window.keep(data, again)
        start += len(block.encoded)
    window.pixels = pixels[0] if len(pixels) == 1 else np.concatenate(pixels)
    return window


class _Earlier:
    """The rows of the chunk's shard that is taken over, asked for in the chunk's order; none where all has to be made."""

    def __init__(self, task: Task) -> None:
        job, meta = task.job, task.meta
        there = find_reusable(job, task.format, meta)
        self.root, self.views = job.root, there.views if there else 0
        self._shard = shard_path(job.shards, task.format, meta.chunk, meta.of)
        self._format, self._group = FORMATS[task.format], (-1, Rows(None, None, None))
        groups = enumerate(self._format.read(self._shard)) if there else ()
        self._rows = ((group, rows, row) for group, rows in groups for row in range(len(rows)))
        self._next = next(self._rows, None)

    def find(self, keys: list[str]) -> dict[int, _Found]:
        """The keys that were labelled, by place; the other ones were rejects."""
        found = {}
        for place, key in enumerate(keys):
            if self._next is not None and self._next[1].keys[self._next[2]] == key:
                found[place], self._next = self._next, next(self._rows, None)
        return found

    def image(self, group: int, row: int) -> bytes:
        """The encoded image of a row, read again; asked for in order, by one thread."""
        if self._group[0] != group:
            self._group = group, next(self._format.read(self._shard, [group], ["image"]))
        return bytes(self._group[1].images[row])


def _read(root: str, key: str, found: _Found | None) -> tuple[bytes, Reason | None]:
    """An image's bytes, those of the earlier shard where they lie in it, and why there are none."""
    _, rows, row = found or (0, None, 0)
    if rows is not None and rows.images is not None:
        return bytes(rows.images[row]), None
    data, reason = b"", None
    try:
        data = read_bytes(root, key)
    except BadImage as error:
        reason = error.reason
    if rows is not None and hashlib.sha256(data).digest() != rows.image_sha256[row]:
        raise DistillError(f"{root}: {key!r} is not the file that the teacher saw (another sha256), so no view can be added. Put the old file back.")
    return data, reason


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


def _reject(window: _Window, row: int, reason: str) -> dict[str, Any]:
    return {"key": window.keys[row], "reason": reason, "sha256": None if window.encoded[row] == b"" else window.digest(row).hex()}


def _rows(window: _Window, places: np.ndarray, embeddings: np.ndarray, images: str) -> Iterator[Rows]:
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
