"""Shards as HDF5: the same columns as datasets, the same metadata as the attribute `distill`.

Keys and images lie flat as uint8 with offsets (`key_offsets[i]:key_offsets[i+1]`), because fletcher32, which guards every dataset,
refuses variable-length strings. Default libver, no tracked times: equal rows give equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from distill import DistillError
from distill.shards.rows import GROUP_ROWS, Rows, ShardMeta, mean_norm

BYTES_CHUNK = 1 << 16  # a shard of few rows stays small


class Hdf5Shards:
    suffix = "h5"

    def write(self, path: Path, meta: ShardMeta, groups: Iterable[Rows]) -> ShardMeta:
        """See ShardFormat.write."""
        rows, norms = 0, 0.0
        with h5py.File(path, "w") as file:
            columns = _create(file, meta)
            for group in groups:
                _append(columns["label"], group.labels.astype(np.int32))
                _append(columns["embedding"], group.embeddings)
                _append_flat(file, "key", [key.encode() for key in group.keys])
                if meta.images == "inline":
                    _append_flat(file, "image", group.images)
                else:
                    _append(columns["image_sha256"], np.frombuffer(b"".join(group.image_sha256), np.uint8).reshape(-1, 32))
                rows += len(group)
                norms += float(np.linalg.norm(group.embeddings.astype(np.float64), axis=1).sum())
            done = replace(meta, rows=rows, mean_norm=mean_norm(norms, rows))
            file.attrs["distill"] = done.to_json()
        return done

    def read_meta(self, path: Path) -> ShardMeta:
        with _opened(path) as file:
            return _meta(file, path)

    def group_rows(self, path: Path) -> list[int]:
        rows = self.read_meta(path).rows
        return [min(GROUP_ROWS, rows - start) for start in range(0, rows, GROUP_ROWS)]

    def read(self, path: Path, groups: Sequence[int] | None = None, columns: Sequence[str] | None = None) -> Iterator[Rows]:
        with _opened(path) as file:
            meta = _meta(file, path)
            count = -(-meta.rows // GROUP_ROWS)
            for number in range(count) if groups is None else groups:
                start = number * GROUP_ROWS
                yield _rows(file, slice(start, min(start + GROUP_ROWS, meta.rows)), columns)


def _create(file: h5py.File, meta: ShardMeta) -> dict[str, h5py.Dataset]:
    def column(name: str, dtype: Any, width: tuple[int, ...] = (), chunk: int = GROUP_ROWS) -> h5py.Dataset:
        return file.create_dataset(name, (0, *width), dtype, maxshape=(None, *width), chunks=(chunk, *width), fletcher32=True)

    made = {"label": column("label", np.int32), "embedding": column("embedding", meta.dtype, (meta.width,))}
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


def _rows(file: h5py.File, part: slice, columns: Sequence[str] | None) -> Rows:
    def wanted(name: str) -> bool:
        return name in file and (columns is None or name in columns)

    digests = file["image_sha256"][part] if wanted("image_sha256") else None
    return Rows(
        keys=[str(key, "utf-8") for key in _read_flat(file, "key", part)] if wanted("key") else None,
        labels=file["label"][part] if wanted("label") else None,
        embeddings=file["embedding"][part] if wanted("embedding") else None,
        images=_read_flat(file, "image", part) if wanted("image") else None,
        image_sha256=None if digests is None else [digest.tobytes() for digest in digests],
    )


def _read_flat(file: h5py.File, name: str, part: slice) -> list[memoryview]:
    offsets = file[f"{name}_offsets"][part.start : part.stop + 1]
    size = file[name].shape[0]
    if len(offsets) and (offsets[0] < 0 or offsets[-1] > size or (np.diff(offsets) < 0).any()):
        raise ValueError(f"the offsets of {name} do not fit its {size} bytes")
    data = memoryview(file[name][int(offsets[0]) : int(offsets[-1])])
    borders = (offsets - offsets[0]).tolist()
    return [data[start:stop] for start, stop in zip(borders, borders[1:], strict=False)]


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """An open file; whatever h5py finds wrong in it (OSError, KeyError, ValueError ...) comes out as one message."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError, IndexError) as error:
        raise DistillError(f"{path} is damaged: {error}. Delete it and run distill embed again: it makes that chunk anew.") from error


def _meta(file: h5py.File, path: Path) -> ShardMeta:
    text = file.attrs.get("distill")
    if not isinstance(text, str):
        raise DistillError(
            f"{path} is an HDF5 file without distill's metadata, so it is no shard. Expected a file written by distill embed."
        )
    meta = ShardMeta.from_json(text, path)
    inline = meta.images == "inline"
    expected: dict[str, tuple[int, ...]] = {
        "label": (meta.rows,), "embedding": (meta.rows, meta.width), "key_offsets": (meta.rows + 1,),
        **({"image_offsets": (meta.rows + 1,)} if inline else {"image_sha256": (meta.rows, 32)}),
    }  # fmt: skip
    found = {name: file[name].shape for name in expected}
    if found != expected or file["embedding"].dtype != meta.dtype:
        raise ValueError(f"its metadata says {expected}, the file holds {found}")
    return meta
