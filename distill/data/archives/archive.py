"""Files that hold many images, open for reading: on disk, or in an object store, of which only ranges are fetched and nothing is kept.

A process holds the last 4 of them, with what it knows of them (size, index, names), and opens one again when it has changed: a file on disk
is looked at for each image, an object once a second. From gs:// no byte of another object is read, whatever happens in between; s3:// cannot
promise that, so who makes something of many images asks at the end whether the file stayed (`unchanged`).

A request far away takes as long as some megabytes. So reads that lie near each other are one: a record comes with its header, and who
goes through a whole file gets what lies between small images too, which is faster than a request for each header.
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
from distill.storage.path import StoragePath, is_remote, place

HOLDERS = (".rec", ".tar")  # files that hold many images
LOOK = 1.0  # seconds for which an object is taken to be the one that it was
READERS = 16  # ranges at a time, each of RANGE bytes at most
RANGE = 4 << 20
GAP = 1 << 17  # bytes between two headers that are read with them; where one waits for the other, STEP_OVER
STEP_OVER = 1 << 20  # 30 ms at 50 MB/s, about what another request waits
LEAST = 1 << 14  # bytes of a request

Made = TypeVar("Made")
Stamp = tuple[tuple[int | str, ...], ...]


def is_holder(path: str | os.PathLike[str] | StoragePath) -> bool:
    """Whether a path is a file that holds many images, and so a root."""
    return str(path).lower().endswith(HOLDERS) and place(path).is_file()


class Readable(Protocol):
    """size: bytes. read: `length` bytes from `start` (0 or more) on, fewer where the file ends."""

    size: int

    def read(self, start: int, length: int) -> bytes: ...


class HeldFile:
    """A file of many images. Threads share it, and it closes when the last one that uses it lets go.

    path: local, or of gs:// or s3://. size: bytes. stamp: what tells it from another file under this name, of another time.
    """

    def __init__(self, path: str) -> None:
        self.path, self.far = path, is_remote(path)
        self.stamp, self._looked = _stamp(path), time.monotonic()
        there = place(path)
        self._bytes: Ranges | _Near = there.ranges() if isinstance(there, RemotePath) else _Near(path)
        self.size = self._bytes.size

    def read(self, start: int, length: int) -> bytes:
        """`length` bytes from `start` (0 or more) on, fewer where the file ends."""
        length = max(0, min(length, self.size - start))  # so many are reserved before they are read
        try:
            return self._bytes.read(start, length)
        except FileNotFoundError as error:
            self._looked = -LOOK
            raise Unfinished(f"{self.path}: replaced or removed while it was read. What is done stays; run the same command again.") from error
        except StoreError:
            self._looked = -LOOK  # an object that is shorter now fails like this
            raise

    def fresh(self) -> bool:
        """Whether the file and those beside it are still those that were opened. DistillError where one is missing."""
        now = time.monotonic()
        if self.far and now - self._looked < LOOK:
            return True
        self._looked = now  # before the answer is there: one thread asks
        if _stamp(self.path) == self.stamp:  # 4 us a file of this machine; an image takes 90 to decode
            return True
        self._looked = -LOOK
        return False

    def confirm(self) -> None:
        """DistillError where the file, or one beside it, is another one by now: what was read may be of either."""
        if _stamp(self.path) != self.stamp:
            raise DistillError(f"{self.path} changed while it was read. Run it again.")

    def forward(self, first: int = LEAST) -> Readable:
        """This file for reads that go forward; of a far one the first of them brings `first` bytes along."""
        return Forward(self, first) if self.far else self

    def heads(self, offsets: np.ndarray, length: int) -> bytearray:
        """`length` bytes from each of the offsets (ascending, inside the file) on, with zeros where it ends before."""
        if not self.far:
            return bytearray().join([self.read(offset, length).ljust(length, b"\0") for offset in offsets.tolist()])
        with ThreadPoolExecutor(READERS) as pool:
            return bytearray().join(ahead(pool, lambda group: _heads_of(self, group, length), _groups(offsets, length), READERS))


class _Near:
    """The bytes of a file on this machine by their place."""

    def __init__(self, path: str) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115 - as long as it is held
        self.size = os.fstat(self._file.fileno()).st_size

    def read(self, start: int, length: int) -> bytes:
        return os.pread(self._file.fileno(), length, start)


class Forward:
    """A far file for one thread that reads forward. What did not come yet is a request, twice as long each time that the reads go on."""

    def __init__(self, file: HeldFile, first: int) -> None:
        self.size, self._file = file.size, file
        self._begin, self._window = 0, b""
        self._most, self._next = first, LEAST  # bytes of the request to come and of the one after it, unless more is asked for

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
    """Ascending offsets in parts that are read at once: at most GAP bytes between two, and RANGE from the first to the last."""
    start = 0
    far = np.append(np.flatnonzero(np.diff(offsets) > GAP + length) + 1, len(offsets))
    while start < len(offsets):
        within = int(np.searchsorted(offsets, offsets[start] + RANGE, side="right"))
        stop = min(within, int(far[np.searchsorted(far, start, side="right")]))
        yield offsets[start:stop]
        start = stop


def _heads_of(file: HeldFile, offsets: np.ndarray, length: int) -> bytes:
    first = int(offsets[0])
    data = file.read(first, int(offsets[-1]) + length - first)
    return b"".join([data[at : at + length].ljust(length, b"\0") for at in (offsets - first).tolist()])


# ------------------------------------------------------------------------------------------------------------------- files that are held


Held = TypeVar("Held", bound=HeldFile)

_held: dict[str, HeldFile] = {}
_lock = threading.Lock()


def held(path: str, kind: type[Held]) -> Held:
    """The file as this process holds it: opened at the first call, and again when it changed. The last 4 files are held."""
    file = _held.get(path)
    if file is None or not file.fresh():
        with _lock:
            file = _held.get(path)
            if file is None or not file.fresh():
                _held.pop(path, None)
                file = _held[path] = kind(path)
                if len(_held) > 4:
                    del _held[next(iter(_held))]
    return file  # type: ignore[return-value]  # one suffix, one kind


def unchanged(root: str, made: Iterable[Made]) -> Iterator[Made]:
    """`made`, and behind its end a DistillError where the file `root` that holds images is another one by then. A folder may change."""
    before = _stamp(root) if is_holder(root) else None
    yield from made
    if before is not None and _stamp(root) != before:
        raise DistillError(f"{root} changed while it was read. Run the same command again.")


def index_of(path: str) -> str:
    """The index of a record file: `.idx` beside it, or `.IDX` where the file's own suffix is in capitals and that is there."""
    stem, own = os.path.splitext(path)
    capitals = own != own.lower() and place(stem + ".IDX").is_file()
    return stem + (".IDX" if capitals else ".idx")


def _stamp(path: str) -> Stamp:
    """What tells each of the files from another one under its name. DistillError where one is missing or no regular file."""
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
        if isinstance(there := place(name), RemotePath):
            found = there.ranges()
            return found.size, found.mark
        status = os.stat(name)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None
