"""The record of a finished chunk, its reject log, and what of a chunk lies there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from distill.data.layout import LAYOUTS, UNDERSCORE, Layout, layout_of, shard_name
from distill.data.shards.formats import FORMATS, shard_path
from distill.data.shards.rows import EXACT, ShardMeta, damaged
from distill.errors import Damaged
from distill.storage.files import is_there, read_whole
from distill.storage.json_files import parse_json, read_json
from distill.storage.path import StoragePath


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
        """ValueError where its reject log is called as in another layout."""
        if self.ledger != layout.ledger(self.number, self.of):
            raise ValueError(f"the ledger {self.ledger!r}, expected {layout.ledger(self.number, self.of)!r}")


@dataclass(frozen=True)
class RowsThere:
    """Rows of a shard. known: False where it may have been fewer, because it is damaged and nothing beside it can say."""

    rows: int = 0
    known: bool = True


@dataclass(frozen=True)
class Reject:
    """A line of a reject log. sha256: of the image's bytes, None where they could not be read."""

    key: str
    reason: str
    sha256: str | None

    __pydantic_config__ = EXACT


def read_reject_log(path: StoragePath) -> list[Reject]:
    """The rejects of a chunk, in its order. Lines end with LF alone: keys may hold other line ends."""
    *lines, rest = read_whole(path).split(b"\n")
    if rest:
        raise damaged(path, "its last line is cut")
    try:
        return [parse_json(line, Reject) for line in lines]
    except ValueError as error:
        raise damaged(path, f"it is no reject log ({error})") from error


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


def rows_there(folder: StoragePath, format: str, expected: ShardMeta, rows: int, layout: Layout = UNDERSCORE) -> RowsThere:
    """How many rows the shard of a chunk of `rows` rows holds, or held before it was damaged; 0 where none is there.

    Asked of the shard itself, then of its record and its reject log; where none of them can say, up to all rows of the chunk.
    """
    chunk = expected.chunk, expected.of
    shard = shard_path(folder, format, *chunk)
    if not is_there(shard):
        return RowsThere()
    asked: tuple[Callable[[], int], ...] = (
        lambda: FORMATS[format].read_meta(shard).rows,
        lambda: Record.load(folder / layout.record(*chunk)).rows,
        lambda: rows - len(read_reject_log(folder / layout.ledger(*chunk))),
    )
    for ask in asked:
        with suppress(FileNotFoundError, Damaged):
            return RowsThere(ask())
    return RowsThere(rows, known=False)
