"""What a set of stored embeddings is: its metadata, checked against images and, where one is named, against the teacher."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from itertools import accumulate
from pathlib import Path

import numpy as np

from distill.data.archives.reader import read_bytes
from distill.data.arrays import Part
from distill.data.chunks import read_chunk, write_list
from distill.data.layout import UNDERSCORE
from distill.data.lists.image_list import MAX_CLASSES, Rule
from distill.data.shards import ShardMeta
from distill.data.shards.golden import SAME, cosine
from distill.data.shards.plan import Plan
from distill.data.shards.rows import UNKNOWN
from distill.errors import BadImage, DistillError, Reason
from distill.images.codec import decode
from distill.images.preprocessing import Preprocessing
from distill.storage.files import is_there
from distill.storage.path import StoragePath, as_path
from pipelines.job import Job
from pipelines.metadata import SOFTWARE
from teachers import Teacher

ZERO = Reason("the teacher's embedding is all zeros", "answer")
LOOKED = 64  # images of which the first that can be read gives the size, and that a teacher embeds again


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


class ListedRows:
    """The rows of some parts as an image list; see `distill.data.lists.image_list.ImageList`."""

    def __init__(self, root: StoragePath, keys: list[str], labels: np.ndarray | None, classes: list[str]) -> None:
        self.root, self.keys, self.labels, self.classes = root, keys, labels, classes
        self.rows, self.skipped = len(keys), dict[str, int]()

    def batches(self, rows: int) -> Iterator[tuple[list[str], np.ndarray | None]]:
        for start in range(0, len(self.keys), rows):
            yield self.keys[start : start + rows], None if self.labels is None else self.labels[start : start + rows]


def list_rows(asked: Import, parts: Sequence[Part]) -> ListedRows:
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
        return ListedRows(as_path(asked.root), keys, np.array([numbered[name] for name in names], np.int32), table)
    if numbers is None:
        return ListedRows(as_path(asked.root), keys, None, [])
    if numbers.max() >= MAX_CLASSES:
        raise DistillError(f"{asked.source}: class {numbers.max():,}; expected numbers below {MAX_CLASSES:,}.")
    return ListedRows(as_path(asked.root), keys, numbers.astype(np.int32), [str(number) for number in range(int(numbers.max()) + 1)])


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


def embeddings_of(parts: Sequence[Part], rows: Sequence[int]) -> np.ndarray:
    """The embeddings of some rows, counted over all parts; float32 [n, D], or float64 as they are there."""
    ends = list(accumulate(len(part.paths) for part in parts))
    found = []
    for row in rows:
        number = int(np.searchsorted(ends, row, side="right"))
        found.append(np.asarray(parts[number].embeddings[row - (ends[number - 1] if number else 0)]))
    return np.stack(found)


def meta_of_import(asked: Import, parts: Sequence[Part], keys: Sequence[str]) -> ShardMeta:
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


def embed_again(asked: Import, meta: ShardMeta, parts: Sequence[Part], keys: Sequence[str]) -> tuple[int, float]:
    """How many rows the teacher embedded again, and the worst cosine. Unfinished where it gives another embedding."""
    loaded, spec, worst = asked.teacher.load(), meta.image, (1.0, "")  # type: ignore[union-attr]
    number = 0
    for row in np.linspace(0, len(keys) - 1, min(LOOKED, len(keys))).astype(int).tolist():
        try:
            pixels = decode(read_bytes(asked.root, keys[row]), spec)
        except BadImage:
            continue
        given = embeddings_of(parts, [row])[0].astype(np.float64)
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


def resolve_import_plan(asked: Import, meta: ShardMeta, listed: ListedRows, embeddings: str) -> Plan:
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
