"""Shards on disk. A shard under its final name is whole, and its record proves that its ledger of rejects is there; nothing here edits one in place.

Order of commit for chunk 17 of 59, when all three are written and synced under temporary names: an old record goes, then
`00017-of-00059.parquet` gets its name (over an old shard, whose images may be nowhere else), `_00017-of-00059.rejects.jsonl` (also when empty), and
`_00017-of-00059.json` (the record: rows, rejects, size and sha256 of both files). So a record stands beside its own files or not at all.
`_index.json` gathers the records and comes last, only when the set is whole. Sets that began before have these names without the underscore:
see distill.data.layout.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from distill.data.folders import no_set
from distill.data.layout import INDEXES, LAYOUTS, UNDERSCORE, Layout, find_index, layout_of, shard_name
from distill.data.shards.golden import NUMBER, GoldenRow, golden_rows
from distill.data.shards.hdf5 import Hdf5Shards
from distill.data.shards.parquet import ParquetShards
from distill.data.shards.rows import EXACT, GROUP_ROWS, Rows, ShardMeta, check_version, damaged, regrouped, view_column
from distill.errors import BadImage, Damaged, DistillError, Unfinished
from distill.images.spec import ImageSpec
from distill.runtime.lines import many
from distill.storage.files import committed, is_there, json_text, named, parse_json, read_json, read_whole, sha256_file, sync, write_json
from distill.storage.path import StoragePath, place

__all__ = [
    "FORMATS",
    "GROUP_ROWS",
    "Held",
    "Record",
    "Rows",
    "ShardMeta",
    "ShardSet",
    "commit_shard",
    "find_record",
    "open_shards",
    "read_index",
    "rows_there",
    "shard_path",
    "view_column",
    "write_index",
]


class ShardFormat(Protocol):
    """One file format: both directions in one place."""

    suffix: str

    def write(self, path: Path, meta: ShardMeta, groups: Iterable[Rows]) -> ShardMeta:
        """Write groups as `regrouped` cuts them; returns `meta` with rows, mean_norm and groups filled in."""

    def read_meta(self, path: StoragePath) -> ShardMeta: ...

    def group_rows(self, path: StoragePath) -> list[int]: ...

    def read(self, path: StoragePath, groups: Sequence[int] | None = None, columns: Sequence[str] | None = None) -> Iterator[Rows]: ...


READERS = 8  # footers looked at together: one of an object store is a wait of some requests

FORMATS: dict[str, ShardFormat] = {"parquet": ParquetShards(), "hdf5": Hdf5Shards()}


def shard_path(folder: StoragePath, format: str, number: int, of: int) -> StoragePath:
    """Where the shard of a chunk lies."""
    return folder / f"{shard_name(number, of)}.{FORMATS[format].suffix}"


@dataclass(frozen=True)
class Record:
    """What is known of one finished chunk. Sizes are bytes."""

    number: int
    of: int
    chunk_sha256: str
    rows: int
    rejects: int
    labelled: int
    mean_norm: float
    shard: str
    shard_bytes: int
    shard_sha256: str
    ledger: str
    ledger_bytes: int
    ledger_sha256: str

    __pydantic_config__ = EXACT

    def __post_init__(self) -> None:
        """ValueError where it claims what cannot be: its files have the names of its chunk, so that none leads elsewhere."""
        shards = [f"{shard_name(self.number, self.of)}.{format.suffix}" for format in FORMATS.values()]
        ledgers = [layout.ledger(self.number, self.of) for layout in LAYOUTS.values()]
        if self.shard not in shards or self.ledger not in ledgers or not 0 <= self.number < self.of:
            raise ValueError(f"chunk {self.number} of {self.of} with the files {self.shard!r} and {self.ledger!r}")
        if min(self.rows, self.rejects, self.labelled, self.shard_bytes, self.ledger_bytes) < 0:
            raise ValueError(f"rows, rejects, labelled, bytes {self.rows, self.rejects, self.labelled, self.shard_bytes, self.ledger_bytes}")

    @classmethod
    def load(cls, path: StoragePath) -> Record:
        try:
            record: Record = read_json(path, cls)
            record.check(layout_of(path))
        except ValueError as error:
            raise damaged(path, f"it is no record of a chunk ({error})") from error
        return record

    def check(self, layout: Layout) -> None:
        """ValueError where its ledger is called as in another layout."""
        if self.ledger != layout.ledger(self.number, self.of):
            raise ValueError(f"the ledger {self.ledger!r}, expected {layout.ledger(self.number, self.of)!r}")


@dataclass(frozen=True)
class Held:
    """Rows of a shard. known: False where it may have been fewer, because it is damaged and nothing beside it can say."""

    rows: int = 0
    known: bool = True


@dataclass(frozen=True)
class Reject:
    """A line of a ledger. sha256: of the image's bytes, None where they could not be read."""

    key: str
    reason: str
    sha256: str | None

    __pydantic_config__ = EXACT


def read_ledger(path: StoragePath) -> list[Reject]:
    """The rejects of a chunk, in its order. Lines end with LF alone: keys may hold other line ends."""
    *lines, rest = read_whole(path).split(b"\n")
    if rest:
        raise damaged(path, "its last line is cut")
    try:
        return [parse_json(line, Reject) for line in lines]
    except ValueError as error:
        raise damaged(path, f"it is no reject log ({error})") from error


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


def commit_shard(
    folder: StoragePath,
    format: str,
    meta: ShardMeta,
    rows: Iterable[Rows],
    rejects: list[dict[str, Any]],
    *,
    least: Held = Held(),  # noqa: B008
    layout: Layout = UNDERSCORE,
) -> Record:
    """Write one chunk's shard, ledger and record in the order of the module's first lines.

    `rows` may come in parts of any size; `rejects` may be filled meanwhile: the ledger is written after the rows are. A shard that stands there
    stays until the new one takes its name, because its pictures may be nowhere else.

    Args:
        least: rows of the shard that stands there, where it may not be replaced by one of fewer.
        layout: that of the set, which is one for all its chunks.
    Raises:
        Unfinished: what was written does not read back, or has fewer rows than `least`; nothing was changed then.
    """
    shard, shards, labelled = shard_path(folder, format, meta.chunk, meta.of), FORMATS[format], 0
    ledger, path = (folder / name(meta.chunk, meta.of) for name in (layout.ledger, layout.record))

    def counted() -> Iterator[Rows]:
        nonlocal labelled
        for group in regrouped(rows):
            labelled += int((group.labels >= 0).sum())
            yield group

    # left from the inside to the outside: the shard gets its name first, the record last
    with committed(path) as record_file, committed(ledger) as ledger_file, committed(shard) as shard_file:
        done = _written(shards, shard, shard_file, meta, counted())
        if done.rows < least.rows:
            raise _fewer(shard, least, done.rows, rejects)
        ledger_file.write_text("".join(json.dumps(reject, ensure_ascii=False) + "\n" for reject in rejects), encoding="utf-8")
        record = Record(
            number=meta.chunk,
            of=meta.of,
            chunk_sha256=meta.chunk_sha256,
            rows=done.rows,
            rejects=len(rejects),
            labelled=labelled,
            mean_norm=done.mean_norm,
            shard=shard.name,
            shard_bytes=shard_file.stat().st_size,
            shard_sha256=sha256_file(shard_file),
            ledger=ledger.name,
            ledger_bytes=ledger_file.stat().st_size,
            ledger_sha256=sha256_file(ledger_file),
        )
        record_file.write_bytes(json_text(asdict(record)))
        for file in (record_file, ledger_file, shard_file):  # a full disk shows here, before anything is changed
            sync(file)
        for old in (folder / layout.index, path):
            old.unlink(missing_ok=True)
        if isinstance(folder, Path):
            sync(folder)
    return record


def _written(shards: ShardFormat, shard: StoragePath, file: Path, meta: ShardMeta, groups: Iterable[Rows]) -> ShardMeta:
    try:
        done = shards.write(file, meta, groups)
    except OSError as error:  # pyarrow says the temporary name, HDF5 none
        raise (named(error, shard) if error.errno and not error.filename else error) from error
    try:
        if shards.read_meta(file) == done:
            return done
    except Damaged:
        pass
    raise Unfinished(f"{shard}: what was written does not read back. The disk may be full or failing; nothing was committed, run the same command again.")


def _fewer(shard: StoragePath, least: Held, rows: int, rejects: list[dict[str, Any]]) -> Unfinished:
    verb = "is" if len(rejects) == 1 else "are"
    why = f", because {many(len(rejects), 'images')} {verb} rejected now ({rejects[0]['key']!r}: {rejects[0]['reason']})" if rejects else ""
    held = (
        f"held {many(least.rows, 'rows')}"
        if least.known
        else f"is damaged and may have held up to {least.rows:,} rows (its record and its reject log are gone too)"
    )
    return Unfinished(
        f"{shard} {held}; made again it would hold {rows:,}{why}. It stays as it is. Put the images back, or a whole copy of it; "
        f"or accept fewer rows: distill embed ... --only {int(shard.name.partition('-')[0])}"
    )


def find_record(folder: StoragePath, format: str, expected: ShardMeta, layout: Layout = UNDERSCORE) -> Record | None:
    """The record of a chunk whose shard is there and belongs to it, by sizes and footer; None when it has to be made (again).

    Args:
        expected: what the shard's metadata must say, but for what is known when it is written: another teacher's shard is none.
    Raises:
        OSError, StoreError: nobody can tell. Only a file that is not there, or proven to be damaged, has to be made again.
    """
    path, shard = folder / layout.record(expected.chunk, expected.of), shard_path(folder, format, expected.chunk, expected.of)
    try:
        record = Record.load(path)
        sizes = (shard.stat().st_size, (folder / record.ledger).stat().st_size)
        if sizes != (record.shard_bytes, record.ledger_bytes) or record.shard != shard.name:
            return None
        meta = FORMATS[format].read_meta(shard)
    except (FileNotFoundError, NotADirectoryError, Damaged):
        return None
    same = (meta.rows, meta.chunk_sha256) == (record.rows, record.chunk_sha256)
    return record if same and meta.unwritten() == expected.unwritten() else None


def rows_there(folder: StoragePath, format: str, expected: ShardMeta, rows: int, layout: Layout = UNDERSCORE) -> Held:
    """How many rows the shard of a chunk of `rows` rows holds, or held before it was damaged; 0 where none is there.

    Asked of the shard itself, then of its record and its ledger; where none of them can say, up to all rows of the chunk.
    """
    chunk = expected.chunk, expected.of
    shard = shard_path(folder, format, *chunk)
    if not is_there(shard):
        return Held()
    asked: tuple[Callable[[], int], ...] = (
        lambda: FORMATS[format].read_meta(shard).rows,
        lambda: Record.load(folder / layout.record(*chunk)).rows,
        lambda: rows - len(read_ledger(folder / layout.ledger(*chunk))),
    )
    for ask in asked:
        with suppress(FileNotFoundError, Damaged):
            return Held(ask())
    return Held(rows, known=False)


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
    given = place(path)
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
