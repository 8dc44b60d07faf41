"""Makes a set of embeddings that are there already: files that other programs wrote become shards, a chunk at a time, as `distill embed` commits them.

Lengths, types and order are checked before anything is written (`distill.data.arrays`), each image is read and decoded, and with a teacher a sample is
embedded again. Without one, the set says that its teacher is unknown. A run that ended early goes on: what is committed is not made again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from distill.data.archives.reader import read_bytes
from distill.data.arrays import Part, check_parts, read_parts, sha256_of
from distill.data.chunks import chunk_name, read_chunk, write_list
from distill.data.folders import check_apart, check_folder, make_folder
from distill.data.layout import UNDERSCORE
from distill.data.lists.image_list import MAX_CLASSES, Rule
from distill.data.shards import Record, Rows, ShardMeta, ShardSet, commit_shard, rows_there, write_index
from distill.data.shards.golden import SAME, cosine
from distill.data.shards.plan import Plan
from distill.data.shards.rows import UNKNOWN
from distill.errors import BadImage, DistillError, Reason, Unfinished
from distill.images.codec import decode, decode_batch
from distill.images.preprocessing import Preprocessing
from distill.images.reasons import reason_in_ledger
from distill.storage.files import is_there, sweep
from distill.storage.locks import only_process
from distill.storage.path import StoragePath, is_remote, place
from pipelines.job import Job
from pipelines.metadata import SOFTWARE
from pipelines.rejects import WAYS, grouped, in_words
from pipelines.reuse import find_finished
from teachers import Teacher

WINDOW = 256  # images read and decoded together
LOOKED = 64  # images of which the first that can be read gives the size, and that a teacher embeds again
ZERO = Reason("the teacher's embedding is all zeros", "answer")
_WAYS = {**WAYS, "answer": ("with stored embeddings that are not finite", "they are so in the files that were imported")}


@dataclass(frozen=True)
class Import:
    """What a person asked for. root: folder that paths are relative to; teacher: None where the set is to say that it is unknown; batch: images in
    one call of the teacher. The others as in `pipelines.job.Job`."""

    source: str
    out: str
    root: str
    teacher: Teacher | None = None
    strip_prefix: str = ""
    label_from: str = ""
    format: str = "parquet"
    dtype: str = "float16"
    images: str = "inline"
    resize: str = "none"
    exif: str = "ignore"
    size: tuple[int, int] | None = None
    rows: int = 100_000
    max_rejects: float = 0.01
    retry_rejects: bool = False

    def job(self) -> Job:
        """The Job of the same folders and options, which checks them; its teacher is not loaded where none was given."""
        names = (
            "source",
            "out",
            "root",
            "strip_prefix",
            "label_from",
            "format",
            "dtype",
            "images",
            "resize",
            "exif",
            "size",
            "rows",
            "max_rejects",
            "retry_rejects",
        )
        return Job(teacher=self.teacher or Teacher(UNKNOWN, "onnx"), **{name: getattr(self, name) for name in names})


@dataclass(frozen=True)
class Imported:
    """What was made. made: rows of it that this run made; sample: rows embedded again, worst_cosine: the worst of these, None without a teacher."""

    set: ShardSet
    made: int
    notes: tuple[str, ...]
    rejected: str
    sample: int
    worst_cosine: float | None


class _List:
    """The rows of some parts as an image list; see `distill.data.lists.image_list.ImageList`."""

    def __init__(self, root: StoragePath, keys: list[str], labels: np.ndarray | None, classes: list[str]) -> None:
        self.root, self.keys, self.labels, self.classes = root, keys, labels, classes
        self.rows, self.skipped = len(keys), dict[str, int]()

    def batches(self, rows: int) -> Iterator[tuple[list[str], np.ndarray | None]]:
        for start in range(0, len(self.keys), rows):
            yield self.keys[start : start + rows], None if self.labels is None else self.labels[start : start + rows]


def import_set(asked: Import, progress: Callable[[int, int], None] = lambda done, of: None) -> Imported:
    """Make, or finish, the set in OUT.

    Raises:
        DistillError: the files do not fit together, or OUT is no place to write in; nothing was changed.
        Unfinished: too many images are rejected, or the teacher gives other embeddings.
    """
    job = asked.job()
    if is_remote(asked.source):
        raise DistillError(f"{asked.source} is read from a local disk. Copy it here, and name the copy.")
    source = Path(asked.source)
    parts, notes = read_parts(source)
    check_parts(parts)
    listed = _listed(asked, parts)
    if not place(asked.root).is_dir():
        raise DistillError(f"{asked.root}: no such folder, so no image can be read. Name the folder that the paths are relative to: --root FOLDER.")
    check_apart(source, asked.out)
    check_apart(asked.root, asked.out)
    check_folder(asked.out, "set")
    meta = _meta(asked, parts, listed.keys)
    looked, worst = _embedded_again(asked, meta, parts, listed.keys) if asked.teacher else (0, None)
    make_folder(job.folder, ".launcher", "shards", "chunks")
    with only_process(job.folder, "launcher"):
        for folder in (job.folder, job.chunks, job.shards):
            folder.mkdir(exist_ok=True)
            sweep(folder)
        plan = _agreed(asked, meta, listed, sha256_of(parts))
        made, records = 0, list[Record]()
        for number in range(len(plan.chunks)):
            record = find_finished(job, plan.format, plan.chunk_meta(number), plan.names)
            if record is None:
                record = _commit(job, plan, number, parts)
                made += record.rows
            records.append(record)
            progress(min((number + 1) * asked.rows, plan.rows), plan.rows)
        why, rejects = _why(job, records), sum(record.rejects for record in records)
        if rejects > asked.max_rejects * plan.rows:
            raise Unfinished(
                f"{rejects:,} of {plan.rows:,} images were rejected, --max-rejects allows a fraction of {asked.max_rejects}: {why}. The set is not committed. "
                "Mend the images and run again with --retry-rejects, or run again with a larger --max-rejects."
            )
        done = write_index(job.shards, plan.format, records, listed.classes, lambda key: read_bytes(asked.root, key), plan.names)
    return Imported(done, made, tuple(notes), why, looked, worst)


# ------------------------------------------------------------------------------------------------------------------------------ rows


def _listed(asked: Import, parts: Sequence[Part]) -> _List:
    """The rows of all parts. DistillError where a path is none below the root, or stands twice."""
    keys, seen = list[str](), dict[str, str]()
    for part in parts:
        for row, path in enumerate(part.paths):
            where = f"row {row} of {part.name}"
            key = _key(path, asked.strip_prefix, where)
            if key in seen:
                raise DistillError(f"{where}: {path!r} is also {seen[key]}. Expected each image once.")
            seen[key] = where
            keys.append(key)
    if not keys:
        raise DistillError(f"{asked.source} has no rows, so there is nothing to import.")
    numbers = None if parts[0].classes is None else np.concatenate([part.classes for part in parts])  # type: ignore[misc]
    if asked.label_from:
        if numbers is not None:
            raise DistillError(f"{asked.source} has classes of its own, so --label-from would change them. Leave it out.")
        Rule(label_from=asked.label_from)
        bare = next((key for key in keys if "/" not in key), None)
        if bare is not None:
            raise DistillError(f"{asked.source}: {bare!r} lies in no folder, so --label-from folder gives it no class. Leave --label-from out.")
        names = [key.split("/")[-2] for key in keys]
        table = sorted(set(names), key=str.encode)
        numbered = {name: number for number, name in enumerate(table)}
        return _List(place(asked.root), keys, np.array([numbered[name] for name in names], np.int32), table)
    if numbers is None:
        return _List(place(asked.root), keys, None, [])
    if numbers.max() >= MAX_CLASSES:
        raise DistillError(f"{asked.source}: class {numbers.max():,}; expected numbers below {MAX_CLASSES:,}.")
    return _List(place(asked.root), keys, numbers.astype(np.int32), [str(number) for number in range(int(numbers.max()) + 1)])


def _key(path: str, prefix: str, where: str) -> str:
    key = path.replace("\\", "/")
    if prefix:
        if not key.startswith(prefix):
            raise DistillError(f"{where}: {path!r} does not begin with --strip-prefix {prefix}. Name a beginning that all paths have.")
        key = key.removeprefix(prefix).lstrip("/")
    if key.startswith("/") or key[1:3] == ":/":
        raise DistillError(f"{where}: {path!r} is an absolute path. Take its beginning off with --strip-prefix, and name that folder with --root.")
    key = "/".join(part for part in key.split("/") if part not in ("", "."))  # a//b and ./a/b are the image a/b
    if not key or ".." in key.split("/") or any(ord(letter) < 32 or ord(letter) == 127 or 0xD800 <= ord(letter) < 0xE000 for letter in key):
        raise DistillError(f"{where}: {path!r} is no path below a folder. Expected names without control characters and without '..'.")
    return key


def _embeddings(parts: Sequence[Part], rows: Sequence[int]) -> np.ndarray:
    """The embeddings of some rows, counted over all parts; float32 [n, D], or float64 as they are there."""
    ends = list(accumulate(len(part.paths) for part in parts))
    found = []
    for row in rows:
        number = int(np.searchsorted(ends, row, side="right"))
        found.append(np.asarray(parts[number].embeddings[row - (ends[number - 1] if number else 0)]))
    return np.stack(found)


# ----------------------------------------------------------------------------------------------------------------- what the set is


def _meta(asked: Import, parts: Sequence[Part], keys: Sequence[str]) -> ShardMeta:
    loaded, model = (asked.teacher.load(), asked.teacher.path) if asked.teacher else (None, "")
    dimension = parts[0].embeddings.shape[1]
    if loaded is not None and loaded.dimension != dimension:
        raise DistillError(f"{asked.source} has embeddings of {dimension:,} numbers, {model} gives {loaded.dimension:,}. Name the teacher that made them.")
    size = (loaded.height, loaded.width) if loaded is not None and loaded.height and loaded.width else asked.size
    if asked.size and size and size != asked.size:
        raise DistillError(f"--size {asked.size[0]}x{asked.size[1]}: {model} takes {size[0]}x{size[1]} and nothing else. Leave --size out.")
    height, width = size or _first_size(asked, keys)
    return ShardMeta(
        chunk=-1,
        of=0,
        chunk_sha256="",
        dimension=dimension,
        dtype=asked.dtype,
        teacher=asked.teacher.fingerprint() if asked.teacher else UNKNOWN,
        reading=loaded.preprocessing if loaded else Preprocessing(),
        image=asked.job().image_spec(height, width),
        images=asked.images,
        software={name: version(name) for name in SOFTWARE},
    )


def _first_size(asked: Import, keys: Sequence[str]) -> tuple[int, int]:
    """Height and width of the first image that can be read."""
    reason = ""
    for key in keys[:LOOKED]:
        try:
            height, width, _ = decode(read_bytes(asked.root, key)).shape
            return height, width
        except BadImage as error:
            reason = reason or f"{key!r}: {error}"
    raise DistillError(
        f"{asked.root}: none of the first {min(LOOKED, len(keys))} images can be read, {reason}. Name the folder that the paths are relative to with --root, "
        "and what they begin with beside it with --strip-prefix."
    )


def _embedded_again(asked: Import, meta: ShardMeta, parts: Sequence[Part], keys: Sequence[str]) -> tuple[int, float]:
    """How many rows the teacher embedded again, and the worst cosine. Unfinished where it gives another embedding."""
    loaded, spec, worst = asked.teacher.load(), meta.image, (1.0, "")  # type: ignore[union-attr]
    number = 0
    for row in np.linspace(0, len(keys) - 1, min(LOOKED, len(keys))).astype(int).tolist():
        try:
            pixels = decode(read_bytes(asked.root, keys[row]), spec)
        except BadImage:
            continue
        given = _embeddings(parts, [row])[0].astype(np.float64)
        if np.isfinite(given).all():
            number += 1
            worst = min(worst, (cosine(given, np.asarray(loaded(pixels[None]), np.float64)[0]), keys[row]))
    if number == 0:
        raise DistillError(
            f"{asked.root}: none of the {min(LOOKED, len(keys))} rows looked at has an image that can be read and a finite embedding, so the teacher "
            f"cannot be held against {asked.source}."
        )
    if worst[0] < SAME:
        raise DistillError(
            f"{asked.teacher.path} gives {worst[1]!r} another embedding than {asked.source} has: cosine {worst[0]:.4f}, expected {SAME} or more. "  # type: ignore[union-attr]
            "The teacher, its preprocessing (--scale, --offset, --color, --preset) or the order of the rows is another. Nothing was written."
        )
    return number, worst[0]


def _agreed(asked: Import, meta: ShardMeta, listed: _List, embeddings: str) -> Plan:
    """The plan of OUT: written now, or the one that is there if it says the same. embeddings: their sha256; the chunks hold only that of the paths."""
    job = asked.job()
    cut = write_list(listed, job.chunks, asked.rows)
    chunks = tuple(read_chunk(path).sha256 for path in cut.chunks)
    path = job.folder / "plan.json"
    wanted = Plan(
        source=str(Path(asked.source).resolve()),
        source_sha256=embeddings,
        chunk_rows=asked.rows,
        chunks=chunks,
        rows=cut.rows,
        classes=len(cut.classes),
        meta=meta,
        format=asked.format,
        batch=0,
        skipped={},
        rule=Rule(strip_prefix=asked.strip_prefix, label_from=asked.label_from),
        layout=UNDERSCORE.name,
    )
    if not is_there(path):
        wanted.save(path)
        return wanted
    there = Plan.load(path)
    if replace(there, source=wanted.source) != wanted:
        old, new = ({**asdict(plan), **plan.meta.fields()} for plan in (there, wanted))
        names = [name for name in old if name not in ("meta", "source") and old[name] != new[name]]
        called = {"source_sha256": "sha256 of the embeddings"}
        said = "; ".join(f"{called.get(name, name)}: {str(old[name])[:80]} there, {str(new[name])[:80]} asked for" for name in names)
        raise DistillError(f"{path} says otherwise: {said}. One folder holds one data set: use another OUT, or ask for the same.")
    return there


# -------------------------------------------------------------------------------------------------------------------------- chunks


def _commit(job: Job, plan: Plan, number: int, parts: Sequence[Part]) -> Record:
    chunk = read_chunk(job.chunks / chunk_name(number, len(plan.chunks)))
    rejects: list[dict[str, Any]] = []
    meta = plan.chunk_meta(number)
    least = rows_there(job.shards, plan.format, meta, len(chunk.keys), plan.names)
    rows = _rows(job, meta, chunk.keys, chunk.labels, number * plan.chunk_rows, parts, rejects)
    return commit_shard(job.shards, plan.format, meta, rows, rejects, least=least, layout=plan.names)


def _rows(job: Job, meta: ShardMeta, keys: list[str], labels: np.ndarray, first: int, parts: Sequence[Part], rejects: list[dict[str, Any]]) -> Iterator[Rows]:
    """The rows of a chunk, WINDOW at a time. first: number of its first row over all parts."""
    spec, dtype = meta.image, "float32" if meta.dtype == "int8" else meta.dtype
    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(keys), WINDOW):
            part = keys[start : start + WINDOW]
            read = list(pool.map(lambda key: _read(job.root, key), part))
            _, bad = decode_batch([data for data, _ in read], spec, pool)
            bad |= {row: reason for row, (_, reason) in enumerate(read) if reason}
            given = _embeddings(parts, range(first + start, first + start + len(part)))
            with np.errstate(over="ignore"):
                stored = given.astype(dtype)
            for row, reason in _odd(given, stored, dtype):
                bad.setdefault(row, reason)
            for row in sorted(bad):
                data = read[row][0]
                rejects.append({"key": part[row], "reason": bad[row], "sha256": hashlib.sha256(data).hexdigest() if data else None})
            good = [row for row in range(len(part)) if row not in bad]
            inline = meta.images == "inline"
            yield Rows(
                [part[row] for row in good],
                labels[start : start + WINDOW][good],
                stored[good],
                [read[row][0] for row in good] if inline else None,
                None if inline else [hashlib.sha256(read[row][0]).digest() for row in good],
            )


def _odd(given: np.ndarray, stored: np.ndarray, dtype: str) -> Iterator[tuple[int, Reason]]:
    for row in range(len(given)):
        if not np.isfinite(given[row]).all():
            yield row, Reason("the teacher's embedding is not finite", "answer")
        elif not given[row].any():
            yield row, ZERO
        elif not np.isfinite(stored[row]).all():
            yield row, Reason(f"the embedding does not fit into {dtype} (largest value {np.abs(given[row]).max():.6g})", "range")


def _read(root: str, key: str) -> tuple[bytes, Reason | None]:
    try:
        return read_bytes(root, key), None
    except BadImage as error:
        return b"", error.reason


def _why(job: Job, records: Sequence[Record]) -> str:
    from distill.data.shards import read_ledger

    rejected = [(reject.key, reject.reason) for record in records if record.rejects for reject in read_ledger(job.shards / record.ledger)]
    zeros = Counter(reason == ZERO for _, reason in rejected)[True]
    groups = in_words(grouped((key, reason_in_ledger(reason)) for key, reason in rejected if reason != ZERO), _WAYS)
    return "; ".join([*([f"{zeros:,} with embeddings of zeros"] if zeros else []), *([groups] if groups else [])])
