"""Shards as HDF5: the same columns as datasets, the same metadata as the attribute `distill`.

Keys and images lie flat as uint8 with offsets (`key_offsets[i]:key_offsets[i+1]`), because fletcher32, which guards every dataset,
refuses variable-length strings. Default libver, no tracked times: equal rows give equal bytes. The metadata is a string of fixed length:
one of variable length lies in a heap, and HDF5 1.14 reads some damaged heaps for ever (2 to 3 of 10,000 damaged shards; fixed: none of 24,000).
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from distill.data.shards.rows import GROUP_ROWS, Rows, ShardMeta, damaged, read_columns, restored, stored
from distill.errors import NoShard
from distill.storage.files import failure
from distill.storage.path import StoragePath, readable

if TYPE_CHECKING:
    import h5py

BYTES_CHUNK = 1 << 16  # a shard of few rows stays small
FLETCHER32 = 4  # bytes of the checksum behind each chunk


class Hdf5Shards:
    suffix = "h5"

    def write(self, path: Path, meta: ShardMeta, groups: Iterable[Rows]) -> ShardMeta:
        """See ShardFormat.write."""
        sizes, norms = list[int](), 0.0
        with _created(path) as file:
            columns = _create(file, meta)
            for group in groups:
                _append(columns["label"], group.labels.astype(np.int32))
                embeddings, norm = stored(group, meta)
                for name, values in embeddings.items():
                    _append(columns[name], values)
                _append_flat(file, "key", [key.encode() for key in group.keys])
                if meta.images == "inline":
                    _append_flat(file, "image", group.images)
                else:
                    _append(columns["image_sha256"], np.frombuffer(b"".join(group.image_sha256), np.uint8).reshape(-1, 32))
                sizes.append(len(group))
                norms += norm
            done = meta.written(sizes, norms)
            file.attrs["distill"] = np.bytes_(done.to_json())
        return done

    def read_meta(self, path: StoragePath) -> ShardMeta:
        return _checked(path, _stamp(path))

    def group_rows(self, path: StoragePath) -> list[int]:
        return self.read_meta(path).group_rows()

    def read(self, path: StoragePath, groups: Sequence[int] | None = None, columns: Sequence[str] | None = None) -> Iterator[Rows]:
        meta = _checked(path, _stamp(path))
        with _opened(path) as file:
            ends = [0, *accumulate(meta.group_rows())]
            for number in range(len(ends) - 1) if groups is None else groups:
                yield _rows(file, meta, slice(ends[number], ends[number + 1]), read_columns(columns, meta))


class _Disk:
    """The file that HDF5 writes into. HDF5 ends the process when it cannot write what it holds at closing, as on a full disk: here the first
    error is kept, nothing is written from then on, and HDF5 closes in peace."""

    def __init__(self, file: io.FileIO) -> None:
        self.file = file
        self.error: OSError | None = None
        self.read, self.readinto, self.seek, self.tell = file.read, file.readinto, file.seek, file.tell

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while left and self.error is None:
            with self._kept():
                left = left[self.file.write(left) :]
        return size

    def truncate(self, size: int) -> int:
        with self._kept():
            self.file.truncate(size)
        return size

    def flush(self) -> None:
        pass  # nothing is held back here

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.error = self.error or error


@contextmanager
def _created(path: Path) -> Iterator[h5py.File]:
    """A new file, whole when the block ends; an OSError that says why where the disk did not take it."""
    import h5py

    with open(path, "w+b", buffering=0) as opened:
        disk = _Disk(opened)
        try:
            with h5py.File(disk, "w") as file:
                yield file
        except (OSError, RuntimeError):  # what HDF5 makes of bytes that were not kept
            if disk.error is None:
                raise
        if disk.error is not None:
            raise disk.error


def _create(file: h5py.File, meta: ShardMeta) -> dict[str, h5py.Dataset]:
    def column(name: str, dtype: Any, width: tuple[int, ...] = (), chunk: int = GROUP_ROWS) -> h5py.Dataset:
        return file.create_dataset(name, (0, *width), dtype, maxshape=(None, *width), chunks=(chunk, *width), fletcher32=True)

    made = {"label": column("label", np.int32)}
    for name, (dtype, width) in meta.embedding_columns().items():
        made[name] = column(name, dtype, (width,) if width else ())
    for name in ("key", "image") if meta.images == "inline" else ("key",):
        column(name, np.uint8, chunk=BYTES_CHUNK)
        _append(column(f"{name}_offsets", np.int64), np.zeros(1, np.int64))
    if meta.images != "inline":
        made["image_sha256"] = column("image_sha256", np.uint8, (32,))
    return made


def _append(dataset: h5py.Dataset, values: np.ndarray) -> None:
    start = dataset.shape[0]
    dataset.resize(start + len(values), axis=0)
    dataset[start:] = values


def _append_flat(file: h5py.File, name: str, values: list[bytes]) -> None:
    offsets = file[f"{name}_offsets"]
    end = int(offsets[-1])
    _append(file[name], np.frombuffer(b"".join(values), np.uint8))
    _append(offsets, end + np.cumsum([len(value) for value in values], dtype=np.int64))


def _rows(file: h5py.File, meta: ShardMeta, part: slice, columns: Sequence[str] | None) -> Rows:
    def wanted(name: str) -> bool:
        return name in file and (columns is None or name in columns)

    digests = file["image_sha256"][part] if wanted("image_sha256") else None
    embeddings = {name: file[name][part] for name in meta.embedding_columns() if wanted(name)}
    return Rows(
        keys=[str(key, "utf-8") for key in _read_flat(file, "key", part)] if wanted("key") else None,
        labels=file["label"][part] if wanted("label") else None,
        embeddings=restored(embeddings, meta) if embeddings else None,
        images=_read_flat(file, "image", part) if wanted("image") else None,
        image_sha256=None if digests is None else [digest.tobytes() for digest in digests],
    )


def _read_flat(file: h5py.File, name: str, part: slice) -> list[memoryview]:
    offsets = file[f"{name}_offsets"][part.start : part.stop + 1]
    size = file[name].shape[0]
    if len(offsets) and (offsets[0] < 0 or offsets[-1] > size or (np.diff(offsets) < 0).any()):
        raise ValueError(f"the offsets of {name} do not fit its {size} bytes")
    data = file[name][int(offsets[0]) : int(offsets[-1])].data
    borders = (offsets - offsets[0]).tolist()
    return [data[start:stop] for start, stop in zip(borders, borders[1:], strict=False)]


@contextmanager
def _opened(path: StoragePath) -> Iterator[h5py.File]:
    """An open file; whatever h5py finds wrong in it (OSError, KeyError, ValueError ...) comes out as one message, and what fails in the system
    as an OSError. HDF5's own locks are left out: nobody writes into a shard, and not every file system has locks."""
    import h5py

    try:
        with h5py.File(readable(path), "r", locking=False) as file:
            yield file
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError, OverflowError) as error:
        failed = failure(path, error)
        if failed:
            raise failed from error
        raise damaged(path, error) from error


def _stamp(path: StoragePath) -> tuple[int, int]:
    """Bytes and time of the last change."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


@lru_cache(maxsize=4096)  # a source opens a shard for each row group; looking at every chunk takes 1 ms for 1,000 of them
def _checked(path: StoragePath, stamp: tuple[int, int]) -> ShardMeta:
    """The metadata of a shard that holds what it says, as far as can be told without reading the rows."""
    with _opened(path) as file:
        text = file.attrs.get("distill")
        if not isinstance(text, (bytes, str)):  # str: sets of the first days
            raise NoShard(f"{path} is an HDF5 file without distill's metadata, so it is no shard. Expected a file written by distill embed.")
        meta = ShardMeta.from_json(text, path)
        for name, (rows, dtype, width) in _columns(meta).items():
            _check_column(file, name, rows, np.dtype(dtype), width)
        return meta


def _columns(meta: ShardMeta) -> dict[str, tuple[int | None, Any, tuple[int, ...]]]:
    """Each dataset: rows (None where they are bytes), dtype, and numbers a row."""
    columns: dict[str, tuple[int | None, Any, tuple[int, ...]]] = {
        "label": (meta.rows, np.int32, ()),
        **{name: (meta.rows, dtype, (width,) if width else ()) for name, (dtype, width) in meta.embedding_columns().items()},
        "key": (None, np.uint8, ()),
        "key_offsets": (meta.rows + 1, np.int64, ()),
    }
    if meta.images == "inline":
        return {**columns, "image": (None, np.uint8, ()), "image_offsets": (meta.rows + 1, np.int64, ())}
    return {**columns, "image_sha256": (meta.rows, np.uint8, (32,))}


def _check_column(file: h5py.File, name: str, rows: int | None, dtype: np.dtype, width: tuple[int, ...]) -> None:
    """ValueError where a dataset is not as `_create` makes it, above all where its bytes are packed, elsewhere, or more than the file's."""
    import h5py

    if file.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise ValueError(f"{name} is a link")
    dataset = file[name]
    made, shape = dataset.id.get_create_plist(), dataset.shape
    if made.get_layout() != h5py.h5d.CHUNKED or made.get_nfilters() != 1 or made.get_filter(0)[0] != h5py.h5z.FILTER_FLETCHER32:
        raise ValueError(f"{name} is not stored in chunks with a checksum and nothing else")  # so neither packed nor in another file
    if dataset.dtype != dtype or shape[1:] != width or rows not in (None, shape[0]):
        raise ValueError(f"{name} is {dataset.dtype} {shape}, its metadata says {dtype} {(shape[0] if rows is None else rows, *width)}")
    chunk, size = made.get_chunk(), file.id.get_filesize()
    held = max(dataset.nbytes, math.prod(chunk) * dtype.itemsize) if shape[0] else 0
    if held > size:
        raise ValueError(f"{name} cannot hold {held:,} bytes in a file of {size:,}")
    # HDF5 takes a chunk that is missing for zeros, and ends the process on one of less than 4 bytes
    found: list[tuple[int, int, int]] = []
    dataset.id.chunk_iter(lambda info: found.append((info.chunk_offset[0], info.size, info.filter_mask)))
    if sorted(found) != [(start, math.prod(chunk) * dtype.itemsize + FLETCHER32, 0) for start in range(0, shape[0], chunk[0])]:
        raise ValueError(f"{name} has chunks that are missing, twice there, or not of their size")
