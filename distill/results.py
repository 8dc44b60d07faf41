"""What the verbs return: frozen values with types. Each says itself in words, as the command line prints it (`str` too), as JSON, and as a table in a notebook.

`as_dict()` is what `--json` prints. Nothing heavy is imported here: arrays are made by who made the result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from distill.runtime.lines import html_table, many

if TYPE_CHECKING:
    import numpy as np

MEMORISED = 0.15  # so much higher an agreement with the teacher on training rows than on held-out ones: the student knows its images by heart
LOW_AGREEMENT = 0.5  # with the teacher on held-out rows; 600 drawn faces gave 0.33 after 68 steps, 0.60 after 255, 0.67 after 500 and more
MOST_VERDICTS = 50  # pairs of photos that are listed one by one


class Result:
    """What all results have. SHOWN: the names of the fields and properties that `repr` and a notebook show."""

    SHOWN: ClassVar[tuple[str, ...]] = ()

    def as_dict(self) -> dict[str, Any]:
        """Returns plain values that JSON can hold, as `--json` prints them."""
        raise NotImplementedError

    def in_words(self) -> str:
        """Returns the lines that the command line prints."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.in_words()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={_short(getattr(self, name))}' for name in self.SHOWN)})"

    def _repr_html_(self) -> str:
        return html_table(("", type(self).__name__), [(name.replace("_", " "), _short(getattr(self, name))) for name in self.SHOWN])


@dataclass(frozen=True, repr=False)
class FacesResult(Result):
    """A folder of drawn identities. size: height and width of each picture in pixels."""

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
    """An image list as chunk files. skipped: how many names of the list are no rows, by reason; root: the folder that keys are relative to."""

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
    """What a run of embed has reached. rows and rejects are those of the whole set; made counts the rows that this run labelled, in `seconds`.

    missing: numbers of chunks without a shard; committed: whether the set is whole and has its index; turned: how many images have an EXIF rotation
    that was not applied; why: the rejects in groups; root: the folder that keys are relative to; estimate: rows, chunks and bytes that were
    planned, None where that was not told.
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
        """Rows labelled by this run, a second of it, the start of TensorFlow and Beam included."""
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
    """The measurement that a PlanResult tells of: `pipelines.forecast.Forecast`."""

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

    asked: numbers of workers that were asked about; machines: images a second of other machines, by the file that says them.
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
        """Chunks that it is cut into."""
        return self.forecast.chunks

    @property
    def gigabytes(self) -> float:
        """Size of the shards, in 10**9 bytes."""
        return self.forecast.gigabytes

    @property
    def rejects(self) -> float:
        """The fraction of the images looked at that cannot be labelled, 0 to 1."""
        return self.forecast.rejects

    @property
    def engine(self) -> str:
        """The faster engine of this machine: "local" or "processes"."""
        return self.forecast.rates.engine

    @property
    def workers(self) -> int:
        """Workers that were measured here."""
        return self.forecast.rates.workers

    @property
    def seconds(self) -> float:
        """Seconds of labelling here, with that engine and so many workers."""
        return round(self.forecast.seconds(), 1)

    def as_dict(self) -> dict[str, Any]:
        return self.forecast.as_dict(self.asked, self.machines)

    def in_words(self) -> str:
        return self.forecast.in_words(self.asked, self.machines)


@dataclass(frozen=True, repr=False)
class ImportResult(Result):
    """A set of shards of embeddings that were there already. made: rows of it that this call made; notes: what is odd about the files; rejected: why
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
        told = [*(f"note: {note}" for note in self.notes)]
        told.append(f"{self.out}: {many(self.rows, 'rows')} of {many(self.dimension, 'numbers')} in {many(self.shards, 'shards')}{new}{rejects}")
        if self.worst_cosine is None:
            told.append("The embeddings could not be held against their teacher, so the set says that it is unknown: --teacher embeds a sample again.")
        else:
            told.append(f"{many(self.sample, 'rows')} embedded again by the teacher: worst cosine {self.worst_cosine:.7f}")
        return "\n".join(told)


@dataclass(frozen=True, repr=False)
class VerifyResult(Result):
    """Whether a set of shards is whole. problems: (chunk number, -1 for the index, -2 where images become other pixels here; what is wrong).

    sample: rows labelled again, and their worst and mean cosine to what is stored; None where no teacher was given.
    failure: what is wrong with the set and the way out, "" where nothing is.
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
        """Whether everything that was looked at is right."""
        return not self.failure

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ok": self.ok}

    def in_words(self) -> str:
        how = "every hash and row" if self.deep else "counts, sizes and footers"
        told = [f"chunk {number}: {problem}" if number >= 0 else problem for number, problem in self.problems]
        told = told or [f"{self.path}: {many(self.rows, 'rows')} and {many(self.rejects, 'rejects')} in {many(self.shards, 'shards')}: {how} are right"]
        if self.sample:
            worst, mean = self.sample["worst_cosine"], self.sample["mean_cosine"]
            told.append(f"{self.sample['rows']} rows embedded again: worst cosine {worst:.7f}, mean {mean:.7f}")
        return "\n".join(told)


@dataclass(frozen=True, repr=False)
class TrainResult(Result):
    """A finished run. student: its .keras file; best: the student of the best epoch; history: a CSV file of one row an epoch; report: an HTML page.

    seconds: of training, earlier sittings included; last: the last row of the history; left_out: images that could not be read, by reason;
    best_epoch: of the last stage, that of `best`; None of a run of an earlier version.
    """

    SHOWN: ClassVar[tuple[str, ...]] = ("run", "parameters", "epochs", "steps", "seconds", "held_out", "student", "report")
    run: str
    student: str
    best: str
    history: str
    report: str
    parameters: int
    epochs: int
    steps: int
    seconds: float
    last: Mapping[str, float]
    left_out: Mapping[str, int] = field(default_factory=dict)
    best_epoch: int | None = None

    @property
    def held_out(self) -> dict[str, float]:
        """The figures of held-out rows after the last epoch; {} where none were held out. agreement: the mean cosine similarity to the teacher's
        embeddings; accuracy: the share of labels told right; loss, and its terms by their names ("cosine" is the cosine distance, 1 - agreement)."""
        return {name.removeprefix("held_out_"): value for name, value in self.last.items() if name.startswith("held_out_")}

    def as_dict(self) -> dict[str, Any]:
        found = asdict(self)
        return found if self.left_out else {name: value for name, value in found.items() if name != "left_out"}

    def in_words(self) -> str:
        found = self.held_out or self.last  # the terms of the loss are left to history.csv
        figures = {name: found[name] for name in ("agreement", "accuracy", "loss") if name in found}
        where = "on held-out rows" if self.held_out else "on its training rows"
        told = ", ".join(f"{'cosine distance' if name == 'cosine' else name} {value:.4g}" for name, value in figures.items())
        first = (
            f"{self.run}: {self.parameters:,} parameters, {many(self.epochs, 'epochs')}, {many(self.steps, 'steps')} in {self.seconds:.0f} s; {where}: {told}"
        )
        lines = [first, f"run file: {self.run}/run.toml", f"student: {self.student}", f"report: {self.report}"]
        if self.held_out and self.best_epoch not in (None, self.last.get("epoch")):
            lines.insert(3, f"lowest loss on held-out rows: after epoch {self.best_epoch}; that student is {self.best}, which every verb takes")
        if self.held_out.get("agreement", 1.0) < LOW_AGREEMENT:
            lines.append(f"low: an agreement of {self.held_out['agreement']:.2f} on held-out rows is far from the teacher. {self._way_out()}")
        return "\n".join(lines)

    def _way_out(self) -> str:
        """What helps against a low agreement: other images where the student knows its own, else more steps."""
        known = self.last.get("agreement", 0.0)
        if known - self.held_out["agreement"] > MEMORISED:
            return (
                f"On the images it was trained on it is {known:.2f}, so more steps will not help: more images will, "
                "or more views of these (distill embed SOURCE OUT --teacher TEACHER --views 8 --recipe face)."
            )
        return (
            f"Train longer in another run folder (these were {self.steps:,} steps; --steps {max(2000, 4 * self.steps)}, or more epochs in the run file), "
            "or embed more images or views."
        )


@dataclass(frozen=True, repr=False)
class Judged(Result):
    """What one model is worth: the figures of evaluation.json, under names.

    pairs, agreement: as in the file, None where they were not asked for or could not be had.
    """

    SHOWN: ClassVar[tuple[str, ...]] = ("path", "accuracy", "std", "tar", "threshold", "agreement")
    path: str
    figures: Mapping[str, Any]

    @property
    def accuracy(self) -> float | None:
        """The share of pairs told right, 0 to 1, the mean over folds; None without pairs."""
        return self._pairs("accuracy")

    @property
    def std(self) -> float | None:
        """The standard deviation of the accuracy over folds."""
        return self._pairs("std")

    @property
    def threshold(self) -> float | None:
        """The cosine from which on a pair is called the same person, for the best accuracy; a mean over folds."""
        return self._pairs("threshold")

    @property
    def tar(self) -> dict[float, float | None]:
        """True accept rate by false accept rate, {0.01: ..., 0.001: ...}; None where too few pairs can tell it."""
        return {float(far): point["tar"] for far, point in (self._pairs("tar") or {}).items()}

    @property
    def thresholds(self) -> dict[float, float | None]:
        """The cosine threshold of each false accept rate; None where it has no TAR."""
        return {float(far): point["threshold"] for far, point in (self._pairs("tar") or {}).items()}

    @property
    def agreement(self) -> float | None:
        """The mean cosine to the stored embeddings of a set; None without one."""
        return (self.figures.get("agreement") or {}).get("mean")

    @property
    def left_out(self) -> str:
        """Why there is no agreement though it was asked for, or ""."""
        return self.figures.get("agreement_left_out", "")

    def as_dict(self) -> dict[str, Any]:
        return dict(self.figures)

    def in_words(self) -> str:
        return EvaluateResult({"model": self}).in_words()

    def _pairs(self, name: str) -> Any:
        return (self.figures.get("pairs") or {}).get(name)


@dataclass(frozen=True, repr=False)
class EvaluateResult(Result):
    """Models on the same pairs and rows. judged: by who they are, "model" and, where one was given, "teacher"."""

    judged: Mapping[str, Judged]

    @property
    def model(self) -> Judged:
        """The model that was asked about."""
        return self.judged["model"]

    @property
    def teacher(self) -> Judged | None:
        """The teacher beside it, None where none was given."""
        return self.judged.get("teacher")

    def as_dict(self) -> dict[str, Any]:
        return {who: one.as_dict() for who, one in self.judged.items()}

    def in_words(self) -> str:
        head, rows = self._table()
        return "\n".join([text_table(head, rows), *(note for who, one in self.judged.items() for note in _notes(who, one))])

    def __repr__(self) -> str:
        return f"EvaluateResult({', '.join(f'{who}={one!r}' for who, one in self.judged.items())})"

    def _repr_html_(self) -> str:
        notes = "".join(f"<br>{escape(note)}" for who, one in self.judged.items() for note in _notes(who, one))
        return f"{html_table(*self._table())}<small>{notes.removeprefix('<br>')}</small>"

    def _table(self) -> tuple[list[str], list[list[str]]]:
        fars = list(dict.fromkeys(far for one in self.judged.values() for far in one.tar))
        head, rows = [""], [[who] for who in self.judged]
        if any(one.accuracy is not None for one in self.judged.values()):
            head += ["accuracy", *(f"TAR at FAR {_percent(far)}" for far in fars), "pairs"]
            for row, one in zip(rows, self.judged.values(), strict=True):
                row += _pair_cells(one, fars)
        if any(one.agreement is not None for one in self.judged.values()):
            head += ["agreement, mean", "5 % below", "rows"]
            for row, one in zip(rows, self.judged.values(), strict=True):
                found = one.figures.get("agreement")
                row += [f"{found['mean']:.4f}", f"{found['quantiles']['5']:.4f}", f"{found['rows']:,}"] if found else ["-"] * 3
        return head, rows


def _pair_cells(one: Judged, fars: Sequence[float]) -> list[str]:
    if one.accuracy is None:
        return ["-"] * (len(fars) + 2)
    tars = [f"{tar:.1%}" if (tar := one.tar.get(far)) is not None else "-" for far in fars]
    return [f"{one.accuracy:.2%} ± {one.std:.2%}", *tars, f"{one._pairs('genuine') + one._pairs('impostors'):,}"]


def _percent(far: float) -> str:
    """(0.001) -> "0.1 %"."""
    return f"{100 * far:.3g} %"


def _notes(who: str, one: Judged) -> list[str]:
    """What a figure was taken on, what cannot be told and why, and the thresholds, one line each."""
    told = []
    if pairs := one.figures.get("pairs"):
        shown, trained, folds = pairs["identities"], pairs["trained_identities"], pairs["folds"]
        known = f"whether it was trained on their {shown:,} identities is not known"
        if trained is not None:
            known = f"{trained:,} of their {shown:,} identities have the name of one that it was trained on"
        told.append(f"pairs: {known}; accuracy is a mean of {folds} folds")
        told += [f"no TAR at FAR {_percent(float(far))}: {point['left_out']}" for far, point in pairs["tar"].items() if point["tar"] is None]
        cuts = [f"{pairs['threshold']:.3f} for the best accuracy"]
        cuts += [f"{cut:.3f} for FAR {_percent(far)}" for far, cut in one.thresholds.items() if cut is not None]
        told.append(f"threshold on the cosine: {', '.join(cuts)}")
    if found := one.figures.get("agreement"):
        seen = {True: ", which it was trained on", False: "", None: "; whether it was trained on them is not known"}[found["trained_on"]]
        behind = ", behind the projection of its run" if found.get("projected") else ""
        told.append(f"agreement: the cosine to the stored embeddings over {many(found['rows'], 'rows')} ({found['part']}{seen}){behind}")
    if one.left_out:
        told.append(f"no agreement: {one.left_out}")
    return [f"{who}: {note}" for note in told]


@dataclass(frozen=True)
class Verdict:
    """Two photos: their cosine, and whether that reaches the threshold."""

    first: str
    second: str
    cosine: float
    same: bool


@dataclass(frozen=True, repr=False, eq=False)
class CompareResult(Result):
    """The cosines of all photos with all: float64 [N, N], symmetric, 1 on the diagonal.

    threshold: from which cosine on two photos are called the same person, None where none was given; turned: photos with an EXIF rotation that was
    not applied.
    """

    SHOWN: ClassVar[tuple[str, ...]] = ("images", "threshold", "verdicts")
    images: tuple[str, ...]
    cosines: np.ndarray
    threshold: float | None = None
    turned: tuple[str, ...] = ()

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """A verdict for each pair of photos; () without a threshold."""
        cut = self.threshold
        return () if cut is None else tuple(self._verdict(row, column, cut) for row, column in self._places())

    def _places(self) -> list[tuple[int, int]]:
        """Returns the pairs as places in the matrix, each pair once."""
        return [(row, column) for row in range(len(self.images)) for column in range(row + 1, len(self.images))]

    def _verdict(self, row: int, column: int, threshold: float) -> Verdict:
        cosine = float(self.cosines[row, column])
        return Verdict(self.images[row], self.images[column], cosine, cosine >= threshold)

    def as_dict(self) -> dict[str, Any]:
        found = {"images": list(self.images), "cosines": self.cosines.round(6).tolist()}
        return found if self.threshold is None else {**found, "threshold": self.threshold, "verdicts": [asdict(one) for one in self.verdicts]}

    def in_words(self) -> str:
        lines = [text_table(*self._table())]
        if self.threshold is None:
            return lines[0]
        verdicts = self.verdicts
        same = sum(one.same for one in verdicts)
        for (row, column), one in zip(self._places(), verdicts, strict=True):
            if one.same or len(verdicts) <= MOST_VERDICTS:
                lines.append(f"{row + 1} and {column + 1}: {'same' if one.same else 'different'} ({one.cosine:.3f})")
        lines.append(f"{same:,} of {len(verdicts):,} pairs reach the threshold of {self.threshold:g} (*): taken for the same person")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"CompareResult({len(self.images)} images, threshold={self.threshold}, {many(sum(one.same for one in self.verdicts), 'pairs')} the same)"

    def _repr_html_(self) -> str:
        return html_table(*self._table())

    def _table(self) -> tuple[list[str], list[list[str]]]:
        numbers = [str(number) for number in range(1, len(self.images) + 1)]
        rows = []
        for row, image in enumerate(self.images):
            cells = [f"{value:.3f}{self._mark(row, column, value)}" for column, value in enumerate(self.cosines[row].tolist())]
            rows.append([f"{numbers[row]} {image if len(image) <= 40 else f'...{image[-37:]}'}", *cells])
        return ["", *(f"{number} " * (self.threshold is not None) or number for number in numbers)], rows

    def _mark(self, row: int, column: int, cosine: float) -> str:
        """Returns what stands behind a cosine: * where two photos are called the same person."""
        return "" if self.threshold is None else "*" if row != column and cosine >= self.threshold else " "


@dataclass(frozen=True, repr=False)
class ExportResult(Result):
    """An export, loaded again and equal to its student. card: what its model card says, with the path and the bytes on disk."""

    SHOWN: ClassVar[tuple[str, ...]] = ("path", "format", "height", "width", "dimension", "parameters", "bytes")
    path: Path
    format: str
    height: int
    width: int
    dimension: int
    parameters: int
    bytes: int
    card_file: Path
    card: Mapping[str, Any]

    def as_dict(self) -> dict[str, Any]:
        return dict(self.card)

    def in_words(self) -> str:
        model = f"{self.height}x{self.width} to {self.dimension} numbers, {self.parameters:,} parameters, {self.bytes / 1e6:.1f} MB"
        return f"{self.path}: {self.format}, loaded again and equal to the student; {model}\nmodel card: {self.card_file}"


# ------------------------------------------------------------------------------------------------------------------------ tables


def text_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns lines of columns as wide as their widest cell, the first to the left and the others to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    lines = []
    for row in (head, *rows):
        first, *others = (cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(zip(row, widths, strict=True)))
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines)


def _short(value: Any) -> str:
    """Returns a value as a `repr` of one line shows it."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_short(one)}" for key, one in value.items()) + "}"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, tuple) and len(value) > 3:
        return f"({', '.join(map(_short, value[:3]))}, ... {len(value)} in all)"
    return str(value) if isinstance(value, Path) else repr(value)
