"""insightface data sets as they are: `train.rec`, `train.idx` and `property` in one folder. This is MXNet's RecordIO, read without mxnet.

Record (numbers are little endian)
    The mark uint32 0xced7230a; uint32 with the length in its lower 29 bits and the kind in the upper 3; that many bytes, and zeros up to a
    multiple of 4. Kind 0 is a whole record. Where its bytes contain the mark at a multiple of 4, dmlc-core's writer leaves the mark out and splits
    the record: a part of kind 1, any number of kind 2, one of kind 3. They are joined with the mark between them; the index has the first.
    The bytes of an image record are uint32 flag, float32 label, two uint64; then `flag` float32 labels, the first of which is the label if there
    are any; then the encoded image.

Index
    `id<TAB>offset` a line. Rows are in the order of the ids and have the keys `rec:<id>`. A record 0 with two labels A, B and no image is a
    header: images are the ids 1 to A - 1; the records from A on list the images of an identity, and are no rows. Without a header
    every record is an image. Labels are class numbers; class n is called "n", and the table goes from 0 to the largest.

Lengths in a file are not trusted: each is compared with the size of the file before anything is read or reserved. A list
opens only if every record of the index is whole: inside the file, and if it is split, its parts in this order and 256 MiB at most. A record
that is damaged later is a `BadImage`, as a file on disk would be; so is an unsplit one of more than 256 MiB.
"""

import io
import os
import re
import struct
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv

from distill.data.archives.archive import Archive, Readable, index_of, open_archive
from distill.data.columns import numbers_of
from distill.errors import BadImage, DistillError
from distill.images.codec import MAX_BYTES
from distill.storage.path import StoragePath, as_path, is_remote, readable

MAGIC = 0xCED7230A
PREFIX = "rec:"
BLOCK = 32_768  # records that are checked at once: 1 MiB of their headers

_FRAME, _HEADER = 8, 24  # bytes of a frame's head, and of an image record before its labels
_HEAD = _FRAME + _HEADER + 4  # up to the end of the first label
_LENGTH = 2**29 - 1  # mask of the length; the bits above are the kind
_EXACT = 2**24  # float32 counts without gaps up to here
_READ = 8 << 20  # bytes of a remote index at a time
_AT_ONCE = 1 << 20  # bytes of a remote record that come with its header
_CUT = "truncated: the record file ends before the record or inside it"
_KEY = re.compile(PREFIX + "(0|[1-9][0-9]{0,17})")
_PROPERTY = re.compile(rb"(?:\xef\xbb\xbf)?\s*(\d{1,9})\s*,\s*\d{1,9}\s*,\s*\d{1,9}\s*")


@dataclass
class RecordList:
    """A record file; see `distill.data.lists.image_list.ImageList`. root: the file itself. ids: int64 [n], ascending; labels: int32 [n]."""

    root: StoragePath
    rows: int
    classes: list[str]
    ids: np.ndarray
    labels: np.ndarray
    skipped: dict[str, int] = field(default_factory=dict)

    def batches(self, rows: int) -> Iterator[tuple[list[str], np.ndarray | None]]:
        for start in range(0, self.rows, rows):
            part = slice(start, start + rows)
            yield [f"{PREFIX}{number}" for number in self.ids[part].tolist()], self.labels[part]


def open_records(path: StoragePath, max_classes: int) -> RecordList:
    """Returns the list of a `.rec` file. Raises DistillError with file, record and offset of the first fault.

    5.8 million records take 12 s in 300 MB (measured on one core; a file that is not in memory is read at the disk's own speed).
    """
    file = open_archive(str(path), RecordFile)
    labels = _check_records(file)
    images = _images(file)
    file.confirm()
    ids, first = file.ids[images], labels[images]
    wrong = ~((first >= 0) & (first < max_classes) & (first == np.floor(first)))
    _refuse(
        file, ids, file.offsets[images], wrong, lambda row: f"its label is {first[row]:g}. Expected a class number, whole and from 0 to {max_classes - 1:,}."
    )
    numbers = first.astype(np.int32)
    classes = int(numbers.max()) + 1
    _check_property(path, classes)
    others = len(file.ids) - len(ids)
    skipped = {"records without an image": others} if others else {}
    return RecordList(path, len(ids), [str(number) for number in range(classes)], ids, numbers, skipped)


def read_record(path: str, key: str) -> bytes:
    """Returns the encoded image of the record that `key` ("rec:17") names.

    Raises BadImage where the record is missing or damaged, DistillError where the file or its index is missing, OSError where the storage fails.
    """
    file = open_archive(path, RecordFile)
    named = _KEY.fullmatch(key)
    number = int(named[1]) if named else -1
    row = int(file.ids.searchsorted(number))
    if row == len(file.ids) or file.ids[row] != number:
        raise BadImage("no such record in the index", "missing")
    record, length, _ = _join(file, int(file.offsets[row]), MAX_BYTES)
    skip = _HEADER if length < _HEADER else _HEADER + 4 * int.from_bytes(record[:4], "little")
    if length < skip:
        raise BadImage(f"damaged: {length:,} bytes in the record, {skip:,} in its header and labels")
    if length == skip:
        raise BadImage("the record holds no image", "empty")
    return bytes(memoryview(record)[skip:])


# ----------------------------------------------------------------------------------------------------------------------------- the index


class RecordFile(Archive):
    """A `.rec` file and its index. ids: int64 [n], ascending, none twice; offsets: int64 [n], not checked."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.ids, self.offsets = _read_index(path, index_of(path))
        self._starts = self.offsets if _ascends(self.offsets) else np.sort(self.offsets)

    def record(self, start: int) -> Readable:
        """Returns this file for reading the record at `start`; a remote one fetches all up to the next record of the index in one request."""
        if not self.remote:
            return self
        behind = int(np.searchsorted(self._starts, start, side="right"))
        end = int(self._starts[behind]) if behind < len(self._starts) else self.size
        return self.forward(min(max(end - start, _FRAME), _AT_ONCE))


def _ascends(numbers: np.ndarray) -> bool:
    return bool((numbers[1:] >= numbers[:-1]).all())


def _read_index(path: str, index: str) -> tuple[np.ndarray, np.ndarray]:
    columns = array("q"), array("q")  # they grow in place: joining batches at the end would take their memory twice
    try:
        with csv.open_csv(
            _open_index(index),
            read_options=csv.ReadOptions(use_threads=False, block_size=2**18, column_names=["id", "offset"]),
            parse_options=csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=csv.ConvertOptions(column_types={"id": pa.int64(), "offset": pa.int64()}, null_values=[]),
        ) as reader:
            for batch in reader:
                columns[0].frombytes(numbers_of(batch["id"], np.int64).tobytes())
                columns[1].frombytes(numbers_of(batch["offset"], np.int64).tobytes())
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or ["damaged"])[0][:200]
        raise DistillError(f"{index} is no index of {os.path.basename(path)}: {reason}. Expected id<TAB>offset on each line.") from error
    if not columns[0]:
        raise DistillError(f"{index} is empty. Expected id<TAB>offset on each line.")
    ids, offsets = (np.frombuffer(column, np.int64) for column in columns)
    if (ids[1:] <= ids[:-1]).any():
        order = np.argsort(ids, kind="stable")
        ids, offsets = ids[order], offsets[order]
    twice = ids[1:] == ids[:-1]
    if twice.any():
        row = int(np.argmax(twice))
        raise DistillError(f"{index}: id {ids[row]} stands there twice, with the offsets {offsets[row]} and {offsets[row + 1]}. Expected each id once.")
    if ids[0] < 0:
        raise DistillError(f"{index}: id {ids[0]}. Expected ids from 0.")
    return ids, offsets


def _open_index(index: str) -> Any:
    """Returns what pyarrow reads: a local path, or a remote file with a large buffer."""
    return io.BufferedReader(readable(as_path(index)), _READ) if is_remote(index) else index


# --------------------------------------------------------------------------------------------------------------------------- the records


def _join(file: RecordFile, start: int, most: int, limit: int = MAX_BYTES) -> tuple[bytearray, int, int]:
    """Returns the first `most` bytes of the record at `start`, its parts joined; its length; its end. Raises BadImage where it is broken or over `limit`."""
    data, length, at, kind = bytearray(), 0, start, 0
    source = file.record(start)
    while at == start or kind in (1, 2):
        head = source.read(at, _FRAME) if at >= 0 else b""
        if len(head) < _FRAME:
            raise BadImage(_CUT)
        magic, frame = struct.unpack("<II", head)
        kind, size = frame >> 29, frame & _LENGTH
        what, kinds, mark = ("record begins", (0, 1), b"") if at == start else ("part follows", (2, 3), head[:4])
        if magic != MAGIC or kind not in kinds:
            expected = f"0x{MAGIC:08x} of kind {kinds[0]} or {kinds[1]}"
            raise BadImage(f"damaged: no {what} at offset {at}: 0x{magic:08x} of kind {kind}, expected {expected}")
        length, end = length + len(mark) + size, at + _FRAME + (size + 3) // 4 * 4
        if length > limit:
            raise BadImage(f"the record has {length:,} bytes or more, {limit:,} at most are read", "large")
        if end > file.size:
            raise BadImage(_CUT)
        if len(data) < most:
            data += mark + source.read(at + _FRAME, min(size, most - len(data)))
        at = end
    if len(data) < min(most, length):
        raise BadImage(_CUT)
    del data[most:]
    return data, length, at


def _check_records(file: RecordFile) -> np.ndarray:
    """Returns the label of each record, float32 [n], in the order of the ids. Raises DistillError for the first record, by offset, that is not whole."""
    order = None if _ascends(file.offsets) else np.argsort(file.offsets, kind="stable")
    labels = np.empty(len(file.ids), np.float32)
    end = 0
    for start in range(0, len(labels), BLOCK):
        rows = slice(start, start + BLOCK) if order is None else order[start : start + BLOCK]
        labels[rows], end = _check_block(file, file.ids[rows], file.offsets[rows], end)
    return labels


def _check_block(file: RecordFile, ids: np.ndarray, offsets: np.ndarray, end: int) -> tuple[np.ndarray, int]:
    """Returns the labels of records in the order of their offsets, and the end of the last one. end: that of the record before them."""
    refuse = partial(_refuse, file, ids, offsets)
    size, index = file.size, os.path.basename(index_of(file.path))
    refuse(
        (offsets < 0) | (offsets > size - _FRAME - _HEADER),
        lambda row: f"the file has {size:,} bytes, so it ends before the record or inside it. Fetch the file again, or the {index} that belongs to it.",
    )
    words = np.frombuffer(file.heads(offsets, _HEAD), "<u4").reshape(len(offsets), -1)
    refuse(
        words[:, 0] != MAGIC,
        lambda row: f"no record begins there: 0x{words[row, 0]:08x}, expected 0x{MAGIC:08x}. Fetch the file again, or the {index} that belongs to it.",
    )
    lengths, ends = _extents(file, ids, offsets, words, end)
    flags = np.where(lengths < _HEADER, 0, words[:, 2].astype(np.int64))
    refuse(ends > size, lambda row: f"truncated: it ends at {ends[row]:,}, the file at {size:,}. Fetch the file again.")
    refuse(
        lengths < _HEADER + 4 * flags,
        lambda row: (
            f"{lengths[row]:,} bytes, expected {_HEADER + 4 * flags[row]:,} or more: a header of {_HEADER} and {flags[row]:,} labels. Fetch the file again."
        ),
    )
    before = np.concatenate([[end], ends[:-1]])
    refuse(offsets < before, lambda row: f"the record before it ends at {before[row]:,} only. Fetch the {index} that belongs to the file.")
    return np.where(flags > 0, words[:, 8], words[:, 3]).view("<f4"), int(ends[-1])


def _extents(file: RecordFile, ids: np.ndarray, offsets: np.ndarray, words: np.ndarray, end: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns lengths and ends of records, int64 [n]. Split records are joined, and their first bytes put into `words`."""
    lengths = words[:, 1].astype(np.int64) & _LENGTH
    ends = offsets + _FRAME + (lengths + 3) // 4 * 4
    for row in np.flatnonzero(words[:, 1] > _LENGTH).tolist():
        if offsets[row] < end:  # it overlaps and will be refused; so nothing is joined twice
            continue
        try:
            head, lengths[row], end = _join(file, int(offsets[row]), _HEAD - _FRAME)
        except BadImage as error:
            why = f"{error}. Fetch the file again, or take the record out of the index."
            raise DistillError(f"{file.path}, record {ids[row]} at offset {offsets[row]}: {why}") from error
        ends[row] = end
        words[row, 2:] = np.frombuffer(head.ljust(_HEAD - _FRAME, b"\0"), "<u4")
    return lengths, ends


def _images(file: RecordFile) -> slice:
    """Returns which of the ids are images by the header; all where there is none. The records must have been checked."""
    offset = int(file.offsets[0])
    head, length, _ = _join(file, offset, _HEADER + 8, limit=file.size)
    flag = int.from_bytes(head[:4], "little")
    if file.ids[0] != 0 or flag == 0 or length > _HEADER + 4 * flag:
        return slice(None)
    found = np.frombuffer(head[_HEADER:], "<f4").tolist()
    header = f"{file.path}, record 0 at offset {offset}: a header with the labels {', '.join(f'{label:.9g}' for label in found)}"
    if flag != 2 or not all(label.is_integer() for label in found) or not 2 <= found[0] <= found[1]:
        raise DistillError(f"{header}. Expected two: the id behind the last image, and the one behind the last identity.")
    if found[0] > _EXACT:
        raise DistillError(f"{header}. float32 has gaps above {_EXACT:,}, so the last image is not known. Expected a file without header (im2rec).")
    number = int(found[0])
    there = file.ids[1:number]
    lacking = int(np.argmax(np.append(there, -1) != np.arange(1, len(there) + 2))) + 1
    if lacking < number:
        raise DistillError(f"{header}, so images are 1 to {number - 1}, but the index lacks {lacking}. Fetch the index that belongs to the file.")
    return slice(1, number)


def _check_property(path: StoragePath, classes: int) -> None:
    """Raises DistillError where `property` (`classes,height,width`) does not fit the labels; it may be missing."""
    file = path.with_name("property")
    if not file.is_file():
        return
    with file.open("rb") as opened:
        text = opened.read(100)
    named = _PROPERTY.fullmatch(text)
    if named is None:
        raise DistillError(f"{file}: {text[:40]!r}. Expected classes,height,width, such as 85742,112,112. Mend it or take it away.")
    if int(named[1]) < classes:
        raise DistillError(f"{file} says {int(named[1]):,} classes, the largest label in {path.name} is {classes - 1:,}. Take both from one data set.")


def _refuse(file: RecordFile, ids: np.ndarray, offsets: np.ndarray, wrong: np.ndarray, why: Callable[[int], str]) -> None:
    """Raises DistillError for the first record that is wrong, if any."""
    if wrong.any():
        row = int(np.argmax(wrong))
        raise DistillError(f"{file.path}, record {ids[row]} at offset {offsets[row]}: {why(row)}")
