"""The listing of a set: the files of its rows with their sizes and times, so that a later run can report what has changed.

    OUT/chunks/listing.tsv.zst    zstd; lines of UTF-8: "distill.listing.1<TAB>rows", then key<TAB>bytes<TAB>nanoseconds for each row, and after
                                  the last line end the CRC-32 of all of them, eight hex digits

Rows are in the order of the chunks. A missing file has -1 bytes. The rows of a record file or a tar are the file itself and its
index. Lists whose files would each take a request (a text list of objects) have no listing; the text of a list is always compared by its hash.

Two listings in the same order are compared as two streams of lines, so that memory does not grow with them: 1 us a row, most of it in the
file system.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from distill.data.archives.archive import index_of, is_archive
from distill.data.lists.folder import FolderList, list_files
from distill.data.lists.image_list import ImageList, Rule
from distill.errors import DistillError
from distill.images.codec import ahead
from distill.storage.files import committed
from distill.storage.path import StoragePath, as_path, is_remote, readable

LISTING = "listing.tsv.zst"
FORMAT = "distill.listing.1"
NAMED = 3  # names reported for each kind of difference

BLOCK = 1 << 20
LONGEST = 1 << 20  # bytes of a line
ASKED = 2000  # files that a thread looks up at a time
ASKERS = 16

Ask = Callable[[int, str], bool]  # (number of a row, its key) -> whether


@dataclass
class Changes:
    """How files differ from a listing. Counts and first names by kind; accepted: {key: its line now} of files that were allowed to change."""

    counts: dict[str, int] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    accepted: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, key: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        if len(first := self.names.setdefault(kind, [])) < NAMED:
            first.append(key)

    def in_words(self, *kinds: str) -> str:
        """Returns `7 added ('a/1.jpg', 'a/2.jpg', 'a/3.jpg' ...), 1 removed ('b/1.jpg')` for those of `kinds` that occur."""
        return ", ".join(
            f"{self.counts[kind]:,} {kind} ({', '.join(map(repr, self.names[kind]))}{' ...' * (self.counts[kind] > NAMED)})"
            for kind in kinds
            if kind in self.counts
        )


ADDED, REMOVED, RESIZED, TOUCHED = "added", "removed", "of another size", "of another time but the same size"
GONE = "removed that had been rejected"


def is_kept(source: StoragePath, root: str) -> bool:
    """Returns whether a listing of this source is kept."""
    return source.is_dir() or is_archive(source) or not is_remote(root) and Path(root).is_dir()


def sized_batches(images: ImageList, rows: int, root: str) -> Iterator[tuple[list[str], np.ndarray | None, list[int], list[int]]]:
    """Yields the batches of a list with the size and time of each file."""
    if isinstance(images, FolderList):
        yield from images.sized_batches(rows)
        return
    for keys, labels in images.batches(rows):
        yield keys, labels, *_ask(root, keys)


@contextmanager
def written(path: StoragePath) -> Iterator[Callable[[str], None]]:
    """Yields a function that writes whole lines, the head included, to the listing `path`, which gets its name when the block ends."""
    with committed(path) as temporary, pa.OSFile(str(temporary), "wb") as file, pa.CompressedOutputStream(file, "zstd") as packed:
        sum_of = 0

        def write(text: str) -> None:
            nonlocal sum_of
            data = text.encode()
            sum_of = zlib.crc32(data, sum_of)
            packed.write(data)

        yield write
        packed.write(b"%08x" % sum_of)


def head(rows: int) -> str:
    return f"{FORMAT}\t{rows}\n"


def lines_of(keys: Iterable[str], sizes: Iterable[int], times: Iterable[int]) -> list[str]:
    """Returns lines of a listing without line ends."""
    return [f"{key}\t{size}\t{time}" for key, size, time in zip(keys, sizes, times, strict=True)]


def read(path: StoragePath) -> Iterator[str]:
    """Yields the lines of a listing. Raises DistillError where it is damaged."""
    rows = expected = -1
    for rows, line in enumerate(_lines(path)):
        if rows:
            if line.count("\t") != 2:
                raise _damaged(path, f"line {rows + 1} is {line[:60]!r}")
            yield line
            continue
        name, _, count = line.partition("\t")
        if name != FORMAT or not count.isdecimal():
            raise _damaged(path, f"it begins {line[:40]!r}")
        expected = int(count)
    if rows != expected:
        raise _damaged(path, f"{max(rows, 0):,} rows are there, its head says {expected:,}")


def _lines(path: StoragePath) -> Iterator[str]:
    rest, sum_of = b"", 0
    try:
        with pa.PythonFile(readable(path)) if is_remote(path) else pa.OSFile(str(path)) as file, pa.CompressedInputStream(file, "zstd") as packed:
            while block := packed.read(BLOCK):
                whole, end, rest = (rest + block).rpartition(b"\n")
                sum_of = zlib.crc32(whole + end, sum_of)
                if end:
                    yield from whole.decode().split("\n")
                if len(rest) > LONGEST:
                    raise _damaged(path, f"a line of over {LONGEST:,} bytes")
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # a failure of the system
            raise
        raise _damaged(path, str(error).partition("\n")[0][:100]) from error
    if rest != b"%08x" % sum_of:
        raise _damaged(path, "its end is not the sum of its lines")


def _damaged(path: StoragePath, how: str) -> DistillError:
    return DistillError(f"{path} is damaged: {how}. Only the comparison with what lies there now needs it: --no-relist goes on without.")


# ------------------------------------------------------------------------------------------------------------------------- the files now


def found(source: StoragePath, root: str, rule: Rule, kept: Iterable[str]) -> Iterator[str]:
    """Yields the lines for the files of a source now, in the order of its listing. kept: the lines of that listing, which has the files of a text list."""
    if source.is_dir():
        for files in list_files(source, rule.all_files):
            yield from lines_of(*files)
    elif is_archive(source):
        yield from archive_lines(source)
    else:
        with ThreadPoolExecutor(ASKERS) as pool:
            for lines in ahead(pool, lambda keys: lines_of(keys, *_stat(root, keys)), _groups(map(key_of, kept)), 2 * ASKERS):
                yield from lines


def archive_lines(path: StoragePath) -> list[str]:
    """Returns the lines for a record file and its index, or for a tar."""
    files = [path, *([as_path(index_of(str(path)))] if path.suffix.lower() == ".rec" else [])]
    there = [(one.name, one.stat()) for one in files if one.is_file()]
    return [f"{name}\t{status.st_size}\t{status.st_mtime_ns}" for name, status in there]


def _groups(keys: Iterable[str]) -> Iterator[list[str]]:
    group: list[str] = []
    for key in keys:
        group.append(key)
        if len(group) == ASKED:
            yield group
            group = []
    if group:
        yield group


def _ask(root: str, keys: list[str]) -> tuple[list[int], list[int]]:
    with ThreadPoolExecutor(ASKERS) as pool:
        parts = list(pool.map(lambda some: _stat(root, some), _groups(keys)))
    return [size for sizes, _ in parts for size in sizes], [time for _, times in parts for time in times]


def _stat(root: str, keys: list[str]) -> tuple[list[int], list[int]]:
    sizes, times = [], []
    for key in keys:
        try:
            status = os.stat(os.path.join(root, key))
            size, time = status.st_size, status.st_mtime_ns
        except (OSError, ValueError):
            size, time = -1, 0
        sizes.append(size)
        times.append(time)
    return sizes, times


# ------------------------------------------------------------------------------------------------------------------------------- comparing


def key_of(line: str) -> str:
    return line[: line.index("\t")]


def compare(kept: Iterable[str], now: Iterable[str], may_change: Ask, may_go: Ask = lambda row, key: False) -> Changes:
    """Returns how `now` differs from `kept`: lines in the order of the bytes of class and key, or in any order where both have the same keys.

    Args:
        may_change: whether the file of a row may have another size.
        may_go: whether it may be gone.
    """
    changes, stream = Changes(), iter(kept)
    row, old = 0, next(stream, None)
    for new in now:
        if new != old:
            key = key_of(new)
            while old is not None and key_of(old) != key and _order(key_of(old)) < _order(key):
                changes.add(GONE if may_go(row, key_of(old)) else REMOVED, key_of(old))
                row, old = row + 1, next(stream, None)
            if old is None or key_of(old) != key:
                changes.add(ADDED, key)
                continue
            _differ(changes, row, old, new, may_change, may_go)
        row, old = row + 1, next(stream, None)
    while old is not None:
        changes.add(GONE if may_go(row, key_of(old)) else REMOVED, key_of(old))
        row, old = row + 1, next(stream, None)
    return changes


def _differ(changes: Changes, row: int, old: str, new: str, may_change: Ask, may_go: Ask) -> None:
    """Adds the difference of two lines of one key, if any."""
    key, size, _ = new.split("\t")
    if old.split("\t")[1] == size:
        if old != new:
            changes.add(TOUCHED, key)
    elif size == "-1" and may_go(row, key):
        changes.add(GONE, key)
    elif may_change(row, key):
        changes.accepted[key] = new
    else:
        changes.add(REMOVED if size == "-1" else RESIZED, key)


def _order(key: str) -> tuple[bytes, bytes]:
    return key.partition("/")[0].encode(), key.encode()


def update(path: StoragePath, accepted: dict[str, str]) -> None:
    """Rewrites a listing with new lines for some of its keys."""
    rows = sum(1 for _ in read(path))
    with written(path) as write:
        write(head(rows))
        for line in read(path):
            write(accepted.get(key_of(line), line) + "\n")
