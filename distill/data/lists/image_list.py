"""Image lists: images as rows of (key, label) in one fixed order, and the class table. Memory does not grow with rows.

Folder of class folders, or of images (`distill.data.lists.folder`)
    Each folder directly below SOURCE is a class; the images under it, at any depth, are its rows. Images directly in SOURCE are rows
    without labels where no class folder has any. The key is the path below SOURCE; other names are counted by reason.

Text list (`distill.data.lists.text`)
    `path` or `path<TAB>label` a line, in UTF-8; other dialects are read where the first lines are unambiguous. Order: the file's own. A
    path is relative and may not leave the root; `Rule.strip_prefix` makes an absolute one relative. Either every line has a label or none has. Labels are class
    numbers when all are written as numbers (0, 17): class n is then called "n", and the table goes from 0 to the largest. They are class
    names when none is a number, or when digits with leading zeros (0017) show that digits are names here; a mix is an error. With
    `Rule.label_from` they are the names of the folders of the files. Blank lines and a header are counted.

Record file (`train.rec`, `distill.data.archives.recordio`) and tar (`distill.data.archives.tar`)
    Archives with many images: the root is the file itself, and a key is `rec:<id>` or `tar:<name>`.

Class table: line n is class n. Names are ordered by their UTF-8 bytes, so that a folder and a list of its files give equal tables.

A name that is not UTF-8 or has a control character, a duplicate, and a list without rows are errors with the line or the file.
"""

import re
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from distill.data.archives.archive import is_archive
from distill.data.lists.dialect import Dialect, dialect_of
from distill.data.lists.folder import open_folder
from distill.data.lists.text import Lines, count_lines, mixed, read_lines
from distill.errors import DistillError
from distill.storage.path import StoragePath, as_path, close_to, is_remote

MAX_CLASSES = 10_000_000

_NUMBER = re.compile(r"0|[1-9][0-9]*")


class ImageList(Protocol):
    """Rows in a fixed order. root: the folder or file that keys are relative to, unless another one is given at run time.

    classes: names of the classes in order, empty when rows have no labels. skipped: how many names are no rows, by reason.
    """

    root: StoragePath
    rows: int
    classes: list[str]
    skipped: dict[str, int]

    def batches(self, rows: int) -> Iterator[tuple[list[str], np.ndarray | None]]:
        """Yields keys and labels (int32 [n], None when rows have no labels) of `rows` rows each, fewer in the last batch."""


@dataclass(frozen=True)
class Rule:
    """How names become rows. all_files: files of any suffix in class folders are rows, and every folder is a class, as in earlier versions.

    strip_prefix: the beginning that is removed from all paths of a text list. label_from: "folder" gives each bare path of a text list the
    name of its folder as its label; "" none.
    """

    all_files: bool = False
    strip_prefix: str = ""
    label_from: str = ""

    def __post_init__(self) -> None:
        if self.label_from not in ("", "folder"):
            raise DistillError(f"--label-from {self.label_from} is unknown. Expected folder: the one that each file lies in.")


def open_list(source: str | StoragePath, rule: Rule = Rule()) -> ImageList:  # noqa: B008 - frozen
    """Returns the list of a folder of class folders or images, a text list, a `.rec` or a `.tar`. It is read once here, so errors come before any work.

    5.8 million lines take about 5 s to open and 3 s to go through, in 230 MB (measured on one core).
    """
    source = as_path(source)
    check_source(source)
    if (rule.strip_prefix or rule.label_from) and (source.is_dir() or is_archive(source)):
        option = "--strip-prefix" if rule.strip_prefix else "--label-from"
        raise DistillError(f"{source}: {option} is for text lists. Leave it out, or name a list of the files.")
    if source.is_dir():
        return open_folder(source, rule.all_files)
    if is_archive(source):
        return _open_archive(source)
    return _open_text(source, rule)


def _open_archive(source: StoragePath) -> ImageList:
    from distill.data.archives.recordio import open_records
    from distill.data.archives.tar import open_tar

    return open_records(source, MAX_CLASSES) if source.suffix.lower() == ".rec" else open_tar(source, MAX_CLASSES)


def check_source(source: StoragePath) -> None:
    """Raises DistillError where a path is missing or is no image list."""
    expected = "Expected a folder of class folders or of photos, a text list (path or path<TAB>label on each line), .rec or .tar."
    if not source.exists():
        raise DistillError(f"{source}: no such image list.{close_to(source)} {expected}")
    if not isinstance(source, Path) or source.is_dir():
        return
    if not source.is_file():
        kind = next((kind for kind, fits in _KINDS.items() if fits(source.stat().st_mode)), "no regular file")
        raise DistillError(f"{source} is {kind}; an image list is read more than once. Write it into a file, and name that.")
    with source.open("rb") as file:
        head = file.read(16)
    if re.match(b"BZh[1-9]1AY&SY", head):
        head = head[4:]  # a name may begin with these letters, but not go on like this
    for mark, (kind, way_out) in _MARKS.items():
        if head.startswith(mark):
            raise DistillError(f"{source} is {kind}, and no image list. {way_out}")


_KINDS = {"a pipe": stat.S_ISFIFO, "a socket": stat.S_ISSOCK, "a device": stat.S_ISCHR, "a block device": stat.S_ISBLK}
_UNPACK = "Unpack it, and name the folder that comes out of it."
_UNTAR = "A tar that was packed so becomes a .tar, which is read as it is, by {}."
_MARKS = {
    b"PK\3\4": ("a zip archive", _UNPACK),
    b"PK\5\6": ("an empty zip archive", _UNPACK),
    b"\x1f\x8b": ("packed by gzip", _UNTAR.format("gunzip")),
    b"1AY&SY": ("packed by bzip2", _UNTAR.format("bunzip2")),
    b"\xfd7zXZ\0": ("packed by xz", _UNTAR.format("unxz")),
    b"\x28\xb5\x2f\xfd": ("packed by zstd", _UNTAR.format("unzstd")),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", _UNPACK),
    b"Rar!\x1a\x07": ("a rar archive", _UNPACK),
    b"PAR1\x15": ("a Parquet file", "Name the folder of chunks."),
    b"\x89HDF": ("an HDF5 file", "Name a folder, or a list of images."),
    b"\xff\xd8\xff": ("one picture (JPEG)", "Name the folder that it lies in."),
    b"\x89PNG": ("one picture (PNG)", "Name the folder that it lies in."),
}


def way_to(root: str, key: str) -> str:
    """Returns a sentence on what to do where no file of a list is under the root. key: one of the list."""
    if not is_remote(root) and Path(root).is_dir():
        for other, way_out in _other_spellings(Path(root), key):
            with suppress(OSError, ValueError):
                if other and other.is_file():
                    return f"But {str(other)!r} is there: {way_out}"
    return "Name the images' root folder with --root."


def _other_spellings(root: Path, key: str) -> Iterator[tuple[Path, str]]:
    yield root / key.replace("\\", "/"), 'the list separates parts of a path by "\\". Write "/" instead.'
    for form in ("NFC", "NFD"):
        yield root / unicodedata.normalize(form, key), f"the list spells accents otherwise than the folder does ({form}). Write the list from the folder."
    yield root / key.strip(), "the list has spaces around its paths. Take them away."
    for separator, name in ((" ", "space"), (",", "comma"), (";", "semicolon")):
        yield root / key.partition(separator)[0].strip('"'), f"what stands behind the first {name} belongs behind a tab. Write path<TAB>label."
        yield root / key.rpartition(separator)[0].strip('"'), f"what stands behind the last {name} belongs behind a tab. Write path<TAB>label."
        yield root / key.partition(separator)[2].strip(' "'), f"what stands before the first {name} is no part of the path. Write path<TAB>label."
    first, _, rest = key.removeprefix("./").partition("/")
    if rest:
        yield root.absolute().parent / key, f"the list's paths begin with {first!r}. Name the folder above it: --root {root.absolute().parent}"
        yield root / rest, f"the list's paths begin with {first!r}. Take that off: --strip-prefix {first}/"


# ------------------------------------------------------------------------------------------------------------------------------ text list


@dataclass
class TextList:
    """A text list; see `ImageList`. stamp: size and time of the file when it was opened."""

    path: StoragePath
    root: StoragePath
    rows: int
    classes: list[str]
    stamp: tuple[int, int]
    dialect: Dialect
    skipped: dict[str, int] = field(default_factory=dict)

    def batches(self, rows: int) -> Iterator[tuple[list[str], np.ndarray | None]]:
        number = {name: number for number, name in enumerate(self.classes)}
        keys: list[str] = []
        labels: list[int] = []
        for lines in read_lines(self.path, self.dialect):
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
    """The labels of a list, collected block by block."""

    def __init__(self, path: StoragePath, are_names: bool) -> None:
        self.path, self.are_names = path, are_names
        self.names: set[str] = set()
        self.huge: DistillError | None = None
        self.seen: dict[str, tuple[int, str]] = {}  # number | padded | name: a line with such a label, and the label

    def add(self, lines: Lines) -> None:
        if lines.labels is None:
            return
        for name in sorted(set(lines.labels) - self.names):
            self.names.add(name)
            if self.are_names:
                continue
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
        """Returns the class names in their order."""
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
    return int(lines.numbers[(lines.labels or []).index(label)])


def _open_text(path: StoragePath, rule: Rule) -> TextList:
    stamp, dialect = _stamp(path), dialect_of(path, rule.strip_prefix, rule.label_from)
    most = count_lines(path, dialect)
    hashes, labels = np.empty(most, np.int64), _Labels(path, bool(rule.label_from))
    at = passed = 0
    labelled: bool | None = None
    first = 1
    skipped: dict[str, int] = {}
    for lines in read_lines(path, dialect):
        for reason, count in lines.passed.items():
            skipped[reason] = skipped.get(reason, 0) + count
            passed += count
        if lines.keys:
            if labelled is not None and labelled != (lines.labels is not None):
                raise mixed(path, int(lines.numbers[0]), not labelled, first)
            labelled, first = lines.labels is not None, first if labelled is not None else int(lines.numbers[0])
        labels.add(lines)
        if at + passed + len(lines.keys) > most:
            raise DistillError(f"{path} changed while it was read. Run it again.")
        hashes[at : at + len(lines.keys)] = np.fromiter(map(hash, lines.keys), np.int64, len(lines.keys))
        at += len(lines.keys)
    if at + passed < most:
        raise DistillError(f"{path} changed while it was read. Run it again.")
    if not at:
        raise DistillError(f"{path}: the list is empty. Expected path or path<TAB>label on each line.")
    _refuse_duplicates(path, hashes[:at], dialect)
    return TextList(path, path.parent, at, labels.table(), stamp, dialect, skipped)


def _refuse_duplicates(path: StoragePath, hashes: np.ndarray, dialect: Dialect) -> None:
    """Raises DistillError for a duplicate key. Hashes take 8 bytes a row; lines of equal hashes are read again and compared, so a collision only costs time."""
    hashes.sort()
    twice = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])[:1000]  # of more, nearly all are true duplicates, and one is enough
    if not len(twice):
        return
    first: dict[str, int] = {}
    for lines in read_lines(path, dialect):
        keys = lines.keys
        for row in np.flatnonzero(np.isin(np.fromiter(map(hash, keys), np.int64, len(keys)), twice)).tolist():
            if keys[row] in first:
                both = f"{path}: lines {first[keys[row]]} and {lines.numbers[row]}"
                raise DistillError(f"{both} both name {keys[row]!r}. Each image may stand in a list once.")
            first[keys[row]] = int(lines.numbers[row])


def _stamp(path: StoragePath) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
