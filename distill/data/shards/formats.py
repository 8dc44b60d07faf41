"""File formats of shards by name, and where the shard of a chunk lies. Short, because each format has a file of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from distill.data.layout import shard_name
from distill.data.shards.hdf5 import Hdf5Shards
from distill.data.shards.parquet import ParquetShards
from distill.data.shards.rows import Rows, ShardMeta
from distill.storage.path import StoragePath


class ShardFormat(Protocol):
    """One file format: both directions in one place."""

    suffix: str

    def write(self, path: Path, meta: ShardMeta, groups: Iterable[Rows]) -> ShardMeta:
        """Write groups as `regrouped` cuts them; returns `meta` with rows, mean_norm and groups filled in."""

    def read_meta(self, path: StoragePath) -> ShardMeta: ...

    def group_rows(self, path: StoragePath) -> list[int]: ...

    def read(self, path: StoragePath, groups: Sequence[int] | None = None, columns: Sequence[str] | None = None) -> Iterator[Rows]: ...


FORMATS: dict[str, ShardFormat] = {"parquet": ParquetShards(), "hdf5": Hdf5Shards()}


def shard_path(folder: StoragePath, format: str, number: int, of: int) -> StoragePath:
    """Where the shard of a chunk lies."""
    return folder / f"{shard_name(number, of)}.{FORMATS[format].suffix}"
