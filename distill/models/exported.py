"""The weights in a folder that `distill export` wrote, read without TensorFlow, so that students that train on JAX can start from one.

TensorFlow keeps the numbers of all variables in `variables.data-*`, one behind the other, and says in `variables.index` what lies where: a sorted table
of LevelDB's format, uncompressed, from the name of a variable to a protocol buffer (tensorflow/core/protobuf/tensor_bundle.proto).
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from distill.errors import DistillError

INDEX = "variables/variables.index"
FOOTER, MAGIC = 48, 0xDB4775248B80FB57
NAME = re.compile(rb"weights/(\d+)/\.ATTRIBUTES/VARIABLE_VALUE")  # as `distill.exports.saved_model` names them: the number is that in model.weights
DTYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 19: "<f2"}  # of tensorflow/core/framework/types.proto


def exported_weights(folder: Path) -> list[np.ndarray]:
    """Returns the weights of an exported student, in the order of its model's.

    Raises:
        DistillError: the folder is damaged, or a SavedModel of somebody else, whose variables have no such order.
    """
    try:
        entries = {int(found[1]): _fields(entry) for name, entry in _table((folder / INDEX).read_bytes()) if (found := NAME.fullmatch(name))}
        if sorted(entries) != list(range(len(entries))) or not entries:
            raise DistillError(f"student.weights: {folder} is a SavedModel that distill export did not write. Name a run, a .keras file, or an export.")
        shards = len(list((folder / INDEX).parent.glob("variables.data-*")))
        return [_array(folder, entries[number], shards) for number in range(len(entries))]
    except (ValueError, IndexError, KeyError, OSError) as error:
        raise DistillError(f"student.weights: {folder} cannot be read as an export: {error}. Export the student again.") from None


def _array(folder: Path, entry: dict[int, list[int | bytes]], shards: int) -> np.ndarray:
    dtype, offset, shard = (int(entry.get(field, [0])[0]) for field in (1, 4, 3))
    sizes = [int(_fields(bytes(dim)).get(1, [0])[0]) for dim in _fields(bytes(entry.get(2, [b""])[0])).get(2, [])]
    file = folder / f"variables/variables.data-{shard:05d}-of-{shards:05d}"
    count = int(np.prod(sizes, dtype=np.int64))
    array = np.fromfile(file, DTYPES[dtype], count, offset=offset)
    if len(array) != count:
        raise ValueError(f"{file.name} ends too early")
    return array.reshape(sizes)


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yields the keys and values of a sorted table: its footer says where the index lies, and this where the blocks lie."""
    if len(data) < FOOTER or int.from_bytes(data[-8:], "little") != MAGIC:
        raise ValueError(f"{INDEX} is no table of variables")
    _, at = _handle(data, len(data) - FOOTER)
    (start, size), _ = _handle(data, at)
    for _, handle in _block(data, start, size):
        yield from _block(data, *_handle(handle, 0)[0])


def _block(data: bytes, at: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yields the keys and values of a block. A key says how many bytes it has in common with the one before; the block ends in restart points."""
    end = at + size
    if data[end]:
        raise ValueError(f"{INDEX} is compressed")
    end -= 4 + 4 * int.from_bytes(data[end - 4 : end], "little")
    key = b""
    while at < end:
        shared, at = _varint(data, at)
        fresh, at = _varint(data, at)
        length, at = _varint(data, at)
        key = key[:shared] + data[at : at + fresh]
        at += fresh + length
        yield key, data[at - length : at]


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at


def _fields(message: bytes) -> dict[int, list[int | bytes]]:
    """Returns the fields of a protocol buffer by their numbers."""
    found: dict[int, list[int | bytes]] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        value: int | bytes
        if wire == 0:
            value, at = _varint(message, at)
        else:
            size, at = _varint(message, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
            value, at = message[at : at + size], at + size
        found.setdefault(number, []).append(value)
    return found


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Returns the number at a place, seven bits a byte, the lowest first, and the place behind it.

    >>> _varint(bytes([0xAC, 0x02]), 0)
    (300, 2)
    """
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return value, at
