"""The lines of a text list, checked. `distill.data.lists.image_list` describes the format; every error here has the line.

A block of some megabytes is checked at once by the positions of its control characters and split by two calls of `str`: 5.8 million lines
take 2 s, line by line 15 s. docs/house.md has the reason why this is not pyarrow.csv.
"""

import codecs
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from distill.data.lists.dialect import BEHIND, CELLS, SUFFIX, Dialect, cells_of, named, other_columns, shown
from distill.errors import DistillError
from distill.storage.path import StoragePath, as_path

BLOCK = 4 * 2**20
LONGEST_LINE = 2**20

_LEAVES = re.compile(r"/|(.*/)?\.\.(/|$)")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_AFTER_IMAGE = re.compile(rb"(?i)(" + SUFFIX + rb") +(?=\t|\r?\n)")
_AFTER_LABEL = re.compile(rb"(\t[^\n]*?) +(?=\r?\n)")
_ENDS_LABEL = re.compile(rb"(?im)" + SUFFIX + rb" *\r?$")


@dataclass
class Lines:
    """Some lines in order. numbers: of each, from 1. labels: None when they have none. passed: how many lines are no rows, by reason."""

    numbers: np.ndarray
    keys: list[str]
    labels: list[str] | None
    passed: dict[str, int] = field(default_factory=dict)


def read_lines(path: StoragePath, dialect: Dialect) -> Iterator[Lines]:
    """Yields all rows in order, a block at a time. In one block all rows have labels or none has; the caller compares blocks."""
    first = 1
    for block in _blocks(path, dialect):
        count = block.count(b"\n")
        numbers = np.arange(first, first + count)
        header = dialect.header and first == 1
        if header or _has_blank(block):
            block, numbers, passed = _without(block, numbers, header)
        else:
            passed = {}
        first += count
        if not block:
            yield Lines(numbers, [], None, passed)
            continue
        lines = _parse(path, numbers, _plain(path, numbers, block, dialect), dialect)
        lines.passed = passed
        yield lines


def count_lines(path: StoragePath, dialect: Dialect) -> int:
    """Returns the number of lines, unchecked; a last one without line end counts."""
    return sum(int(np.count_nonzero(np.frombuffer(block, np.uint8) == 10)) for block in _blocks(path, dialect))


def _has_blank(block: bytes) -> bool:
    return b"\n\n" in block or b"\n\r\n" in block or b"\n " in block or block.startswith((b"\n", b"\r\n", b" "))


def _without(block: bytes, numbers: np.ndarray, header: bool) -> tuple[bytes, np.ndarray, dict[str, int]]:
    """Returns a block without its blank lines and the header."""
    lines = block.split(b"\n")[:-1]
    kept = np.array([bool(line.strip(b" \r")) for line in lines], bool)
    blank = int(np.count_nonzero(~kept))
    if header:
        kept[np.argmax(kept)] = False
    passed = {name: count for name, count in (("blank lines", blank), ("header lines", int(header))) if count}
    return b"".join(line + b"\n" for line, keep in zip(lines, kept.tolist(), strict=True) if keep), numbers[kept], passed


def _plain(path: StoragePath, numbers: np.ndarray, block: bytes, dialect: Dialect) -> bytes:
    """Returns the lines as path or path<TAB>label, with "/" in paths and no spaces around labels or after an image suffix."""
    if dialect.quoted:
        block = _unquoted(path, numbers, block)
    elif dialect.separator:
        block = block.replace(b"\r\n", b"\n")
        letters = np.frombuffer(block, np.uint8)
        places = np.flatnonzero(letters == dialect.separator[0])
        if len(places) == len(numbers) and (np.searchsorted(places, np.flatnonzero(letters == 10)) == np.arange(1, len(numbers) + 1)).all():
            block, found = block.replace(dialect.separator, b"\t"), len(numbers)  # one in each line, so no regular expression is needed: 20 times as fast
        else:
            block, found = CELLS[dialect.separator].subn(rb"\1\t\2", block)
        if found < len(numbers):  # names without the suffix of an image
            block = _cut_last(path, numbers, block, dialect.separator)
        _refuse_path_as_label(path, numbers, block, dialect.separator)
    if dialect.backslash:
        block = block.replace(b"\\", b"/")
    if b" \n" in block or b" \r\n" in block or b"\t " in block or b" \t" in block:
        block = re.sub(rb"\t +", b"\t", block)
        block = _AFTER_IMAGE.sub(rb"\1", _AFTER_LABEL.sub(rb"\1", block))
    return block


def _refuse_path_as_label(path: StoragePath, numbers: np.ndarray, block: bytes, separator: bytes) -> None:
    """Raises DistillError where a label has a slash or an image suffix: it is a path that was split inside the name of its folder."""
    letters = np.frombuffer(block, np.uint8)
    marks = np.flatnonzero((letters == 9) | (letters == 10))
    parts = np.flatnonzero((letters == 47) | (letters == 92))
    before = np.searchsorted(marks, parts) - 1
    places = parts[(before >= 0) & (letters[marks[before]] == 9)][:1].tolist()
    places += [found.start() for found in _ENDS_LABEL.finditer(block) if block.rfind(b"\t", 0, found.start()) > block.rfind(b"\n", 0, found.start())][:1]
    if places:
        row = block.count(b"\n", 0, min(places))
        label = block.split(b"\n", row + 1)[row].partition(b"\t")[2].strip(b"\r ")
        raise DistillError(
            f"{path}, line {numbers[row]}: {shown(label)} is a path, and behind {named(separator)} the other lines have a label. "
            "Expected path<TAB>label on each line."
        )


def _cut_last(path: StoragePath, numbers: np.ndarray, block: bytes, separator: bytes) -> bytes:
    """Splits the remaining lines at their last separator. Raises DistillError where another one follows the suffix of an image."""

    def cut(line: re.Match[bytes]) -> bytes:
        if BEHIND.search(line[1]):
            raise other_columns(path, int(numbers[block.count(b"\n", 0, line.start())]), line[0])
        return line[1] + b"\t" + line[2]

    return re.sub(rb"(?m)^([^\t\n]*?) *" + separator + rb" *([^\t\n" + separator + rb"]*?) *$", cut, block)


def _unquoted(path: StoragePath, numbers: np.ndarray, block: bytes) -> bytes:
    lines = block.replace(b"\r\n", b"\n").split(b"\n")[:-1]
    rows = cells_of(lines)
    if rows is None:
        odd = next((row for row, line in enumerate(lines) if cells_of([line]) is None), 0)
        raise DistillError(f"{path}, line {numbers[odd]}: {shown(lines[odd])} is not a path and a label as in the first lines. Expected path<TAB>label.")
    return "".join("\t".join(cell.strip(" ") for cell in row) + "\n" for row in rows).encode()


def mixed(path: StoragePath, line: int, labelled: bool, before: int) -> DistillError:
    """Returns the error for the line `line`, which has a label (or none) unlike the line `before`."""
    words = ("a label", "no label") if labelled else ("no label", "a label")
    return DistillError(f"{path}, line {line} has {words[0]}, line {before} has {words[1]}. Give every line a label, or none.")


def _blocks(path: StoragePath, dialect: Dialect) -> Iterator[bytes]:
    """Yields the file in blocks of whole lines, each ended by LF, as UTF-8 without the byte order mark."""
    rest = b""
    for read in _read(path, dialect):
        end = read.rfind(b"\n") + 1
        if not end and len(rest) + len(read) > LONGEST_LINE:
            raise DistillError(f"{path}: a line of over {LONGEST_LINE:,} bytes. Expected a text list: path or path<TAB>label a line.")
        if end:
            yield rest + read[:end]
            rest = b""
        rest += read[end:]
    if rest:
        yield rest + b"\n" * (not rest.endswith(b"\n"))


def _read(path: StoragePath, dialect: Dialect) -> Iterator[bytes]:
    with as_path(path).open("rb") as file:
        if dialect.utf16:
            text = io.TextIOWrapper(file, "utf-16", newline="")
            try:
                while some := text.read(BLOCK):
                    yield some.replace("\r", "\n").encode() if dialect.returns else some.encode()
            except UnicodeError as error:
                raise DistillError(f"{path}: not UTF-16 as its first bytes say ({error}). Save the list as UTF-8.") from error
            return
        read = file.read(max(BLOCK, len(codecs.BOM_UTF8)))
        if read.startswith(codecs.BOM_UTF8):
            read = read.removeprefix(codecs.BOM_UTF8) or file.read(BLOCK)
        while read:
            yield read.replace(b"\r", b"\n") if dialect.returns else read
            read = file.read(BLOCK)


def _parse(path: StoragePath, numbers: np.ndarray, block: bytes, dialect: Dialect) -> Lines:
    """Returns the keys and labels of whole lines."""
    letters = np.frombuffer(block, np.uint8)
    places = np.flatnonzero((letters < 32) | (letters == 127))
    kinds = letters[places]
    ends, tabs = places[kinds == 10], places[kinds == 9]
    starts = np.concatenate([[0], ends[:-1] + 1])
    returns = (letters[ends - 1] == 13) & (ends > starts)
    if len(places) != len(ends) + len(tabs) + np.count_nonzero(returns):
        _refuse_control(path, numbers, block)
    if len(tabs) and (len(tabs) != len(ends) or (tabs < starts).any() or (tabs > ends).any()):
        _refuse_tabs(path, numbers, np.searchsorted(ends, tabs), len(ends))
    _refuse_empty(path, numbers, (tabs if len(tabs) else ends - returns) == starts, "no path")
    if len(tabs):
        _refuse_empty(path, numbers, tabs + 1 == ends - returns, "no label behind the tab")
    text = _decode(path, numbers, block)
    if returns.any():
        text = text.replace("\r\n", "\n")
    cells = (text.replace("\n", "\t") if len(tabs) else text).split("\t" if len(tabs) else "\n")
    cells.pop()  # after the last line end
    keys, labels = (cells[::2], cells[1::2]) if len(tabs) else (cells, None)
    if dialect.strip:
        keys = _stripped(path, numbers, keys, dialect.strip)
    if dialect.strip or (letters[starts] == 47).any() or ".." in text or dialect.backslash:
        _refuse_leaving(path, numbers, keys, dialect)
    if dialect.label_from:
        labels = _folders(path, numbers, keys, labels)
    return Lines(numbers, keys, labels)


def _stripped(path: StoragePath, numbers: np.ndarray, keys: list[str], strip: str) -> list[str]:
    begin = strip.rstrip("/") + "/"
    for row, key in enumerate(keys):
        if not key.startswith(begin):
            raise DistillError(f"{path}, line {numbers[row]}: {key!r} does not begin with {begin!r}, which --strip-prefix takes off every line.")
    return [key[len(begin) :].lstrip("/") for key in keys]


def _folders(path: StoragePath, numbers: np.ndarray, keys: list[str], labels: list[str] | None) -> list[str]:
    """Returns the name of each file's folder as its label."""
    if labels is not None:
        raise DistillError(f"{path}, line {numbers[0]} has a label, so --label-from would give it another one. Leave --label-from out.")
    found = [key.rpartition("/")[0].rpartition("/")[2] for key in keys]
    bare = next((row for row, name in enumerate(found) if name in ("", ".")), None)
    if bare is not None:
        raise DistillError(f"{path}, line {numbers[bare]}: {keys[bare]!r} lies in no folder, so --label-from folder finds no label for it.")
    return found


def _decode(path: StoragePath, numbers: np.ndarray, block: bytes) -> str:
    try:
        return block.decode()
    except UnicodeDecodeError as error:
        line, byte = numbers[block.count(b"\n", 0, error.start)], f"0x{block[error.start]:02x}"
        raise DistillError(
            f"{path}, line {line}: not UTF-8 (byte {byte}). Save the list as UTF-8 (for one that is Latin-1: iconv -f latin1 -t utf-8), and rename such files."
        ) from error


def _refuse_control(path: StoragePath, numbers: np.ndarray, block: bytes) -> None:
    for number, line in zip(numbers, block.split(b"\n"), strict=False):
        found = _CONTROL.search(line.removesuffix(b"\r"))
        if found:
            raise DistillError(
                f"{path}, line {number}: control character 0x{found[0][0]:02x}. Expected a UTF-8 text list: path or path<TAB>label a line."
                + (" Lists saved as UTF-16 look like this: save it as UTF-8." if found[0][0] == 0 else "")
            )


def _refuse_tabs(path: StoragePath, numbers: np.ndarray, rows: np.ndarray, lines: int) -> None:
    """Raises DistillError where lines have different numbers of tabs. rows: the line of each tab, counted from 0 in this block."""
    count = np.bincount(rows, minlength=lines)
    if (count > 1).any():
        raise DistillError(f"{path}, line {numbers[np.argmax(count > 1)]}: more than one tab. Expected path or path<TAB>label.")
    labelled = bool(count[0])
    other = int(np.argmax(count == 0) if labelled else np.argmax(count))
    raise mixed(path, int(numbers[other]), not labelled, int(numbers[0]))


def _refuse_empty(path: StoragePath, numbers: np.ndarray, empty: np.ndarray, what: str) -> None:
    if empty.any():
        raise DistillError(f"{path}, line {numbers[np.argmax(empty)]}: {what}. Expected path or path<TAB>label.")


def _refuse_leaving(path: StoragePath, numbers: np.ndarray, keys: list[str], dialect: Dialect) -> None:
    for row, key in enumerate(keys):
        absolute = key.startswith("/") or dialect.backslash and re.match("[A-Za-z]:/", key)
        if absolute:
            begin = os.path.commonprefix([one for one in keys if one[:1] == key[:1]]).rpartition("/")[0] + "/"
            raise DistillError(
                f"{path}, line {numbers[row]}: {key!r} leaves the root, as it is absolute. Take the beginning off, such as --strip-prefix {begin} "
                "(strip_prefix in a run file), and name the folder that the rest lies in with --root."
            )
        if _LEAVES.match(key):
            raise DistillError(f"{path}, line {numbers[row]}: {key!r} leaves the root. Write paths relative to a folder, named with --root.")
