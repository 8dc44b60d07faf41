"""The index of a set, which is its commit, and sets that are opened by it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np

from distill.data.folders import no_set
from distill.data.layout import INDEXES, UNDERSCORE, Layout, find_index, layout_of
from distill.data.shards.formats import FORMATS
from distill.data.shards.golden import NUMBER, GoldenRow, golden_rows
from distill.data.shards.record import Record
from distill.data.shards.rows import EXACT, Rows, ShardMeta, check_version
from distill.errors import BadImage, Damaged, DistillError, Unfinished
from distill.images.spec import ImageSpec
from distill.runtime.lines import many
from distill.storage.files import committed, is_there, read_whole
from distill.storage.json_files import read_json, write_json
from distill.storage.path import StoragePath, as_path

READERS = 8  # footers looked at together: one of an object store is a wait of some requests


@dataclass(frozen=True)
class _Index:
    """The index. classes: sha256 of the class table; golden: as GoldenRow.to_json; sets of the first days have none."""

    version: int
    format: str
    rows: int
    rejects: int
    classes: str
    meta: ShardMeta
    records: tuple[Record, ...]
    golden: tuple[dict[str, Any], ...] = ()

    __pydantic_config__ = EXACT


@dataclass(frozen=True)
class ShardSet:
    """A committed set: its index, and the folder it lies in."""

    folder: StoragePath
    format: str
    rows: int
    rejects: int
    meta: ShardMeta
    classes: tuple[str, ...]
    records: tuple[Record, ...]
    golden: tuple[GoldenRow, ...] = ()
    layout: Layout = UNDERSCORE

    def __len__(self) -> int:
        return self.rows

    def __bool__(self) -> bool:
        return True  # a set of no rows is a set

    def __repr__(self) -> str:
        told = f"{many(self.rows, 'rows')}, {many(self.rejects, 'rejects')}, {many(len(self.records), 'shards')}, {many(len(self.classes), 'classes')}"
        size = f"{self.meta.image.height}x{self.meta.image.width}"
        return f"<ShardSet {self.folder}: {told}; images of {size}, embeddings of {self.dimension} numbers, {self.meta.dtype}>"

    def _repr_html_(self) -> str:
        from distill.runtime.lines import html_table

        facts = {"rows": self.rows, "rejects": self.rejects, "shards": len(self.records), "classes": len(self.classes), "dimension": self.dimension}
        shown = [*((name, f"{value:,}") for name, value in facts.items()), ("dtype", self.meta.dtype), ("format", self.format)]
        return html_table(("", str(self.folder)), shown)

    @property
    def paths(self) -> list[StoragePath]:
        """The shard files, in order."""
        return list(self.shards)

    @property
    def dimension(self) -> int:
        return self.meta.dimension

    @property
    def image(self) -> ImageSpec:
        return self.meta.image

    @property
    def labelled(self) -> bool:
        """True when every row has a label."""
        return self.rows > 0 and sum(record.labelled for record in self.records) == self.rows

    @property
    def identity(self) -> str:
        """Returns a sha256 of what the set holds, wherever it lies: its class table and the hash of each shard."""
        held = [self.classes, [record.shard_sha256 for record in self.records]]
        return hashlib.sha256(json.dumps(held).encode()).hexdigest()

    @cached_property
    def shards(self) -> tuple[StoragePath, ...]:
        return tuple(self.folder / record.shard for record in self.records)

    def group_rows(self, number: int) -> list[int]:
        """Rows of each row group of shard `number`: from the index where it says them, else from the shard's footer."""
        return self._groups[number] if self.meta.groups else FORMATS[self.format].group_rows(self.shards[number])

    def check_groups(self) -> None:
        """ValueError where the index says row groups that do not end where its shards end."""
        if self.meta.groups and sum(map(len, self._groups)) != len(self.meta.groups):
            raise ValueError("more row groups than its shards have")

    @cached_property
    def _groups(self) -> list[list[int]]:
        """The row groups that the index says, by shard. ValueError where they do not end where the shards end."""
        groups, found = iter(self.meta.groups), list[list[int]]()
        for record in self.records:
            sizes, left = list[int](), record.rows
            while left > 0:
                sizes.append(next(groups, left + 1))
                left -= sizes[-1]
            if left:
                raise ValueError(f"the row groups do not end with {record.shard}")
            found.append(sizes)
        return found

    def read(self, number: int, groups: Sequence[int] | None = None, columns: Sequence[str] | None = None) -> Iterator[Rows]:
        """Row groups of shard `number`, in order, with the page checksums verified."""
        return FORMATS[self.format].read(self.shards[number], groups, columns)


def write_index(
    folder: StoragePath,
    format: str,
    records: Iterable[Record],
    classes: Sequence[str],
    read_image: Callable[[str], bytes] | None = None,
    layout: Layout = UNDERSCORE,
) -> ShardSet:
    """The commit of a set: the class table, then the index. `records` must be whole; a chunk that is missing is an error that names it.

    read_image: a key's encoded bytes, for the golden rows of a set made with --images path; without it such a set has none.
    """
    found = {record.number: record for record in records}
    of = next(iter(found.values())).of if found else 0
    missing = [number for number in range(of) if number not in found]
    if missing or not found:
        raise Unfinished(f"{folder}: chunks {missing[:10]} of {of} have no shard yet. Run the command that makes the set again: it makes what is missing.")
    ordered = tuple(found[number] for number in range(of))
    first = next((record for record in ordered if record.rows), ordered[0])
    meta = FORMATS[format].read_meta(folder / first.shard)
    with ThreadPoolExecutor(READERS) as pool:
        groups = list(pool.map(lambda record: FORMATS[format].group_rows(folder / record.shard), ordered))
    table = "".join(f"{name}\n" for name in classes).encode()
    with committed(folder / layout.classes) as temporary:
        temporary.write_bytes(table)
    rows, rejects = sum(record.rows for record in ordered), sum(record.rejects for record in ordered)
    golden = _golden(folder / first.shard, format, read_image) if first.rows else ()
    index = ShardSet(folder, format, rows, rejects, _set_meta(meta, rows, ordered, groups), tuple(classes), ordered, golden, layout)
    write_json(
        folder / layout.index,
        {
            "version": max(layout.version, index.meta.version),
            "format": format,
            "rows": rows,
            "rejects": rejects,
            "classes": hashlib.sha256(table).hexdigest(),
            # the keys of these two stand in the order that they have in each shard
            "meta": {name: dict(sorted(value.items())) if name in ("reading", "image") else value for name, value in index.meta.as_dict().items()},
            "golden": [row.to_json() for row in golden],
            "records": [asdict(record) for record in ordered],
        },
    )
    return index


def open_shards(path: str | os.PathLike[str] | StoragePath) -> ShardSet:
    """Open a committed set. `path`: OUT of `distill embed`, OUT/shards or the index itself."""
    given = as_path(path)
    index = find_index(given) or find_index(given / "shards") or (given if given.name in INDEXES and is_there(given) else None)
    if index is None:
        raise DistillError(no_set(given))
    found = read_index(index)
    for record in found.records:
        if not is_there(found.folder / record.shard):
            raise DistillError(
                f"{found.folder / record.shard} is named in {index.name} but is not there. Embed that chunk again (distill embed --only {record.number})."
            )
    return found


def read_index(index: StoragePath) -> ShardSet:
    """What an index says, and whether it belongs to the class table beside it; the shards are not looked at."""
    try:
        version = read_json(index).get("version")
        check_version(version, index)
        value: _Index = read_json(index, _Index)
        value.meta.check()
        layout = layout_of(index)
        if version != max(layout.version, value.meta.version):
            raise ValueError(f"version {version}, but what it holds is version {max(layout.version, value.meta.version)}")
        for record in value.records:
            record.check(layout)
        golden = tuple(map(GoldenRow.from_json, value.golden))
        if len(golden) > NUMBER or any(len(row.embedding) != value.meta.width for row in golden):
            raise ValueError(f"more than {NUMBER} golden rows, or one without {value.meta.width} numbers")
        classes = _classes(index.parent / layout.classes, value.classes)
        found = ShardSet(index.parent, value.format, value.rows, value.rejects, value.meta, tuple(classes), value.records, golden, layout)
        found.check_groups()
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(
            f"{index} is not an index of shards ({error!r}). Run the command that made the set again: it writes the index anew from the records."
        ) from error
    if value.format not in FORMATS:
        raise DistillError(f"{index}: unknown shard format {value.format!r}; known: {', '.join(FORMATS)}.")
    return found


def _golden(shard: StoragePath, format: str, read_image: Callable[[str], bytes] | None) -> tuple[GoldenRow, ...]:
    first = next(FORMATS[format].read(shard, [0]))[:NUMBER]
    if first.images is not None:
        images = [bytes(image) for image in first.images]
    elif read_image is not None:
        images = [_as_labelled(read_image, key, digest) for key, digest in zip(first.keys, first.image_sha256, strict=True)]
    else:
        return ()
    return golden_rows(first, images, FORMATS[format].read_meta(shard))


def _as_labelled(read_image: Callable[[str], bytes], key: str, digest: bytes) -> bytes:
    """The bytes that the teacher saw, b"" where the file is another one by now."""
    try:
        data = read_image(key)
    except BadImage:
        return b""
    return data if hashlib.sha256(data).digest() == digest else b""


def _classes(path: StoragePath, digest: str) -> list[str]:
    """The class table, which must be the one that the index was written with: another order would rename every label."""
    table = read_whole(path) if is_there(path) else b""
    if hashlib.sha256(table).hexdigest() != digest:
        raise Damaged(f"{path} is missing or not the table of this set (another sha256). Put back the one that the set was made with.")
    return table.decode().split("\n")[:-1]


def _set_meta(meta: ShardMeta, rows: int, records: Sequence[Record], groups: list[list[int]]) -> ShardMeta:
    """The metadata that all shards of a set share, with the rows and the mean norm of the whole, and its row groups where those of a shard
    were cut by bytes."""
    norm = sum(record.mean_norm * record.rows for record in records) / max(rows, 1)
    plain = replace(meta, chunk=-1, chunk_sha256="", rows=rows, mean_norm=float(np.round(norm, 6)), groups=())
    cut = any(sizes != replace(plain, rows=sum(sizes)).group_rows() for sizes in groups)
    return replace(plain, groups=tuple(chain.from_iterable(groups))) if cut else plain
