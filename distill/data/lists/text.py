"""The lines of a text list, checked. See `distill.data.lists.image_list` for what a list may hold; every error here names the line.

A list may be written otherwise than as path<TAB>label, where its first lines leave no doubt (`dialect_of`): UTF-16 with its mark, lines ended by
CR, a comma, semicolon or space between path and label, CSV with quotes, a first line that names the columns, blank lines, backslashes.

A block of some megabytes is checked at once by the places of its control characters and cut by two calls of `str`: 5.8 million lines
take 2 s, line by line 15 s.
"""

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from distill.data.names import SUFFIXES
from distill.errors import DistillError
from distill.storage.path import StoragePath, place

BLOCK = 4 * 2**20
LONGEST_LINE = 2**20
SAMPLE = 1000  # lines at the beginning that tell how a list is written
HEAD = 2**20  # bytes that hold them

_LEAVES = re.compile(r"/|(.*/)?\.\.(/|$)")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_SUFFIX = rb"\.(?:" + b"|".join(sorted(SUFFIXES)) + rb")"
_ENDS = re.compile(rb"(?i)" + _SUFFIX + rb" *$")
_AFTER_IMAGE = re.compile(rb"(?i)(" + _SUFFIX + rb") +(?=\t|\r?\n)")
_AFTER_LABEL = re.compile(rb"(\t[^\n]*?) +(?=\r?\n)")
# path and label of a line, by what stands between them; the path ends as an image's does, the label holds neither slash nor separator
_CELLS = {
    separator: re.compile(rb"(?im)^([^\n]*" + _SUFFIX + rb") *" + separator + rb" *([^\n\r/\\" + separator + rb"]+?) *(\r?)$")
    for separator in (b",", b";", b" ")
}
_BEHIND = re.compile(rb"(?i)" + _SUFFIX + rb" *[,; ]")  # something stands behind a path
_PARTS = re.compile(rb'[\t,;/\\"]')  # what parts of paths and columns are told apart by
_ENDS_LABEL = re.compile(rb"(?im)" + _SUFFIX + rb" *\r?$")
_QUOTE = re.compile(rb'(?:^|[\t,;] *)"[^"]*" *(?:[\t,;]|\r?$)')  # a cell in quotes
_PATHS = frozenset(
    (
        "path",
        "file",
        "filename",
        "file_name",
        "filepath",
        "file_path",
        "image",
        "images",
        "image_path",
        "imagepath",
        "image_name",
        "img",
        "img_path",
        "key",
        "src",
    )
)
_LABELS = frozenset(
    (
        "label",
        "labels",
        "class",
        "class_id",
        "classid",
        "class_name",
        "classname",
        "category",
        "category_id",
        "identity",
        "identity_id",
        "person",
        "person_id",
        "subject",
        "subject_id",
        "target",
        "id",
        "name",
        "y",
    )
)


@dataclass(frozen=True)
class Dialect:
    """How a list is written. separator: between path and label, b"" for a tab or none. quoted: as CSV with quotes. header: whether its first line
    names the columns. backslash: parts of a path are separated by it. returns: lines end in CR alone. strip, label_from: see `image_list.Rule`."""

    utf16: bool = False
    separator: bytes = b""
    quoted: bool = False
    header: bool = False
    backslash: bool = False
    returns: bool = False
    strip: str = ""
    label_from: str = ""


@dataclass
class Lines:
    """Some lines in their order. numbers: of each, counted from 1. labels: None when they have none. passed: lines that are no rows, by reason."""

    numbers: np.ndarray
    keys: list[str]
    labels: list[str] | None
    passed: dict[str, int] = field(default_factory=dict)


def read_lines(path: StoragePath, dialect: Dialect) -> Iterator[Lines]:
    """All rows in their order, a block at a time. Those of one block all have labels or none has; the caller compares blocks."""
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
    """Lines of the file, unchecked; a last one without line end counts."""
    return sum(int(np.count_nonzero(np.frombuffer(block, np.uint8) == 10)) for block in _blocks(path, dialect))


# --------------------------------------------------------------------------------------------------------------------- how a list is written


def dialect_of(path: StoragePath, strip: str = "", label_from: str = "") -> Dialect:
    """How a list is written, by its first lines. DistillError where they name their columns in another order, or more than two."""
    with place(path).open("rb") as file:
        head = file.read(HEAD)
    utf16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    if utf16:
        head = head[: len(head) // 2 * 2].decode("utf-16", "replace").encode()
    head = head.removeprefix(codecs.BOM_UTF8)
    returns = b"\r" in head and b"\n" not in head
    lines = head.replace(b"\r", b"\n" if returns else b"").split(b"\n")
    if len(head) >= HEAD // 2:
        lines.pop()  # cut
    numbers = [number for number, line in enumerate(lines[: SAMPLE + 1]) if line.strip()]
    lines = [lines[number] for number in numbers]
    header, separator = _header(path, lines)
    sample, first = lines[header:], [number + 1 for number in numbers][header:]
    _refuse_label_first(path, sample, first)
    quoted = _is_quoted(path, sample)
    separator = b"" if quoted or any(b"\t" in line for line in sample) else _separator(path, sample, first, separator)
    paths = [line.split(b"\t")[0] for line in sample]
    backslash = bool(paths) and all(b"\\" in one and b"/" not in one for one in paths)
    return Dialect(utf16, separator, quoted, header, backslash, returns, strip.replace("\\", "/") if backslash else strip, label_from)


def _header(path: StoragePath, lines: list[bytes]) -> tuple[bool, bytes]:
    """Whether the first line names the columns, and what separates them."""
    if len(lines) < 2:
        return False, b""
    text = lines[0].decode(errors="replace").strip()
    separator = next((one for one in "\t,; " if one in text), "\t")
    names = [name.strip().strip('"').strip().lower() for name in text.split(separator)]
    if len(names) == 2 and names[0] in _LABELS - _PATHS and names[1] in _PATHS:
        raise DistillError(f"{path}, line 1: the columns are {', '.join(names)}. Expected the path first: path<TAB>label on each line.")
    if names[0] not in _PATHS or len(names) > 1 and names[1] not in _LABELS | _PATHS:
        return False, b""
    if len(names) > 2:
        raise DistillError(f"{path}, line 1: {len(names)} columns ({', '.join(names)}). Expected two: path<TAB>label on each line.")
    if len(names) == 1 and sum(bool(_ENDS.search(line) or _PARTS.search(line)) for line in lines[1:]) * 2 <= len(lines) - 1:
        return False, b""  # the others look like it: "image", "image2", "image3"
    return True, separator.encode().strip(b"\t") if len(names) == 2 else b""


def _refuse_label_first(path: StoragePath, sample: list[bytes], numbers: list[int]) -> None:
    """DistillError where every line has its label before its path.

    Behind a tab that is clear. A comma, a semicolon or a space may stand in a folder's name ("Smith, John/1.jpg"): there the label has to be a
    number, for a space one of those that count from 0, or the folder that the path names, or the path absolute.
    """
    for separator in (b"\t", b",", b";", b" "):
        cells = [(_cell(line.partition(separator)[0]), _cell(line.partition(separator)[2])) for line in sample]
        if not cells or not all(first and _ENDS.search(second) and not _ENDS.search(first) and not _PARTS.search(first) for first, second in cells):
            continue
        numbered = all(first.isdigit() for first, _ in cells) and (separator != b" " or any(first == b"0" for first, _ in cells))
        told = all(second.startswith(b"/") or first in re.split(rb"[/\\]", second)[:-1] for first, second in cells)
        if separator == b"\t" or numbered or told:
            quotes = "" if separator == b"\t" else ", or put paths that begin so in quotes"
            mark = "\\t" if separator == b"\t" else separator.decode()
            swap = f"""awk '{{i=index($0,"{mark}"); print substr($0,i+1) "\\t" substr($0,1,i-1)}}'"""
            raise DistillError(
                f"{path}, line {numbers[0]}: {_shown(sample[0])} has the label first, as all lines have. Expected path<TAB>label: swap the two "
                f"({swap} {path.name} > swapped.txt){quotes}."
            )


def _cell(text: bytes) -> bytes:
    text = text.strip(b" \r")
    return text[1:-1] if len(text) > 1 and text[:1] == text[-1:] == b'"' else text


def _separator(path: StoragePath, sample: list[bytes], numbers: list[int], of_header: bytes) -> bytes:
    """What stands between path and label in each of these lines, b"" where they are bare paths."""
    bare = [line for line in sample if not _ENDS.search(line)]
    if of_header and all(line.count(of_header) == 1 for line in sample):
        return of_header
    for separator, cells in _CELLS.items():
        fits = [cells.fullmatch(line) is not None for line in sample]
        if all(fits) and fits:
            return separator
        if sum(fits) * 2 >= len(sample) > 0:
            odd = fits.index(False)
            has = "other columns" if _BEHIND.search(sample[odd]) else "none"
            raise DistillError(
                f"{path}, line {numbers[odd]}: the line {_shown(sample[fits.index(True)])} has a label behind {_named(separator)}, the line "
                f"{_shown(sample[odd])} {has}. Give every line a label, or none: path<TAB>label."
            )
    if sample and all(_BEHIND.search(line) for line in bare) and len(bare) == len(sample):
        odd = next((row for row, line in enumerate(sample) if not any(cells.fullmatch(line) for cells in _CELLS.values())), 0)
        raise _other_columns(path, numbers[odd], sample[odd])
    return b""


def _other_columns(path: StoragePath, number: int, line: bytes) -> DistillError:
    return DistillError(f"{path}, line {number}: the line {_shown(line)} has other columns than a path and a label. Expected path<TAB>label on each line.")


def _named(separator: bytes) -> str:
    return {b",": "a comma", b";": "a semicolon", b" ": "a space", b"\t": "a tab"}[separator]


def _shown(line: bytes) -> str:
    return repr(line.decode(errors="replace")[:80])


def _is_quoted(path: StoragePath, sample: list[bytes]) -> bool:
    """Whether cells stand in quotes, as in CSV."""
    begun = [line for line in sample if _QUOTE.search(line)]
    if not begun or _quoted(sample) is not None:
        return bool(begun)
    if len(begun) * 2 > len(sample):
        odd = next((line for line in sample if _quoted([line]) is None or len(sample) > 1 and _quoted([begun[0], line]) is None), sample[0])
        raise DistillError(f"{path}: the line {_shown(odd)} is no path with or without a label, as CSV with quotes. Expected path<TAB>label on each line.")
    return False


def _quoted(lines: list[bytes]) -> list[list[str]] | None:
    """The cells of lines of CSV; None where they are not all a path and a label, or all a path."""
    text = [line.decode(errors="replace") for line in lines]
    for delimiter in "\t,;":
        try:
            rows = list(csv.reader(text, delimiter=delimiter, skipinitialspace=True, strict=True))
        except csv.Error:
            continue
        width = {len(row) for row in rows}
        if len(rows) == len(lines) and width in ({1}, {2}) and all(_ENDS.search(row[0].encode()) and '"' not in row[0] for row in rows):
            return rows
    return None


# ------------------------------------------------------------------------------------------------------------------------------- its lines


def _has_blank(block: bytes) -> bool:
    return b"\n\n" in block or b"\n\r\n" in block or b"\n " in block or block.startswith((b"\n", b"\r\n", b" "))


def _without(block: bytes, numbers: np.ndarray, header: bool) -> tuple[bytes, np.ndarray, dict[str, int]]:
    """A block without lines of nothing but spaces and without the header."""
    lines = block.split(b"\n")[:-1]
    kept = np.array([bool(line.strip(b" \r")) for line in lines], bool)
    blank = int(np.count_nonzero(~kept))
    if header:
        kept[np.argmax(kept)] = False
    passed = {name: count for name, count in (("blank lines", blank), ("header lines", int(header))) if count}
    return b"".join(line + b"\n" for line, keep in zip(lines, kept.tolist(), strict=True) if keep), numbers[kept], passed


def _plain(path: StoragePath, numbers: np.ndarray, block: bytes, dialect: Dialect) -> bytes:
    """The same lines as path, or path<TAB>label, with parts of paths separated by "/" and no spaces around labels or behind an image's suffix."""
    if dialect.quoted:
        block = _unquoted(path, numbers, block)
    elif dialect.separator:
        block = block.replace(b"\r\n", b"\n")
        letters = np.frombuffer(block, np.uint8)
        places = np.flatnonzero(letters == dialect.separator[0])
        if len(places) == len(numbers) and (np.searchsorted(places, np.flatnonzero(letters == 10)) == np.arange(1, len(numbers) + 1)).all():
            block, found = block.replace(dialect.separator, b"\t"), len(numbers)  # one in each line: 20 times as fast
        else:
            block, found = _CELLS[dialect.separator].subn(rb"\1\t\2", block)
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
    """DistillError where what stands behind the tab holds a slash or ends as an image does: a path that was cut within the name of its folder."""
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
            f"{path}, line {numbers[row]}: {_shown(label)} is a path, and behind {_named(separator)} the other lines have a label. "
            "Expected path<TAB>label on each line."
        )


def _cut_last(path: StoragePath, numbers: np.ndarray, block: bytes, separator: bytes) -> bytes:
    """Lines that were not cut yet, cut at their last separator. DistillError where another one stands behind the suffix of an image."""

    def cut(line: re.Match[bytes]) -> bytes:
        if _BEHIND.search(line[1]):
            raise _other_columns(path, int(numbers[block.count(b"\n", 0, line.start())]), line[0])
        return line[1] + b"\t" + line[2]

    return re.sub(rb"(?m)^([^\t\n]*?) *" + separator + rb" *([^\t\n" + separator + rb"]*?) *$", cut, block)


def _unquoted(path: StoragePath, numbers: np.ndarray, block: bytes) -> bytes:
    lines = block.replace(b"\r\n", b"\n").split(b"\n")[:-1]
    rows = _quoted(lines)
    if rows is None:
        odd = next((row for row, line in enumerate(lines) if _quoted([line]) is None), 0)
        raise DistillError(f"{path}, line {numbers[odd]}: {_shown(lines[odd])} is not a path and a label as in the first lines. Expected path<TAB>label.")
    return "".join("\t".join(cell.strip(" ") for cell in row) + "\n" for row in rows).encode()


def mixed(path: StoragePath, line: int, labelled: bool, before: int) -> DistillError:
    """Line `line` has a label (or none) unlike the line `before`."""
    words = ("a label", "no label") if labelled else ("no label", "a label")
    return DistillError(f"{path}, line {line} has {words[0]}, line {before} has {words[1]}. Give every line a label, or none.")


def _blocks(path: StoragePath, dialect: Dialect) -> Iterator[bytes]:
    """The file in pieces of whole lines, each ended by LF, as UTF-8 without the byte order mark."""
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
    with place(path).open("rb") as file:
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
    """Whole lines to keys and labels."""
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
    cells.pop()  # behind the last line end
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
    """The folder that each file lies in, as its label."""
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
    """rows: the line of each tab, counted from 0 in this block."""
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
