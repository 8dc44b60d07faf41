"""Archives: files with many images, opened for reading, on disk or in an object store. Of an object only ranges are fetched, and nothing is kept.

A process keeps the last 4 archives open, with their size, index and names, and opens one again when it has changed: a file on disk is checked
for each image, an object once a second. From gs:// no byte of another object is read, whatever happens in between. s3:// cannot promise
that, so code that reads many images checks at the end that the archive did not change (`unchanged`).

A request to a store takes as long as some megabytes. So reads that are close together become one request: a record comes with its header, and a
pass over a whole archive also reads the bytes between small images, which is faster than a request for each header.
"""

import os
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np

from distill.errors import DistillError, StoreError, Unfinished
from distill.images.codec import ahead
from distill.storage.client import Ranges
from distill.storage.objects import RemotePath
from distill.storage.path import StoragePath, as_path, is_remote

ARCHIVES = (".rec", ".tar")  # suffixes of files with many images
LOOK = 1.0  # seconds before an object is checked for changes again
READERS = 16  # ranges at a time, each of RANGE bytes at most
RANGE = 4 << 20
GAP = 1 << 17  # bytes between two headers that are read along with them; STEP_OVER where reads follow one another
STEP_OVER = 1 << 20  # 30 ms at 50 MB/s, about the latency of another request
LEAST = 1 << 14  # bytes of the smallest request

Made = TypeVar("Made")
Stamp = tuple[tuple[int | str, ...], ...]


def is_archive(path: str | os.PathLike[str] | StoragePath) -> bool:
    """Returns whether a path is a file with many images, which is then the root of their keys."""
    return str(path).lower().endswith(ARCHIVES) and as_path(path).is_file()


class Readable(Protocol):
    """Bytes that are read by offset. size: of the file. read: `length` bytes from `start` (0 or more) on, fewer at the end of the file."""

    size: int

    def read(self, start: int, length: int) -> bytes: ...


class Archive:
    """An open file of many images. Threads share it; it closes with its last reference.

    Attributes:
        path: local, or of gs:// or s3://.
        size: bytes.
        stamp: identifies this version of the file; another one under the same name has another stamp.
    """

    def __init__(self, path: str) -> None:
        self.path, self.remote = path, is_remote(path)
        self.stamp, self._looked = _stamp(path), time.monotonic()
        there = as_path(path)
        self._bytes: Ranges | _LocalBytes = there.ranges() if isinstance(there, RemotePath) else _LocalBytes(path)
        self.size = self._bytes.size

    def read(self, start: int, length: int) -> bytes:
        """Returns `length` bytes from `start` (0 or more) on, fewer at the end of the file."""
        length = max(0, min(length, self.size - start))  # memory for them is reserved before they are read
        try:
            return self._bytes.read(start, length)
        except FileNotFoundError as error:
            self._looked = -LOOK
            raise Unfinished(f"{self.path}: replaced or removed while it was read. What is done stays; run the same command again.") from error
        except StoreError:
            self._looked = -LOOK  # an object that became shorter fails like this
            raise

    def fresh(self) -> bool:
        """Returns whether the file and those beside it are still those that were opened. Raises DistillError where one is missing."""
        now = time.monotonic()
        if self.remote and now - self._looked < LOOK:
            return True
        self._looked = now  # before the check, so that only one thread does it
        if _stamp(self.path) == self.stamp:  # 4 us for a local file; an image takes 90 to decode
            return True
        self._looked = -LOOK
        return False

    def confirm(self) -> None:
        """Raises DistillError where the file, or one beside it, was replaced: what was read may come from either version."""
        if _stamp(self.path) != self.stamp:
            raise DistillError(f"{self.path} changed while it was read. Run it again.")

    def forward(self, first: int = LEAST) -> Readable:
        """Returns this file for reads in ascending order; for a remote one the first request fetches at least `first` bytes."""
        return Forward(self, first) if self.remote else self

    def heads(self, offsets: np.ndarray, length: int) -> bytearray:
        """Returns `length` bytes from each of the offsets (ascending, inside the file) on, padded with zeros at the end of the file."""
        if not self.remote:
            return bytearray().join([self.read(offset, length).ljust(length, b"\0") for offset in offsets.tolist()])
        with ThreadPoolExecutor(READERS) as pool:
            return bytearray().join(ahead(pool, lambda group: _heads_of(self, group, length), _groups(offsets, length), READERS))


class _LocalBytes:
    """The bytes of a local file, by offset."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - open as long as the archive is
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, start: int, length: int) -> bytes:
        return os.pread(self._file.fileno(), length, start)


class Forward:
    """A remote file for one thread that reads forward. Requests double in size as long as the reads go on."""

    def __init__(self, file: Archive, first: int) -> None:
        self.size, self._file = file.size, file
        self._begin, self._window = 0, b""
        self._most, self._next = first, LEAST  # bytes of the next request and of the one after it, unless a read is longer

    def read(self, start: int, length: int) -> bytes:
        stop, end = min(start + length, self.size), self._begin + len(self._window)
        if not self._begin <= start <= end:
            if self._window and not 0 < start - end <= STEP_OVER:
                self._most, self._next = LEAST, 2 * LEAST
            self._begin, self._window, end = start, b"", start
        if stop > end:
            self._window = self._window[start - self._begin :] + self._file.read(end, max(stop - end, self._most))
            self._begin, self._most, self._next = start, self._next, min(2 * self._next, RANGE)
        return self._window[start - self._begin : max(start, stop) - self._begin]


def _groups(offsets: np.ndarray, length: int) -> Iterator[np.ndarray]:
    """Yields ascending offsets in groups that are read at once: at most GAP bytes between two, and RANGE from the first to the last."""
    start = 0
    breaks = np.append(np.flatnonzero(np.diff(offsets) > GAP + length) + 1, len(offsets))
    while start < len(offsets):
        within = int(np.searchsorted(offsets, offsets[start] + RANGE, side="right"))
        stop = min(within, int(breaks[np.searchsorted(breaks, start, side="right")]))
        yield offsets[start:stop]
        start = stop


def _heads_of(file: Archive, offsets: np.ndarray, length: int) -> bytes:
    first = int(offsets[0])
    data = file.read(first, int(offsets[-1]) + length - first)
    return b"".join([data[at : at + length].ljust(length, b"\0") for at in (offsets - first).tolist()])


# ------------------------------------------------------------------------------------------------------------------------- open archives


AnyArchive = TypeVar("AnyArchive", bound=Archive)

_opened: dict[str, Archive] = {}
_lock = threading.Lock()


def open_archive(path: str, kind: type[AnyArchive]) -> AnyArchive:
    """Returns the open archive at `path`: opened at the first call, and again when it has changed. The last 4 stay open."""
    file = _opened.get(path)
    if file is None or not file.fresh():
        with _lock:
            file = _opened.get(path)
            if file is None or not file.fresh():
                _opened.pop(path, None)
                file = _opened[path] = kind(path)
                if len(_opened) > 4:
                    del _opened[next(iter(_opened))]
    return file  # type: ignore[return-value]  # one suffix, one kind


def unchanged(root: str, made: Iterable[Made]) -> Iterator[Made]:
    """Yields what `made` yields, then raises DistillError where the archive `root` was replaced meanwhile. A folder may change."""
    before = _stamp(root) if is_archive(root) else None
    yield from made
    if before is not None and _stamp(root) != before:
        raise DistillError(f"{root} changed while it was read. Run the same command again.")


def index_of(path: str) -> str:
    """Returns the path of the index of a record file: `.idx` beside it, or `.IDX` where the file's own suffix is in capitals and `.IDX` exists."""
    stem, own = os.path.splitext(path)
    capitals = own != own.lower() and as_path(stem + ".IDX").is_file()
    return stem + (".IDX" if capitals else ".idx")


def _stamp(path: str) -> Stamp:
    """Returns the versions of an archive and its index. Raises DistillError where one is missing or no regular file."""
    stamps = []
    for name in (path, *([index_of(path)] if path.lower().endswith(".rec") else [])):
        found = _mark(name)
        if found is None:
            why = f"its {os.path.basename(name)} is not beside it" if name != path else "no such file"
            raise DistillError(f"{path}: {why}, so no image can be read. Put it back, or name the file that holds the images with --root.")
        stamps.append(found)
    return tuple(stamps)


def _mark(name: str) -> tuple[int | str, ...] | None:
    try:
        if isinstance(there := as_path(name), RemotePath):
            found = there.ranges()
            return found.size, found.mark
        status = os.stat(name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None
