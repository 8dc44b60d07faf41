"""What the files of a set are called. The one place that knows: everything else asks a Layout.

A folder of shards has one of two layouts. Shards have the same names and the same bytes in both.

    underscore      _00017-of-00059.json  _00017-of-00059.rejects.jsonl  _classes.txt  _index.json       every new set
    plain           00017-of-00059.json   00017-of-00059.rejects.jsonl   classes.txt   index.json        sets that began before

pandas and pyarrow pass over names that begin with an underscore, so a folder of shards opens as one table. A set keeps the layout that it
began with: its plan says which, and where there is no plan the names in the folder do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from distill.errors import DistillError
from distill.storage.files import is_there
from distill.storage.path import StoragePath

FORMAT_VERSIONS = (1, 2, 3)  # of shards; 2: views, or int8; 3: groups, or a new key of `image` or `reading` (data/shards/rows.py)
NUMBERED = r"\d{5,}-of-\d{5,}"


def shard_name(number: int, of: int) -> str:
    """Returns the stem of everything that belongs to a chunk: (17, 59) -> "00017-of-00059"."""
    return f"{number:05d}-of-{of:05d}"


@dataclass(frozen=True)
class Layout:
    """Names of the files beside the shards of a set.

    Attributes:
        name: what plan.json calls it.
        prefix: what the names begin with.
        version: the least format version that an index of this layout has.
    """

    name: str
    prefix: str
    version: int

    @property
    def index(self) -> str:
        return f"{self.prefix}index.json"

    @property
    def classes(self) -> str:
        return f"{self.prefix}classes.txt"

    def record(self, number: int, of: int) -> str:
        """Returns the name of a chunk's record."""
        return f"{self.prefix}{shard_name(number, of)}.json"

    def ledger(self, number: int, of: int) -> str:
        """Returns the name of a chunk's reject log."""
        return f"{self.prefix}{shard_name(number, of)}.rejects.jsonl"

    def is_record(self, name: str) -> bool:
        """Whether a file of this name is the record of a chunk."""
        return re.fullmatch(rf"{self.prefix}{NUMBERED}\.json", name) is not None


UNDERSCORE, PLAIN = Layout("underscore", "_", 3), Layout("plain", "", 1)
LAYOUTS = {layout.name: layout for layout in (UNDERSCORE, PLAIN)}
INDEXES = tuple(layout.index for layout in LAYOUTS.values())


def find_index(folder: StoragePath) -> StoragePath | None:
    """Returns the index in a folder of shards, None where there is none.

    Raises:
        DistillError: the folder holds one of each layout, so two sets are mixed in it.
    """
    found = [path for path in (folder / name for name in INDEXES) if is_there(path) and not path.is_dir()]
    if len(found) > 1:
        raise DistillError(
            f"{folder} holds {' and '.join(path.name for path in found)}, so the files of two sets are mixed there. Move those of one set elsewhere."
        )
    return found[0] if found else None


def layout_of(path: StoragePath) -> Layout:
    """Returns the layout of a set by the name of its index, record, reject log or class table."""
    return UNDERSCORE if path.name.startswith(UNDERSCORE.prefix) else PLAIN


def layout_in(folder: StoragePath) -> Layout:
    """Returns the layout of a folder of shards by the names in it: the one of a new set unless files of the plain layout lie there."""
    if (index := find_index(folder)) is not None:
        return layout_of(index)
    plain = re.compile(rf"{NUMBERED}\.(json|rejects\.jsonl)")
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    there = any(plain.fullmatch(name) or name == PLAIN.classes for name in names) and not any(map(UNDERSCORE.is_record, names))
    return PLAIN if there else UNDERSCORE
