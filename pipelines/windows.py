"""The rows of a chunk in windows: bytes read and decoded ahead of the teacher, and rows of a shard that is there already found again.

Windows are cut by their bytes, so that memory does not grow with the size of images."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from distill.data.archives.reader import read_bytes
from distill.data.shards import FORMATS, Rows, shard_path
from distill.errors import BadImage, DistillError, Reason, Unfinished
from distill.images.codec import decode_batch
from distill.images.exif import orientation
from distill.images.spec import ImageSpec
from pipelines.job import Task
from pipelines.reuse import find_reusable

WINDOW_BYTES = 256 << 20  # of encoded images that a window keeps; up to four windows are in memory
BLOCK_BYTES = 64 << 20  # of encoded images that are read before they are decoded, and that are handed to the writer at a time
FIRST_BLOCK = 8  # images at a time, while nobody knows how large they are
FAR_READERS = 32  # a request to an object store waits for most of its time
_Found = tuple[int, Rows, int]  # a row that was labelled: number of its row group, the group, its place there


@dataclass
class Window:
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


class SizeGuess:
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


def _read_block(root: str, keys: list[str], earlier: EarlierRows, pool: ThreadPoolExecutor, sizes: SizeGuess) -> _Block:
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


def fill_window(window: Window, earlier: EarlierRows, spec: ImageSpec, pool: ThreadPoolExecutor, sizes: SizeGuess) -> Window:
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


class EarlierRows:
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
