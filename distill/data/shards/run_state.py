"""Notes of a run in OUT/state: what its steps tell the launcher, and what `distill inspect` reads. Of no value once the run is over.

estimate.json          what is to be done, once the plan is agreed on
phase.json             what is done now
progress-00017.json    how far chunk 17 is
failed-00017.json      why chunk 17 has no shard
error.json             why the run ends
finished.json          no worker is needed any more
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import ClassVar, TypeAlias, TypeVar

from distill.data.folders import remove_own
from distill.data.kinds import NOTES
from distill.errors import DistillError, Unfinished
from distill.storage.json_files import read_json, write_json
from distill.storage.path import StoragePath


@dataclass(frozen=True)
class Estimate:
    """rows, chunks: of the set; todo_*: what this run makes of them; bytes: it writes about so many; free: those of the disk, None in a store;
    skipped: names of the list that are no rows, by reason; note: on the list; warning: on the first images."""

    name: ClassVar[str] = "estimate"
    rows: int
    chunks: int
    todo_chunks: int
    todo_rows: int
    bytes: int
    free: int | None
    skipped: dict[str, int] = field(default_factory=dict)
    note: str = ""
    warning: str = ""


@dataclass(frozen=True)
class Phase:
    """phase: in some words, "" between two phases."""

    name: ClassVar[str] = "phase"
    phase: str


@dataclass(frozen=True)
class ChunkProgress:
    """done: rows of a chunk that are done, rejects too; made: how many of them this run made; turned: images with an EXIF rotation not applied."""

    name: ClassVar[str] = "progress"
    done: int
    made: int
    turned: int = 0


@dataclass(frozen=True)
class ChunkFailure:
    """A chunk that has no shard, and why."""

    name: ClassVar[str] = "failed"
    chunk: int
    reason: str


@dataclass(frozen=True)
class RunError:
    """An error for a person, which the launcher raises."""

    name: ClassVar[str] = "error"
    message: str
    exit_code: int

    def error(self) -> DistillError:
        return (Unfinished if self.exit_code == Unfinished.exit_code else DistillError)(self.message)


@dataclass(frozen=True)
class Finished:
    """Workers go one after another from now on."""

    name: ClassVar[str] = "finished"


Note: TypeAlias = Estimate | Phase | ChunkProgress | ChunkFailure | RunError | Finished
N = TypeVar("N", Estimate, Phase, ChunkProgress, ChunkFailure, RunError, Finished)


@dataclass(frozen=True)
class RunState:
    """OUT/state. What cannot be read, because it is just being replaced or was cut, is as if it were not there."""

    folder: StoragePath

    def path(self, kind: type[Note], chunk: int | None = None) -> StoragePath:
        """Where a note lies; chunk: the number of the chunk that it is about."""
        return self.folder / (f"{kind.name}.json" if chunk is None else f"{kind.name}-{chunk:05d}.json")

    def write(self, note: Note, chunk: int | None = None) -> None:
        """On a full disk there is no room for a note: the launcher then says what is missing, and that."""
        with suppress(OSError):
            write_json(self.path(type(note), chunk), asdict(note))

    def read(self, kind: type[N]) -> N | None:
        """Returns the note of the run, None where there is none."""
        return _read(self.path(kind), kind)

    def read_chunks(self, kind: type[N]) -> dict[int, N]:
        """Returns the notes on chunks, by the number of the chunk."""
        found = {number: _read(path, kind) for number, path in self._of_chunks(kind)}
        return {number: note for number, note in found.items() if note is not None}

    def last_written(self, kind: type[Note]) -> float | None:
        """Returns when the newest note of a kind was written, in seconds, by the clock of whoever keeps the files."""
        times = list[float]()
        for path in (self.path(kind), *(path for _, path in self._of_chunks(kind))):
            with suppress(OSError):
                times.append(path.stat().st_mtime_ns / 1e9)
        return max(times, default=None)

    def clear(self) -> None:
        """Removes what earlier runs left, and nothing that has another name."""
        remove_own(self.folder, NOTES)

    def _of_chunks(self, kind: type[Note]) -> Iterator[tuple[int, StoragePath]]:
        name = re.compile(rf"{kind.name}-(\d{{5,}})\.json")
        paths = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        yield from ((int(match[1]), path) for path in paths if (match := name.fullmatch(path.name)))


def _read(path: StoragePath, kind: type[N]) -> N | None:
    try:
        return read_json(path, kind)
    except (OSError, ValueError):
        return None
