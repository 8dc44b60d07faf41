"""The dialect of a text list, found in its first lines: the separator of path and label, quotes, a header, backslashes.

A list need not be path<TAB>label where its first lines are unambiguous: UTF-16 with its mark, lines ended by CR, a comma,
semicolon or space between path and label, CSV with quotes, a first line with the names of columns, blank lines, backslashes.
"""

import codecs
import csv
import re
from dataclasses import dataclass

from distill.data.names import SUFFIXES
from distill.errors import DistillError
from distill.storage.path import StoragePath, as_path

SAMPLE = 1000  # lines at the beginning that are examined
HEAD = 2**20  # bytes read for them

SUFFIX = rb"\.(?:" + b"|".join(sorted(SUFFIXES)) + rb")"
# path and label of a line, by their separator; the path has an image suffix, the label has neither slash nor separator
CELLS = {
    separator: re.compile(rb"(?im)^([^\n]*" + SUFFIX + rb") *" + separator + rb" *([^\n\r/\\" + separator + rb"]+?) *(\r?)$")
    for separator in (b",", b";", b" ")
}
BEHIND = re.compile(rb"(?i)" + SUFFIX + rb" *[,; ]")  # something follows a path
_ENDS = re.compile(rb"(?i)" + SUFFIX + rb" *$")
_PARTS = re.compile(rb'[\t,;/\\"]')  # separators of columns and of parts of paths
_QUOTE = re.compile(rb'(?:^|[\t,;] *)"[^"]*" *(?:[\t,;]|\r?$)')  # a cell in quotes
# Names of columns in a header.
_PATHS = frozenset(re.findall(r"\w+", "path file filename file_name filepath file_path image images image_path imagepath image_name img img_path key src"))
_LABELS = frozenset(
    re.findall(
        r"\w+",
        "label labels class class_id classid class_name classname category category_id identity identity_id person person_id subject subject_id target id name y",
    )
)


@dataclass(frozen=True)
class Dialect:
    """How a list is written. separator: of path and label, b"" for a tab or none. quoted: CSV with quotes. header: the first line has the
    names of columns. backslash: it separates the parts of a path. returns: lines end in CR alone. strip, label_from: see `image_list.Rule`."""

    utf16: bool = False
    separator: bytes = b""
    quoted: bool = False
    header: bool = False
    backslash: bool = False
    returns: bool = False
    strip: str = ""
    label_from: str = ""


def dialect_of(path: StoragePath, strip: str = "", label_from: str = "") -> Dialect:
    """Returns the dialect of a list. Raises DistillError where its header has the columns in another order, or more than two."""
    with as_path(path).open("rb") as file:
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
    """Returns whether the first line is a header, and the separator of its columns."""
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
        return False, b""  # a row like the others: "image", "image2", "image3"
    return True, separator.encode().strip(b"\t") if len(names) == 2 else b""


def _refuse_label_first(path: StoragePath, sample: list[bytes], numbers: list[int]) -> None:
    """Raises DistillError where every line has its label before its path.

    With a tab that is clear. A comma, a semicolon or a space may be part of a folder's name ("Smith, John/1.jpg"): there the label must be a
    number (with a space, one of the labels must be 0) or the name of a folder in the path, or the path must be absolute.
    """
    for separator in (b"\t", b",", b";", b" "):
        cells = [(_cell(line.partition(separator)[0]), _cell(line.partition(separator)[2])) for line in sample]
        if not cells or not all(first and _ENDS.search(second) and not _ENDS.search(first) and not _PARTS.search(first) for first, second in cells):
            continue
        numbered = all(first.isdigit() for first, _ in cells) and (separator != b" " or any(first == b"0" for first, _ in cells))
        evident = all(second.startswith(b"/") or first in re.split(rb"[/\\]", second)[:-1] for first, second in cells)
        if separator == b"\t" or numbered or evident:
            quotes = "" if separator == b"\t" else ", or put paths that begin so in quotes"
            mark = "\\t" if separator == b"\t" else separator.decode()
            swap = f"""awk '{{i=index($0,"{mark}"); print substr($0,i+1) "\\t" substr($0,1,i-1)}}'"""
            raise DistillError(
                f"{path}, line {numbers[0]}: {shown(sample[0])} has the label first, as all lines have. Expected path<TAB>label: swap the two "
                f"({swap} {path.name} > swapped.txt){quotes}."
            )


def _cell(text: bytes) -> bytes:
    text = text.strip(b" \r")
    return text[1:-1] if len(text) > 1 and text[:1] == text[-1:] == b'"' else text


def _separator(path: StoragePath, sample: list[bytes], numbers: list[int], of_header: bytes) -> bytes:
    """Returns the separator of path and label in each of these lines, b"" where they are bare paths."""
    bare = [line for line in sample if not _ENDS.search(line)]
    if of_header and all(line.count(of_header) == 1 for line in sample):
        return of_header
    for separator, cells in CELLS.items():
        fits = [cells.fullmatch(line) is not None for line in sample]
        if all(fits) and fits:
            return separator
        if sum(fits) * 2 >= len(sample) > 0:
            odd = fits.index(False)
            has = "other columns" if BEHIND.search(sample[odd]) else "none"
            raise DistillError(
                f"{path}, line {numbers[odd]}: the line {shown(sample[fits.index(True)])} has a label behind {named(separator)}, the line "
                f"{shown(sample[odd])} {has}. Give every line a label, or none: path<TAB>label."
            )
    if sample and all(BEHIND.search(line) for line in bare) and len(bare) == len(sample):
        odd = next((row for row, line in enumerate(sample) if not any(cells.fullmatch(line) for cells in CELLS.values())), 0)
        raise other_columns(path, numbers[odd], sample[odd])
    return b""


def other_columns(path: StoragePath, number: int, line: bytes) -> DistillError:
    return DistillError(f"{path}, line {number}: the line {shown(line)} has other columns than a path and a label. Expected path<TAB>label on each line.")


def named(separator: bytes) -> str:
    return {b",": "a comma", b";": "a semicolon", b" ": "a space", b"\t": "a tab"}[separator]


def shown(line: bytes) -> str:
    return repr(line.decode(errors="replace")[:80])


def _is_quoted(path: StoragePath, sample: list[bytes]) -> bool:
    """Returns whether cells are in quotes, as in CSV."""
    begun = [line for line in sample if _QUOTE.search(line)]
    if not begun or cells_of(sample) is not None:
        return bool(begun)
    if len(begun) * 2 > len(sample):
        odd = next((line for line in sample if cells_of([line]) is None or len(sample) > 1 and cells_of([begun[0], line]) is None), sample[0])
        raise DistillError(f"{path}: the line {shown(odd)} is no path with or without a label, as CSV with quotes. Expected path<TAB>label on each line.")
    return False


def cells_of(lines: list[bytes]) -> list[list[str]] | None:
    """Returns the cells of lines of CSV; None unless each line is a path and a label, or each is a path."""
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
