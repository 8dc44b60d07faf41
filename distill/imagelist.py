"""Image lists: where images come from, as rows of (key, label) in one fixed order, and the class table. Memory does not grow with rows.

Folder of class folders
    Each folder directly below SOURCE is a class; every regular file under it, at any depth and with any suffix, is a row. The key is the
    path below SOURCE, parts separated by "/". Order: UTF-8 bytes of the class, then UTF-8 bytes of the key. Skipped and counted: names
    with a leading dot, links that leave SOURCE, lead nowhere or back up, files beside the class folders, and what is no regular file.
    Other links are followed.

Text list
    UTF-8 (a byte order mark is dropped), one `path` or `path<TAB>label` a line, ended by LF or CRLF. Order: the file's own. A path is taken
    as it stands, spaces included; it is relative and may not leave the root. Either every line has a label or none has. Labels are class
    numbers when all are written as numbers (0, 17): class n is then called "n", and the table goes from 0 to the largest. They are class
    names when none is a number, or when digits with leading zeros (0017) show that digits are names here; a mix is an error.

Record file (`train.rec`, `distill.records`) and tar (`distill.tars`)
    Files that hold many images: the root is the file itself, and a key says `rec:<id>` or `tar:<name>`.

Class table: line n is class n. Names are ordered by their UTF-8 bytes, so that a folder and a list of its files give equal tables.

A name that is not UTF-8 or holds a control character, a duplicate, and a list without rows are errors that name the line or the file.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from distill import DistillError
from distill.images import ahead, is_holder
from distill.records import open_records
from distill.remote import RemotePath, is_remote, place
from distill.tars import open_tar
from distill.textlist import Lines, count_lines, mixed, read_lines

MAX_CLASSES = 10_000_000
LISTERS = 16  # class folders listed at a time: what is far away waits for most of the time

_HOLDERS: dict[str, Callable[[Path, int], "ImageList"]] = {".rec": open_records, ".tar": open_tar}

_NUMBER = re.compile(r"0|[1-9][0-9]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class ImageList(Protocol):
    """Rows in a fixed order. root: the folder or file that keys are relative to, unless another one is given at run time.

    classes: names, line n of classes.txt is class n, empty when rows have no labels. skipped: how many names were passed over, by reason.
    """

    root: Path
    rows: int
    classes: list[str]
    skipped: dict[str, int]

    def batches(self, rows: int) -> Iterator[tuple[list[str], np.ndarray | None]]:
        """Keys and labels (int32 [n], None when rows have no labels) of `rows` rows each, the last batch may be short. One pass."""


def open_list(source: str | Path) -> ImageList:
    """A folder of class folders, a text list, `.rec` or `.tar`. It is gone through once here: what is wrong with it is told before any work.

    5.8 million lines take about 5 s to open and 3 s to go through, in 230 MB (measured on one core).
    """
    source = place(source)
    if source.is_dir():
        return _open_folder(source)
    if is_holder(source):
        return _HOLDERS[source.suffix](source, MAX_CLASSES)
    if source.is_file():
        return _open_text(source)
    raise DistillError(f"{source}: not found. Expected a folder of class folders, a text list (path or path<TAB>label on each line), .rec or .tar.")


# ---------------------------------------------------------------------------------------------------------------- folder of class folders


@dataclass
class FolderList:
    """A folder of class folders; see `ImageList`."""

    root: Path
    classes: list[str]
    rows: int = 0
    skipped: dict[str, int] = field(default_factory=dict)

    def batches(self, rows: int) -> Iterator[tuple[list[str], np.ndarray | None]]:
        keys: list[str] = []
        labels: list[int] = []
        done = 0
        for label, key in _walk(self.root, self.classes, {}):
            keys.append(key)
            labels.append(label)
            if len(keys) == rows:
                done += len(keys)
                yield keys, np.array(labels, np.int32)
                keys, labels = [], []
        done += len(keys)
        if done != self.rows:
            raise DistillError(f"{self.root} changed while it was read: {self.rows:,} files at first, then {done:,}. Run it again.")
        if keys:
            yield keys, np.array(labels, np.int32)


def _open_folder(root: Path) -> FolderList:
    skipped: dict[str, int] = {}
    found = _folders_and_files(root, b"", (_real(root, b""),), skipped, top=True)
    names = sorted(name.rstrip(b"/") for name, _ in found)  # without the "/", so that "a" comes before "a b"
    images = FolderList(root, [_text(root, name) for name in names])
    images.rows = sum(1 for _ in _walk(root, images.classes, skipped))
    images.skipped = skipped
    if not images.rows:
        passed = ", ".join(f"{count} {reason}" for reason, count in skipped.items()) or "nothing else"
        raise DistillError(
            f"{root}: no images in {len(names)} class folders (skipped: {passed}). Expected a folder for each class, with images in it."
        )
    return images


def _walk(root: Path, classes: list[str], skipped: dict[str, int]) -> Iterator[tuple[int, str]]:
    """(label, key) of all files in their order."""
    real = _real(root, b"")

    def list_class(name: str) -> tuple[list[str], dict[str, int]]:
        passed: dict[str, int] = {}
        return [_text(root, key) for key in _files_below(root, name.encode() + b"/", (real,), passed)], passed

    with ThreadPoolExecutor(LISTERS) as pool:
        for label, (keys, passed) in enumerate(ahead(pool, list_class, classes, 2 * LISTERS)):
            for reason, count in passed.items():
                skipped[reason] = skipped.get(reason, 0) + count
            for key in keys:
                yield label, key


def _real(root: Path, folder: bytes) -> bytes:
    """Where a folder really lies; in an object store nothing leads elsewhere."""
    return b"" if is_remote(root) else os.path.realpath(os.path.join(os.fsencode(root), folder))


def _files_below(root: Path, folder: bytes, above: tuple[bytes, ...], skipped: dict[str, int]) -> Iterator[bytes]:
    above = (*above, _real(root, folder))
    for key, is_folder in _folders_and_files(root, folder, above, skipped):
        if is_folder:
            yield from _files_below(root, key, above, skipped)
        else:
            yield key


def _folders_and_files(
    root: Path, folder: bytes, above: tuple[bytes, ...], skipped: dict[str, int], top: bool = False
) -> list[tuple[bytes, bool]]:
    """(key, is a folder) of what lies in a folder, in the order that all keys below it have: a folder counts with its "/".

    above: the real paths of the root and of the folders on the way here. top: only folders count, they are the classes.
    """
    found = []
    for name, is_folder, reason in _entries(root, folder, above):
        if not reason and top and not is_folder:
            reason = "files beside the class folders"
        if reason:
            skipped[reason] = skipped.get(reason, 0) + 1
        else:
            found.append((folder + name + b"/" * is_folder, is_folder))
    return sorted(found)


def _entries(root: Path, folder: bytes, above: tuple[bytes, ...]) -> Iterator[tuple[bytes, bool, str]]:
    """(name, is a folder, why it is skipped) of what lies in a folder, in no order."""
    if isinstance(root, RemotePath):
        for path, is_file in (root / folder.decode()).entries():
            yield path.name.encode(), not is_file, "names with a leading dot" if path.name.startswith(".") else ""
        return
    try:
        with os.scandir(os.path.join(os.fsencode(root), folder)) as entries:
            for entry in entries:
                yield entry.name, *_kind(entry, above)
    except OSError as error:
        raise DistillError(f"{root}: the folder {os.fsdecode(folder)!r} cannot be read: {error.strerror}.") from error


def _kind(entry: os.DirEntry, above: tuple[bytes, ...]) -> tuple[bool, str]:
    """Whether an entry is a folder, and why it is skipped ("" if it is not)."""
    if entry.name.startswith(b"."):
        return False, "names with a leading dot"
    if not entry.is_symlink():
        is_folder = entry.is_dir(follow_symlinks=False)
        return is_folder, "" if is_folder or entry.is_file(follow_symlinks=False) else "not regular files"
    real = os.path.realpath(entry.path)
    if not real.startswith(above[0].rstrip(b"/") + b"/"):
        return False, "links back up" if real in above else "links out of the root"
    if real in above:
        return False, "links back up"
    try:
        mode = os.stat(real).st_mode
    except OSError:
        return False, "broken links"
    if stat.S_ISDIR(mode):
        return True, ""
    return False, "" if stat.S_ISREG(mode) else "not regular files"


def _text(root: Path, key: bytes) -> str:
    try:
        text = key.decode()
    except UnicodeDecodeError as error:
        raise DistillError(f"{root}: the name {key!r} is not UTF-8. Rename it.") from error
    if _CONTROL.search(text):
        raise DistillError(f"{root}: the name {text!r} holds a control character. Rename it.")
    return text


# ------------------------------------------------------------------------------------------------------------------------------ text list


@dataclass
class TextList:
    """A text list; see `ImageList`. stamp: size and time of the file when it was opened."""

    path: Path
    root: Path
    rows: int
    classes: list[str]
    stamp: tuple[int, int]
    skipped: dict[str, int] = field(default_factory=dict)

    def batches(self, rows: int) -> Iterator[tuple[list[str], np.ndarray | None]]:
        number = {name: number for number, name in enumerate(self.classes)}
        keys: list[str] = []
        labels: list[int] = []
        for lines in read_lines(self.path):
            keys += lines.keys
            labels += [number.get(label, -1) for label in lines.labels or ()]
            for start in range(0, len(keys) - rows + 1, rows):
                yield keys[start : start + rows], np.array(labels[start : start + rows], np.int32) if labels else None
            done = len(keys) // rows * rows
            keys, labels = keys[done:], labels[done:]
        if _stamp(self.path) != self.stamp:
            raise DistillError(f"{self.path} changed while it was read. Run it again.")
        if keys:
            yield keys, np.array(labels, np.int32) if labels else None


class _Labels:
    """What the labels of a list are, found block by block."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.names: set[str] = set()
        self.huge: DistillError | None = None
        self.seen: dict[str, tuple[int, str]] = {}  # number | padded | name: a line that has such a label, and the label

    def add(self, lines: Lines) -> None:
        if lines.labels is None:
            return
        for name in sorted(set(lines.labels) - self.names):
            self.names.add(name)
            kind = "number" if _NUMBER.fullmatch(name) else "padded" if name.isascii() and name.isdigit() else "name"
            if kind not in self.seen:
                self.seen[kind] = _line_of(lines, name), name
            if re.fullmatch("-[0-9]+", name):
                raise self._error(lines, name, "class numbers count from 0; leave images without a class out, or give no line a label")
            if kind == "number" and int(name) >= MAX_CLASSES and self.huge is None:
                self.huge = self._error(lines, name, f"class numbers end at {MAX_CLASSES - 1:,}; for a name, add a letter (n{name})")

    def _error(self, lines: Lines, name: str, why: str) -> DistillError:
        return DistillError(f"{self.path}, line {_line_of(lines, name)}: label {name!r}: {why}.")

    def table(self) -> list[str]:
        """The class names in their order."""
        if "number" in self.seen and "name" in self.seen and "padded" not in self.seen:
            (number_line, number), (name_line, name) = self.seen["number"], self.seen["name"]
            raise DistillError(
                f"{self.path}: labels are a mix of numbers (line {number_line}: {number!r}) and names (line {name_line}: {name!r}). "
                "Write all as numbers from 0, or all as names."
            )
        if set(self.seen) == {"number"}:
            if self.huge:
                raise self.huge
            return [str(number) for number in range(max(map(int, self.names)) + 1)]
        return sorted(self.names, key=str.encode)


def _line_of(lines: Lines, label: str) -> int:
    return lines.first + (lines.labels or []).index(label)


def _open_text(path: Path) -> TextList:
    stamp = _stamp(path)
    rows = count_lines(path)
    if not rows:
        raise DistillError(f"{path}: the list is empty. Expected path or path<TAB>label on each line.")
    hashes, labels = np.empty(rows, np.int64), _Labels(path)
    at = 0
    labelled: bool | None = None
    for lines in read_lines(path):
        if labelled is not None and labelled != (lines.labels is not None):
            raise mixed(path, lines.first, not labelled, 1)
        labelled = lines.labels is not None
        labels.add(lines)
        if at + len(lines.keys) > rows:
            raise DistillError(f"{path} changed while it was read. Run it again.")
        hashes[at : at + len(lines.keys)] = np.fromiter(map(hash, lines.keys), np.int64, len(lines.keys))
        at += len(lines.keys)
    if at < rows:
        raise DistillError(f"{path} changed while it was read. Run it again.")
    _refuse_duplicates(path, hashes)
    return TextList(path, path.parent, rows, labels.table(), stamp)


def _refuse_duplicates(path: Path, hashes: np.ndarray) -> None:
    """8 bytes a row instead of the keys. Lines of equal hashes are read again and compared: a collision costs time, it is no error."""
    hashes.sort()
    twice = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])[:1000]  # of more than that, nearly all are true duplicates, and one is named
    if not len(twice):
        return
    first: dict[str, int] = {}
    for lines in read_lines(path):
        keys = lines.keys
        for row in np.flatnonzero(np.isin(np.fromiter(map(hash, keys), np.int64, len(keys)), twice)).tolist():
            if keys[row] in first:
                both = f"{path}: lines {first[keys[row]]} and {lines.first + row}"
                raise DistillError(f"{both} both name {keys[row]!r}. Each image may stand in a list once.")
            first[keys[row]] = lines.first + row


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
