"""What the verbs of the data half return: faces, chunk, views, embed, plan, import and verify."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, Protocol

from distill.results.result import Result
from distill.runtime.lines import many


@dataclass(frozen=True, repr=False)
class FacesResult(Result):
    """A folder of drawn identities. size: height and width of each image in pixels."""

    SHOWN: ClassVar[tuple[str, ...]] = ("out", "pictures", "identities", "size")
    out: str
    pictures: int
    identities: int
    size: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def in_words(self) -> str:
        return f"{self.out}: {many(self.pictures, 'pictures')} of {many(self.identities, 'identities')}, {self.size}x{self.size}"


@dataclass(frozen=True, repr=False)
class ChunkResult(Result):
    """An image list as chunk files. skipped: how many names of the list are no rows, by reason; root: of the keys."""

    SHOWN: ClassVar[tuple[str, ...]] = ("out", "rows", "classes", "chunks")
    out: str
    rows: int
    classes: int
    chunks: int
    skipped: Mapping[str, int]
    root: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def in_words(self) -> str:
        skipped = "".join(f", {many(count, reason)} skipped" for reason, count in self.skipped.items() if count)
        return f"{self.out}: {many(self.rows, 'rows')} of {many(self.classes, 'classes')} in {many(self.chunks, 'chunks')}{skipped}"


@dataclass(frozen=True, repr=False)
class ViewsResult(Result):
    """A contact sheet of views, written as a PNG."""

    SHOWN: ClassVar[tuple[str, ...]] = ("out", "pictures", "views", "recipe")
    out: str
    pictures: int
    views: int
    recipe: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def in_words(self) -> str:
        return f"{self.out}: {many(self.pictures, 'pictures')}, {many(self.views, 'views')} each, recipe {self.recipe}"


@dataclass(frozen=True, repr=False)
class EmbedResult(Result):
    """The state of a set after a run of embed. rows, rejects: of the whole set; made: how many rows this run embedded, in `seconds`.

    missing: numbers of chunks without a shard; committed: whether the set is whole and has its index; turned: how many images have an EXIF rotation
    that was not applied; why: the rejects in groups; root: the folder that keys are relative to; estimate: rows, chunks and bytes that were
    planned, None where that is unknown.
    """

    SHOWN: ClassVar[tuple[str, ...]] = ("out", "rows", "rejects", "chunks", "committed", "seconds", "images_per_second")
    out: str
    rows: int
    rejects: int
    chunks: int
    missing: tuple[int, ...]
    made: int
    seconds: float
    committed: bool
    turned: int = 0
    why: str = ""
    root: str = ""
    dry_run: bool = False
    estimate: Mapping[str, Any] | None = None

    @property
    def images_per_second(self) -> float:
        """Rows embedded per second of this run, including the start of TensorFlow and Beam."""
        return round(self.made / self.seconds, 1) if self.made else 0.0

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "images_per_second": self.images_per_second}

    def in_words(self) -> str:
        if self.dry_run:
            planned = self.estimate or {}
            gigabytes = f", about {planned['bytes'] / 1e9:.2f} GB to write" if "bytes" in planned else ""
            return f"{self.out}: {many(planned.get('rows', 0), 'rows')} in {many(self.chunks, 'chunks')}{gigabytes}. A dry run: nothing was embedded."
        rate = f", {self.made:,} of them now in {self.seconds:.0f} s ({self.images_per_second:,.0f}/s)" if self.made else ", all there already"
        if self.missing:
            return (
                f"{self.out}: {many(self.rows, 'rows')}{rate}. {len(self.missing)} of {many(self.chunks, 'chunks')} "
                f"{'is' if len(self.missing) == 1 else 'are'} missing, so there is no index yet."
            )
        rejects = f" and {many(self.rejects, 'rejects')} ({self.out}/shards/*.rejects.jsonl): {self.why}" if self.rejects else ", no rejects"
        turned = f" {many(self.turned, 'images carry')} an EXIF rotation that is not applied; --exif apply turns them, in another OUT." if self.turned else ""
        return f"{self.out}: {many(self.rows, 'rows')} in {many(self.chunks, 'shards')}{rate}{rejects}. Done.{turned}"


class Forecast(Protocol):
    """The measurement in a PlanResult: `pipelines.forecast.Forecast`."""

    @property
    def rows(self) -> int: ...
    @property
    def chunks(self) -> int: ...
    @property
    def gigabytes(self) -> float: ...
    @property
    def rejects(self) -> float: ...
    @property
    def rates(self) -> Any: ...
    def seconds(self, workers: int | None = None) -> float: ...
    def as_dict(self, workers: Sequence[int] = (), elsewhere: Any = None) -> dict[str, Any]: ...
    def in_words(self, workers: Sequence[int] = (), elsewhere: Any = None) -> str: ...


@dataclass(frozen=True, repr=False)
class PlanResult(Result):
    """How long a list will take and how many GB it will fill.

    asked: numbers of workers to report; machines: images a second of other machines, by the file with that figure.
    """

    SHOWN: ClassVar[tuple[str, ...]] = ("rows", "chunks", "gigabytes", "rejects", "engine", "workers", "seconds")
    forecast: Forecast
    asked: tuple[int, ...] = ()
    machines: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows of the list."""
        return self.forecast.rows

    @property
    def chunks(self) -> int:
        """Chunks of the list."""
        return self.forecast.chunks

    @property
    def gigabytes(self) -> float:
        """Size of the shards, in 10**9 bytes."""
        return self.forecast.gigabytes

    @property
    def rejects(self) -> float:
        """The share of the sampled images that cannot be embedded, 0 to 1."""
        return self.forecast.rejects

    @property
    def engine(self) -> str:
        """The faster engine on this machine: "local" or "processes"."""
        return self.forecast.rates.engine

    @property
    def workers(self) -> int:
        """Workers that were measured here."""
        return self.forecast.rates.workers

    @property
    def seconds(self) -> float:
        """Seconds of embedding here, with that engine and these workers."""
        return round(self.forecast.seconds(), 1)

    def as_dict(self) -> dict[str, Any]:
        return self.forecast.as_dict(self.asked, self.machines)

    def in_words(self) -> str:
        return self.forecast.in_words(self.asked, self.machines)


@dataclass(frozen=True, repr=False)
class ImportResult(Result):
    """A set of shards made of existing embeddings. made: rows that this call added; notes: on anything unusual in the files; rejected: why
    images were rejected; teacher: its fingerprint, or "unknown"; sample: rows embedded again; worst_cosine: the worst of them, None without a teacher."""

    SHOWN: ClassVar[tuple[str, ...]] = ("out", "rows", "rejects", "shards", "dimension", "classes", "teacher")
    out: str
    rows: int
    rejects: int
    shards: int
    dimension: int
    classes: int
    made: int
    notes: tuple[str, ...]
    rejected: str
    teacher: str
    sample: int
    worst_cosine: float | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def in_words(self) -> str:
        new = f", {self.made:,} of them imported now" if self.made < self.rows else ""
        rejects = f", {many(self.rejects, 'rejects')} ({self.out}/shards/*.rejects.jsonl): {self.rejected}" if self.rejects else ", no rejects"
        lines = [*(f"note: {note}" for note in self.notes)]
        lines.append(f"{self.out}: {many(self.rows, 'rows')} of {many(self.dimension, 'numbers')} in {many(self.shards, 'shards')}{new}{rejects}")
        if self.worst_cosine is None:
            lines.append("The embeddings could not be compared with their teacher, which the set therefore calls unknown: --teacher embeds a sample again.")
        else:
            lines.append(f"{many(self.sample, 'rows')} embedded again by the teacher: worst cosine {self.worst_cosine:.7f}")
        return "\n".join(lines)


@dataclass(frozen=True, repr=False)
class VerifyResult(Result):
    """Whether a set of shards is whole. problems: (chunk number, -1 for the index, -2 where images decode to other pixels here; what is wrong).

    sample: rows embedded again, and their worst and mean cosine to the stored embeddings; None without a teacher.
    failure: what is wrong with the set and the way out, "" for nothing.
    """

    SHOWN: ClassVar[tuple[str, ...]] = ("path", "ok", "rows", "rejects", "shards", "deep", "problems", "sample")
    path: str
    rows: int
    rejects: int
    shards: int
    deep: bool
    problems: tuple[tuple[int, str], ...]
    sample: Mapping[str, float] | None = None
    failure: str = ""

    @property
    def ok(self) -> bool:
        """Whether all checks passed."""
        return not self.failure

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}

    def in_words(self) -> str:
        how = "every hash and row" if self.deep else "counts, sizes and footers"
        lines = [f"chunk {number}: {problem}" if number >= 0 else problem for number, problem in self.problems]
        lines = lines or [f"{self.path}: {many(self.rows, 'rows')} and {many(self.rejects, 'rejects')} in {many(self.shards, 'shards')}: {how} are right"]
        if self.sample:
            worst, mean = self.sample["worst_cosine"], self.sample["mean_cosine"]
            lines.append(f"{self.sample['rows']} rows embedded again: worst cosine {worst:.7f}, mean {mean:.7f}")
        return "\n".join(lines)
