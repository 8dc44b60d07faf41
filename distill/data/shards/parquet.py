"""Shards as Parquet: opens in pandas, Polars and DuckDB with no helper of ours.

Row groups of GROUP_ROWS rows, or fewer where images are large, each from one contiguous table; page checksums written, and verified by every read here
(pyarrow does not by itself); no compression: it saves 3 to 19 % of the bytes and costs more time than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from distill.data.columns import labels_of, numbers_of
from distill.data.shards.rows import Rows, ShardMeta, damaged, read_columns, restored, stored
from distill.errors import NoShard
from distill.storage.files import failure
from distill.storage.path import StoragePath, is_remote, readable

META_KEY = b"distill"


class ParquetShards:
    suffix = "parquet"

    def write(self, path: Path, meta: ShardMeta, groups: Iterable[Rows]) -> ShardMeta:
        """See ShardFormat.write. The metadata goes in last: rows and mean norm are known only then."""
        schema, sizes, norms = _schema(meta), list[int](), 0.0
        with pq.ParquetWriter(
            readable(path), schema, compression="none", use_dictionary=False, write_page_checksum=True, write_statistics=False, store_schema=True
        ) as writer:
            for group in groups:
                embeddings, norm = stored(group, meta)
                writer.write_table(_table(group, embeddings, schema), row_group_size=len(group))
                sizes.append(len(group))
                norms += norm
            done = meta.written(sizes, norms)
            writer.add_key_value_metadata({META_KEY.decode(): done.to_json()})
        return done

    def read_meta(self, path: StoragePath) -> ShardMeta:
        with _opened(path) as (file, size):
            return _meta(file, size, path)

    def group_rows(self, path: StoragePath) -> list[int]:
        return self.read_meta(path).group_rows()

    def read(self, path: StoragePath, groups: Sequence[int] | None = None, columns: Sequence[str] | None = None) -> Iterator[Rows]:
        with _opened(path) as (file, size):
            meta = _meta(file, size, path)
            sizes = meta.group_rows()
            for number in range(len(sizes)) if groups is None else groups:
                group, rows = file.metadata.row_group(number), sizes[number]
                if group.num_rows != rows or group.total_byte_size > size:
                    raise ValueError(f"row group {number} claims {group.num_rows:,} rows and {group.total_byte_size:,} bytes")
                # not read_row_group: it reserves memory for as many values as the footer claims of each column
                table = pa.Table.from_batches(file.iter_batches(rows, [number], read_columns(columns, meta), use_threads=False))
                if len(table) != rows:
                    raise ValueError(f"row group {number} holds {len(table):,} rows of {rows:,}")
                yield _rows(table, meta)


def _schema(meta: ShardMeta) -> pa.Schema:
    image = pa.field("image", pa.binary()) if meta.images == "inline" else pa.field("image_sha256", pa.binary(32))
    embeddings = [pa.field(name, _type(dtype, width), nullable=False) for name, (dtype, width) in meta.embedding_columns().items()]
    return pa.schema([pa.field("key", pa.string(), nullable=False), pa.field("label", pa.int32()), image.with_nullable(False), *embeddings])


def _type(dtype: str, width: int) -> pa.DataType:
    value = pa.from_numpy_dtype(dtype)
    return pa.list_(pa.field("item", value, nullable=False), width) if width else value


def _table(rows: Rows, embeddings: dict[str, np.ndarray], schema: pa.Schema) -> pa.Table:
    images = rows.images if rows.images is not None else rows.image_sha256
    columns = [
        pa.array(rows.keys, pa.string()),
        pa.array(rows.labels, pa.int32(), mask=rows.labels < 0),
        pa.array(images, schema.field(2).type),
        *(_column(embeddings[field.name], field.type) for field in list(schema)[3:]),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _column(values: np.ndarray, kind: pa.DataType) -> pa.Array:
    if not pa.types.is_fixed_size_list(kind):
        return pa.array(values, kind)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1), kind.value_type), type=kind)


def _rows(table: pa.Table, meta: ShardMeta) -> Rows:
    columns = {name: table.column(name) for name in table.column_names}
    # combine_chunks copies a single chunk too: 1 of 10 us a row of 10 KB
    found = {name: column.chunk(0) if column.num_chunks == 1 else column.combine_chunks() for name, column in columns.items()}
    labels = found.get("label")
    embeddings = {name: numbers_of(found[name], dtype) for name, (dtype, _) in meta.embedding_columns().items() if name in found}
    return Rows(
        keys=found["key"].to_pylist() if "key" in found else None,
        labels=None if labels is None else labels_of(labels),
        embeddings=restored(embeddings, meta) if embeddings else None,
        images=_views(found["image"]) if "image" in found else None,
        image_sha256=found["image_sha256"].to_pylist() if "image_sha256" in found else None,
    )


def _views(column: pa.BinaryArray) -> list[memoryview]:
    """Each value as a view into the column's own memory: a copy of each would cost as much as reading them."""
    _, offsets, values = column.buffers()
    if values is None:  # no value has a byte
        return [memoryview(b"")] * len(column)
    borders = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1].tolist()
    view = memoryview(values).cast("B")  # Arrow calls its bytes signed
    return [view[start:stop] for start, stop in zip(borders, borders[1:], strict=False)]


@contextmanager
def _opened(path: StoragePath) -> Iterator[tuple[pq.ParquetFile, int]]:
    """An open file and its bytes; whatever pyarrow finds wrong in it (ArrowException, OSError, UnicodeDecodeError ...) comes out as one message,
    and what fails in the system as an OSError."""
    try:
        source = readable(path)
        size = source.size() if is_remote(path) else path.stat().st_size
        with pq.ParquetFile(source, page_checksum_verification=True, pre_buffer=is_remote(path), memory_map=False) as file:
            yield file, size
    except (pa.ArrowException, OSError, ValueError, KeyError, IndexError, OverflowError) as error:
        failed = failure(path, error)
        if failed:
            raise failed from error
        raise damaged(path, error) from error


def _meta(file: pq.ParquetFile, size: int, path: StoragePath) -> ShardMeta:
    text = (file.metadata.metadata or {}).get(META_KEY)
    if text is None:
        raise NoShard(f"{path} is a Parquet file without distill's metadata, so it is no shard. Expected a file written by distill embed.")
    meta = ShardMeta.from_json(text, path)
    if meta.rows * _least(meta) > size:  # before any schema or column is made for it
        raise ValueError(f"{meta.rows:,} rows of {meta.width:,} numbers cannot be in {size:,} bytes")
    held = (file.metadata.num_rows, file.num_row_groups)
    if held != (meta.rows, len(meta.group_rows())) or not file.schema_arrow.equals(_schema(meta)):
        raise ValueError(f"its metadata says {meta.rows} rows, the file holds {held[0]} in {held[1]} row groups, or its columns are others")
    return meta


def _least(meta: ShardMeta) -> int:
    """Bytes that a row takes at least: nothing is packed, so that a count of rows can be doubted before memory is reserved for it."""
    return 4 + meta.embedding_bytes + (4 if meta.images == "inline" else 32)
