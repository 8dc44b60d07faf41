"""Columns of Arrow as numpy arrays, from their memory. pyarrow's own ways (`to_numpy`, `fill_null`) import pandas, which takes longer than to read a shard.
Short, because there are two kinds of columns."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def numbers_of(column: pa.Array, dtype: np.typing.DTypeLike) -> np.ndarray:
    """Returns the numbers of a column without nulls, without a copy: [n], or [n, width] where each row is a list of `width` numbers.

    Args:
        dtype: the numpy type that the column has.
    """
    if pa.types.is_fixed_size_list(column.type):
        width = column.type.list_size
        return numbers_of(column.values[column.offset * width : (column.offset + len(column)) * width], dtype).reshape(-1, width)
    kind = np.dtype(dtype)
    if not len(column):  # its memory may be none at all
        return np.empty(0, kind)
    return np.frombuffer(column.buffers()[1], kind, len(column), column.offset * kind.itemsize)


def labels_of(column: pa.Array) -> np.ndarray:
    """Returns a column of int32 with -1 in place of nulls: int32 [n]."""
    found = numbers_of(column, np.int32)
    if not column.null_count:
        return found
    bits = np.unpackbits(np.frombuffer(column.buffers()[0], np.uint8), bitorder="little")  # Arrow: a bit a row, 1 where there is a value
    return np.where(bits[column.offset : column.offset + len(column)], found, np.int32(-1))
