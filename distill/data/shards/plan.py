"""What a set is, in OUT/plan.json: written once, before any shard. `pipelines` makes and follows it, `distill inspect` reads it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace

from distill.data.layout import LAYOUTS, PLAIN, Layout
from distill.data.lists.image_list import Rule
from distill.data.shards import Record, ShardMeta, find_record, shard_path
from distill.data.shards.rows import EXACT
from distill.errors import DistillError
from distill.storage.json_files import read_json, write_json
from distill.storage.path import StoragePath


@dataclass(frozen=True)
class Plan:
    """Everything that decides the bytes of a set. chunk_rows: rows of one chunk, 0 where the source was chunks already.

    skipped: how many names of the source are no rows, by reason; reported, not compared. first_views: how many views the set was made with before
    any were added. rule: how names became rows; None in plans of earlier versions, which took every file. layout: what the files beside the shards
    are called; plans of earlier versions say nothing, and theirs is plain.
    """

    source: str
    source_sha256: str
    chunk_rows: int
    chunks: tuple[str, ...]
    rows: int
    classes: int
    meta: ShardMeta
    format: str
    batch: int
    skipped: dict[str, int]
    first_views: int = 1
    rule: Rule | None = None
    layout: str = PLAIN.name

    __pydantic_config__ = EXACT

    def __post_init__(self) -> None:
        """ValueError where no layout is called so."""
        if self.layout not in LAYOUTS:
            raise ValueError(f"layout {self.layout!r}, expected {' or '.join(LAYOUTS)}")

    def save(self, path: StoragePath) -> None:
        self.meta.check()
        values = {**asdict(self), "meta": self.meta.as_dict()}
        left_out = {"rule": None, "layout": PLAIN.name}  # as in plans of earlier versions
        write_json(path, {name: value for name, value in values.items() if name not in left_out or value != left_out[name]})

    @classmethod
    def load(cls, path: StoragePath) -> Plan:
        try:
            plan = read_json(path, cls)
            plan.meta.check()
        except ValueError as error:
            raise DistillError(f"{path} is not a plan of distill embed ({error}). Use another OUT.") from error
        return plan

    def chunk_meta(self, number: int) -> ShardMeta:
        """What the shard of a chunk says of itself, but for its rows and mean norm."""
        return replace(self.meta, chunk=number, of=len(self.chunks), chunk_sha256=self.chunks[number])

    def shard_path(self, shards: StoragePath, number: int) -> StoragePath:
        """Where the shard of a chunk lies in a folder of shards."""
        return shard_path(shards, self.format, number, len(self.chunks))

    def find_record(self, shards: StoragePath, number: int) -> Record | None:
        """The record of a chunk that is done, None where it has to be made."""
        return find_record(shards, self.format, self.chunk_meta(number), self.names)

    @property
    def imported(self) -> bool:
        """Whether `distill import` made the set: no teacher was called, in batches of no size."""
        return self.batch == 0

    @property
    def names(self) -> Layout:
        """What the files beside the shards are called."""
        return LAYOUTS[self.layout]
