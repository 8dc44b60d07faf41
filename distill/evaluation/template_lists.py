"""The two lists of a protocol of templates, as IJB-B and IJB-C publish them; whatever is wrong with one is said with its line.

ijbb_face_tid_mid.txt            1.jpg 1 69544            image, template, media; a fourth number is the score of the detector
ijbb_template_pair_label.txt     1 11065 1                template, template, 1 for one person, 0 for two
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from distill.data.columns import numbers_of
from distill.errors import DistillError
from distill.storage.path import StoragePath, close_to, readable

_BLOCK = 16 << 20  # bytes of a list of pairs that are parsed at a time
_IMAGES = "Expected IMAGE TEMPLATE MEDIA on each line, and perhaps the score of the detector"
_PAIRS = "Expected TEMPLATE TEMPLATE 1 on each line (0 for two people)"


@dataclass(frozen=True)
class TemplateList:
    """Images that make templates, row by row.

    Attributes:
        name: of the list.
        keys: the images.
        templates: the number of each one's template, from 0 on, int64 [N].
        media: the number of each one's media, int64 [N].
        ids: what the list calls each template, rising, int64 [T].
        scores: of the detector, float32 [N]; None where the list has none.
    """

    name: str
    keys: tuple[str, ...]
    templates: np.ndarray
    media: np.ndarray
    ids: np.ndarray
    scores: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(frozen=True)
class TemplatePairs:
    """Pairs of templates by their numbers in a TemplateList, int32 [P] each; same: bool [P]."""

    name: str
    first: np.ndarray
    second: np.ndarray
    same: np.ndarray

    def __len__(self) -> int:
        return len(self.same)


def read_template_list(path: StoragePath) -> TemplateList:
    """Returns the images of a list. Raises DistillError for a line that is none, naming it."""
    keys, numbers, scores, width = list[str](), list[tuple[int, int]](), list[float](), 0
    for at, line in _lines(path, _IMAGES):
        fields = line.split()
        width = width or len(fields)
        try:
            if len(fields) not in (3, 4) or len(fields) != width:
                raise ValueError
            keys.append(fields[0])
            numbers.append((_id(fields[1]), _id(fields[2])))
            scores.append(float(fields[3]) if width == 4 else 1.0)
        except ValueError:
            raise _odd(path, at, line, _IMAGES) from None
    ids, templates = np.unique(np.array([one for one, _ in numbers], np.int64), return_inverse=True)
    _, media = np.unique(np.array([two for _, two in numbers], np.int64), return_inverse=True)
    told = np.array(scores, np.float32)
    if not np.isfinite(told).all():
        raise DistillError(
            f"{path}: the score of {keys[int(np.flatnonzero(~np.isfinite(told))[0])]} is no finite number. Expected the detector's, 0.98 for example."
        )
    return TemplateList(str(path), tuple(keys), templates, media, ids, told if width == 4 else None)


def read_template_pairs(path: StoragePath, templates: TemplateList) -> TemplatePairs:
    """Returns the pairs of a list, whose templates stand in `templates`.

    Raises:
        DistillError: a line is no pair, or names a template that has no image.
    """
    firsts, seconds, sames, done = list[np.ndarray](), list[np.ndarray](), list[np.ndarray](), 0
    for table in _blocks(path):
        for column, numbers in ((table[:, 0], firsts), (table[:, 1], seconds)):
            place = np.minimum(np.searchsorted(templates.ids, column), len(templates.ids) - 1)
            if len(lost := np.flatnonzero(templates.ids[place] != column)):
                at, line = _line(path, done + int(lost[0]))
                raise DistillError(
                    f"{path}: line {at} is {line[:80]!r}, and {templates.name} has no image of template {column[lost[0]]}. Give lists of one protocol."
                )
            numbers.append(place.astype(np.int32))
        if len(lost := np.flatnonzero((table[:, 2] != 0) & (table[:, 2] != 1))):
            raise _odd(path, *_line(path, done + int(lost[0])), _PAIRS)
        sames.append(table[:, 2] == 1)
        done += len(table)
    return TemplatePairs(str(path), np.concatenate(firsts), np.concatenate(seconds), np.concatenate(sames))


def _blocks(path: StoragePath) -> Iterator[np.ndarray]:
    """Yields the three numbers of each line, int64 [n, 3]; line by line only where pyarrow cannot read it, because that takes eight times as long."""
    import pyarrow as pa
    from pyarrow import csv

    _check_there(path, _PAIRS)
    if not _is_plain(path):
        yield np.fromiter(_fields(path), np.dtype((np.int64, 3)))
        return
    names, done = ["first", "second", "same"], 0
    types: dict[str, Any] = dict.fromkeys(names, pa.int64())
    try:
        reader = csv.open_csv(
            readable(path),
            csv.ReadOptions(column_names=names, block_size=_BLOCK),
            csv.ParseOptions(delimiter=" ", quote_char=False, escape_char=False),
            csv.ConvertOptions(column_types=types, null_values=[]),
        )
        for batch in reader:
            yield np.stack([numbers_of(batch.column(name), np.int64) for name in names], axis=1)
            done += len(batch)
        whole = done > 0
    except pa.ArrowInvalid:
        whole = False
    if not whole:
        yield np.fromiter(islice(_fields(path), done, None), np.dtype((np.int64, 3)))


def _is_plain(path: StoragePath) -> bool:
    """Whether a file is digits, blanks and ends of lines alone; pyarrow would take 0x10 for a number too."""
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            if block.translate(None, b"0123456789 \r\n"):
                return False
    return True


def _fields(path: StoragePath) -> Iterator[tuple[int, int, int]]:
    """Yields the three numbers of each line, whatever blanks stand between them."""
    for at, line in _lines(path, _PAIRS):
        fields = line.split()
        try:
            if len(fields) != 3:
                raise ValueError
            yield _id(fields[0]), _id(fields[1]), _id(fields[2])
        except ValueError:
            raise _odd(path, at, line, _PAIRS) from None


def _id(text: str) -> int:
    if not text.isdecimal() or len(text) > 18:  # 18 digits are fewer than an int64 has
        raise ValueError
    return int(text)


def _line(path: StoragePath, row: int) -> tuple[int, str]:
    """Returns the number and text of the line of a row; blank lines are no rows."""
    return next(found for place, found in enumerate(_lines(path, _PAIRS)) if place == row)


def _lines(path: StoragePath, expected: str) -> Iterator[tuple[int, str]]:
    """Yields (number from 1, text) of each line that is not blank."""
    _check_there(path, expected)
    found = False
    with path.open("rb") as file:
        for at, data in enumerate(file, 1):
            try:
                line = data.decode("utf-8-sig" if at == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                raise DistillError(f"{path}: line {at} is no text in UTF-8. {expected}.") from None
            if line.strip():
                found = True
                yield at, line
    if not found:
        raise DistillError(f"{path} is empty. {expected}.")


def _check_there(path: StoragePath, expected: str) -> None:
    if not path.is_file():
        raise DistillError(
            f"{path}: {'a folder' if path.is_dir() else 'no such file'}.{close_to(path)} Expected a text list: {expected.removeprefix('Expected ')}."
        )


def _odd(path: StoragePath, at: int, line: str, expected: str) -> DistillError:
    return DistillError(f"{path}: line {at} is {line[:80]!r}. {expected}.")
