"""The lines of a text list, checked. See `distill.imagelist` for what a list may hold; every error here names the line.

A block of some megabytes is checked at once by the places of its control characters and cut by two calls of `str`: 5.8 million lines
take 2 s, line by line 15 s.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill import DistillError
from distill.remote import place

BLOCK = 4 * 2**20
LONGEST_LINE = 2**20

_LEAVES = re.compile(r"/|(.*/)?\.\.(/|$)")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


@dataclass
class Lines:
    """Some consecutive lines. first: the number of the first one, counted from 1. labels: None when they have none."""

    first: int
    keys: list[str]
    labels: list[str] | None


def read_lines(path: Path) -> Iterator[Lines]:
    """All lines in their order, a block at a time. Lines of one block all have labels or none has; the caller compares blocks."""
    first = 1
    for block in _blocks(path):
        lines = _parse(path, first, block)
        yield lines
        first += len(lines.keys)


def count_lines(path: Path) -> int:
    """Lines of the file, unchecked; a last one without line end counts."""
    return sum(int(np.count_nonzero(np.frombuffer(block, np.uint8) == 10)) for block in _blocks(path))


def mixed(path: Path, line: int, labelled: bool, before: int) -> DistillError:
    """Line `line` has a label (or none) unlike the line `before`."""
    words = ("a label", "no label") if labelled else ("no label", "a label")
    return DistillError(f"{path}, line {line} has {words[0]}, line {before} has {words[1]}. Give every line a label, or none.")


def _blocks(path: Path) -> Iterator[bytes]:
    """The file in pieces of whole lines, each ended by LF, without the byte order mark."""
    with place(path).open("rb") as file:
        rest = file.read(3)
        if rest == b"\xef\xbb\xbf":
            rest = b""
        while read := file.read(BLOCK):
            end = read.rfind(b"\n") + 1
            if not end and len(rest) + len(read) > LONGEST_LINE:
                raise DistillError(f"{path}: a line of over {LONGEST_LINE:,} bytes. Expected a text list: path or path<TAB>label a line.")
            if end:
                yield rest + read[:end]
                rest = b""
            rest += read[end:]
        if rest:
            yield rest + b"\n" * (not rest.endswith(b"\n"))


def _parse(path: Path, first: int, block: bytes) -> Lines:
    """Whole lines to keys and labels."""
    letters = np.frombuffer(block, np.uint8)
    places = np.flatnonzero((letters < 32) | (letters == 127))
    kinds = letters[places]
    ends, tabs = places[kinds == 10], places[kinds == 9]
    starts = np.concatenate([[0], ends[:-1] + 1])
    returns = (letters[ends - 1] == 13) & (ends > starts)
    if len(places) != len(ends) + len(tabs) + np.count_nonzero(returns):
        _refuse_control(path, first, block)
    if len(tabs) and (len(tabs) != len(ends) or (tabs < starts).any() or (tabs > ends).any()):
        _refuse_tabs(path, first, np.searchsorted(ends, tabs), len(ends))
    _refuse_empty(path, first, (tabs if len(tabs) else ends - returns) == starts, "no path")
    if len(tabs):
        _refuse_empty(path, first, tabs + 1 == ends - returns, "no label behind the tab")
    text = _decode(path, first, block)
    if returns.any():
        text = text.replace("\r\n", "\n")
    cells = (text.replace("\n", "\t") if len(tabs) else text).split("\t" if len(tabs) else "\n")
    cells.pop()  # behind the last line end
    keys, labels = (cells[::2], cells[1::2]) if len(tabs) else (cells, None)
    if (letters[starts] == 47).any() or ".." in text:
        _refuse_leaving(path, first, keys)
    return Lines(first, keys, labels)


def _decode(path: Path, first: int, block: bytes) -> str:
    try:
        return block.decode()
    except UnicodeDecodeError as error:
        line, byte = first + block.count(b"\n", 0, error.start), f"0x{block[error.start]:02x}"
        raise DistillError(f"{path}, line {line}: not UTF-8 (byte {byte}). Save the list as UTF-8, and rename such files.") from error


def _refuse_control(path: Path, first: int, block: bytes) -> None:
    for number, line in enumerate(block.split(b"\n"), first):
        found = _CONTROL.search(line.removesuffix(b"\r"))
        if found:
            raise DistillError(
                f"{path}, line {number}: control character 0x{found[0][0]:02x}. Expected a UTF-8 text list: path or path<TAB>label a line."
            )


def _refuse_tabs(path: Path, first: int, rows: np.ndarray, lines: int) -> None:
    """rows: the line of each tab, counted from 0 in this block."""
    count = np.bincount(rows, minlength=lines)
    if (count > 1).any():
        raise DistillError(f"{path}, line {first + int(np.argmax(count > 1))}: more than one tab. Expected path or path<TAB>label.")
    labelled = bool(count[0])
    other = int(np.argmax(count == 0) if labelled else np.argmax(count))
    raise mixed(path, first + other, not labelled, first)


def _refuse_empty(path: Path, first: int, empty: np.ndarray, what: str) -> None:
    if empty.any():
        raise DistillError(f"{path}, line {first + int(np.argmax(empty))}: {what}. Expected path or path<TAB>label.")


def _refuse_leaving(path: Path, first: int, keys: list[str]) -> None:
    for line, key in enumerate(keys, first):
        if _LEAVES.match(key):
            raise DistillError(f"{path}, line {line}: {key!r} leaves the root. Write paths relative to a folder, named with --root.")
