"""The fields of a protobuf message, read where they lie: without its classes, and past the weights in it."""

import mmap
from collections.abc import Iterator

Data = mmap.mmap | bytes


def fields(data: Data, at: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """(number, start, end) of each field of the protobuf message data[at:stop]: protobuf.dev/programming-guides/encoding."""
    while at < stop:
        tag, at = _varint(data, at, stop)
        size = {1: 8, 5: 4}.get(tag & 7, 0)
        if tag & 7 == 2:
            size, at = _varint(data, at, stop)
        elif tag & 7 == 0:
            size = _varint(data, at, stop)[1] - at
        if tag & 7 in (3, 4, 6, 7) or at + size > stop:
            raise ValueError(f"damaged or cut off at byte {at}")
        yield tag >> 3, at, at + size
        at += size


def numbers(data: Data, at: int, stop: int) -> Iterator[int]:
    while at < stop:
        number, at = _varint(data, at, stop)
        yield number


def _varint(data: Data, at: int, stop: int) -> tuple[int, int]:
    """The number that begins at `at`, and where it ends."""
    number = 0
    for place in range(at, min(stop, at + 10)):
        number |= (data[place] & 127) << 7 * (place - at)
        if data[place] < 128:
            return number, place + 1
    raise ValueError(f"damaged or cut off at byte {at}")
