"""What one shard holds, whatever its format: rows in memory and the metadata beside them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from json import dumps
from typing import Annotated, Any

import numpy as np
from pydantic import BeforeValidator

from distill.data.layout import FORMAT_VERSIONS
from distill.errors import Damaged, DistillError
from distill.images.augmentation import RECIPES, Recipe
from distill.images.preprocessing import Preprocessing
from distill.images.spec import ImageSpec
from distill.storage.json_files import parse_json

DTYPES = {"float16": 2, "float32": 4, "int8": 1}  # bytes a number; int8 has one float32 more a row and view
UNKNOWN = "unknown"  # as `teacher` of a set that was imported without one
EXACT = {"extra": "forbid", "allow_inf_nan": False}  # of what is read from JSON: nothing else, and numbers
Column = Any  # None where it was not asked for; what is in it stands in Rows
NamedRecipe = Annotated[Recipe, BeforeValidator(lambda value: RECIPES.get(value, value) if isinstance(value, str) else value)]
MAX_VIEWS = 1000
GROUP_ROWS = 1024  # one group reads in 0.6 to 3 ms and is what the pool of a source is made of
GROUP_BYTES = 128 << 20  # of encoded images in a group of more than one row: 1,024 of ImageNet's 110 KB stay together, 8 groups fit into memory
NEW_READING = {"feed", "tags", "input"}  # keys of `reading` that versions 1 and 2 did not have; of `image` they had no `exif`


@dataclass(frozen=True)
class Rows:
    """Some rows of a shard, column by column; a column that was not asked for is None.

    keys: n strings; labels: int32 [n], -1 where there is none; embeddings: float16, or float32 where that or int8 is stored,
    [n, dimension] of each view that was asked for, side by side in order: [n, views * dimension] of them all;
    images: n encoded images, bytes or views into what was read, or None when the set was made with --images path; then image_sha256 holds n digests of 32 bytes.
    """

    keys: Column
    labels: Column
    embeddings: Column
    images: Column = None
    image_sha256: Column = None

    def __getitem__(self, part: slice) -> Rows:
        return Rows(*(None if column is None else column[part] for column in self.columns))

    @property
    def columns(self) -> tuple[Any, ...]:
        return (self.keys, self.labels, self.embeddings, self.images, self.image_sha256)

    def __len__(self) -> int:
        return next((len(column) for column in self.columns if column is not None), 0)


@dataclass(frozen=True)
class ShardMeta:
    """Metadata of a shard. No clock, host, engine or path: equal input gives equal bytes.

    teacher: its fingerprint (sha256 over the model's files), or UNKNOWN; reading: how it was handed the images,
    empty where that is unknown; image: what they had to be; images: "inline" or "path";
    views, recipe, view_seed: view n of a row is distill.images.views.view of these, its key
    and n; mean_norm: mean L2 norm of the embeddings as stored, over all rows and views; groups: rows of each row group, where images were so large
    that groups were cut by bytes, else empty; version: follows from the others.
    """

    chunk: int
    of: int
    chunk_sha256: str
    dimension: int
    dtype: str
    teacher: str
    reading: Preprocessing
    image: ImageSpec
    images: str = "inline"
    views: int = 1
    recipe: NamedRecipe = RECIPES["none"]
    view_seed: int = 0
    software: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    mean_norm: float = 0.0
    groups: tuple[int, ...] = ()
    version: int = 0

    __pydantic_config__ = EXACT

    def __post_init__(self) -> None:
        new = bool(self.groups) or self.image.exif is not None or bool(NEW_READING & self.reading.model_fields_set)
        object.__setattr__(self, "version", 3 if new else 2 if self.views > 1 or self.dtype == "int8" else 1)

    def fields(self) -> dict[str, Any]:
        """All fields as plain values."""
        return {**asdict(self), "reading": self.reading.model_dump(mode="json"), "image": self.image.as_dict()}

    def as_dict(self) -> dict[str, Any]:
        """For JSON; a set of one view is written as version 1 had it, and what a version did not have is left out."""
        values = self.fields()
        if self.views == 1:
            del values["view_seed"]
            values["recipe"] = "none"
        if not self.groups:
            del values["groups"]
        return values

    def to_json(self) -> str:
        return dumps(self.as_dict(), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes, path: Any) -> ShardMeta:
        try:
            version = parse_json(text).get("version")
            check_version(version, path)
            meta = parse_json(text, cls)
            if meta.chunk < 0 or meta.version != version:
                raise ValueError(f"chunk {meta.chunk}, version {version}")
            meta.check()
        except ValueError as error:
            raise damaged(path, f"its metadata cannot be those of a shard ({error})") from error
        return meta

    def check(self) -> None:
        """ValueError where it claims what cannot be."""
        sizes = (self.of, self.rows, self.dimension, self.views)
        if not all(0 <= size < 2**40 for size in sizes) or self.dtype not in DTYPES or self.images not in ("inline", "path"):
            raise ValueError(f"of, rows, dimension, views {sizes}, dtype {self.dtype!r}, images {self.images!r}")
        if self.groups and (sum(self.groups) != self.rows or not all(1 <= size <= GROUP_ROWS for size in self.groups)):
            raise ValueError(f"{len(self.groups):,} groups of {sum(self.groups):,} rows in all, the shard has {self.rows:,}")
        if not 1 <= self.views <= MAX_VIEWS or not 0 <= self.view_seed < 2**63:
            raise ValueError(f"views {self.views}, view_seed {self.view_seed}")

    def group_rows(self) -> list[int]:
        """Rows of each row group, in order."""
        return list(self.groups) or [min(GROUP_ROWS, self.rows - start) for start in range(0, self.rows, GROUP_ROWS)]

    def written(self, groups: list[int], norms: float) -> ShardMeta:
        """This of a shard that was written with groups of so many rows, and the sum of the L2 norms of its embeddings."""
        rows = sum(groups)
        done = replace(self, rows=rows, mean_norm=mean_norm(norms, rows * self.views), groups=())
        return done if groups == done.group_rows() else replace(done, groups=tuple(groups))

    def unwritten(self) -> ShardMeta:
        """Without what is known only when a shard is written: what tells whether a shard is of the same plan."""
        return replace(self, rows=0, mean_norm=0.0, groups=())

    @property
    def width(self) -> int:
        """Numbers in the embeddings of one row: views * dimension."""
        return self.views * self.dimension

    @property
    def embedding_bytes(self) -> int:
        """Of the embeddings of one row, as stored."""
        return self.width * DTYPES[self.dtype] + (4 * self.views if self.dtype == "int8" else 0)

    def embedding_columns(self) -> dict[str, tuple[str, int]]:
        """The columns of the embeddings, in order: {name: (dtype, numbers a row; 0 for one number that is no list)}."""
        columns = {}
        for number in range(self.views):
            columns[view_column(number)] = (self.dtype, self.dimension)
            if self.dtype == "int8":
                columns[view_column(number, "scale")] = ("float32", 0)
        return columns


def view_column(number: int, name: str = "embedding") -> str:
    """The column of a view: view 0 has the name that it has in a set without views.

    >>> [view_column(number) for number in range(3)]
    ['embedding', 'embedding_1', 'embedding_2']
    """
    return f"{name}_{number}" if number else name


def damaged(path: Any, reason: object) -> Damaged:
    """The error of a file of a chunk whose bytes are proven to be damaged. Nothing is said of deleting it: a shard may hold the only pictures."""
    found = re.search(r"(\d+)-of-\d+", str(path).replace("\\", "/").rpartition("/")[2])
    text = (str(reason).splitlines() or [type(reason).__name__])[0]
    return Damaged(
        f"{path} is damaged: {text}. Put a whole copy back, or make that chunk again from the images that are there: "
        f"distill embed ... --only {int(found[1]) if found else 'N'}"
    )


def check_version(version: Any, path: Any) -> None:
    if version not in FORMAT_VERSIONS:
        known = f"{', '.join(map(str, FORMAT_VERSIONS[:-1]))} and {FORMAT_VERSIONS[-1]}"
        raise DistillError(f"{path} has format version {version}; this distill reads versions {known}. Use the distill that wrote it.")


def stored(rows: Rows, meta: ShardMeta) -> tuple[dict[str, np.ndarray], float]:
    """The embedding columns of some rows as they are written, and the sum of the L2 norms of what a reader will get."""
    views = rows.embeddings.reshape(len(rows), meta.views, meta.dimension)
    columns: dict[str, np.ndarray] = {}
    for number in range(meta.views):
        values = np.ascontiguousarray(views[:, number])
        if meta.dtype == "int8":
            values, columns[view_column(number, "scale")] = quantise(values)
        columns[view_column(number)] = values
    read = restored(columns, meta)
    return columns, float(np.linalg.norm(read.reshape(-1, meta.dimension).astype(np.float64), axis=1).sum())


def restored(columns: dict[str, np.ndarray], meta: ShardMeta) -> np.ndarray:
    """Embedding columns as they were read -> floats as in Rows.embeddings. A view of which no column is there is left out."""
    parts = []
    for number in range(meta.views):
        values = columns.get(view_column(number))
        if values is None:
            continue
        parts.append(values * columns[view_column(number, "scale")][:, None] if meta.dtype == "int8" else values)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def read_columns(columns: Sequence[str] | None, meta: ShardMeta) -> list[str] | None:
    """The columns to read for those asked for: an int8 embedding is worth nothing without its scale."""
    if columns is None or meta.dtype != "int8":
        return None if columns is None else list(columns)
    return [*columns, *(name.replace("embedding", "scale") for name in columns if name.startswith("embedding"))]


def quantise(embeddings: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float [n, D] -> int8 [n, D] and the scale of each row, float32 [n], so that int8 * scale is the embedding within scale / 2.

    The largest number of a row becomes 127. A scale has 16 bits, so that int8 * scale is exact and quantises to the same numbers again:
    what was read can be written anew byte for byte. A row of numbers below 1e-30 becomes zeros.

    >>> quantise(np.array([[1.0, -0.5, 0.0]], np.float32))
    (array([[127, -63,   0]], dtype=int8), array([0.00787425], dtype=float32))
    """
    values = embeddings.astype(np.float32)
    exact = np.abs(values).max(axis=1, initial=0) / np.float32(127)
    scale = ((exact.view(np.uint32) + np.uint32(0xFF)) & np.uint32(0xFFFFFF00)).view(np.float32)  # up, to 16 bits
    scale = np.where(exact > 1e-30, scale, np.float32(0))
    parts = np.divide(values, scale[:, None], out=np.zeros_like(values), where=scale[:, None] > 0)
    return np.rint(parts).astype(np.int8), scale


def regrouped(parts: Iterable[Rows], size: int = GROUP_ROWS) -> Iterator[Rows]:
    """Yields the same rows in the same order, `size` at a time, or as many as have GROUP_BYTES of images at most, or one that has more.

    The last group may have fewer. So a shard's bytes do not depend on how rows arrived.
    """
    waiting: list[Rows] = []
    rows = held = 0
    for part in parts:
        start = 0
        for row, length in enumerate([0] * len(part) if part.images is None else map(len, part.images)):
            if rows == size or (rows and held + length > GROUP_BYTES):
                yield _joined([*waiting, part[start:row]])
                waiting, start, rows, held = [], row, 0, 0
            rows, held = rows + 1, held + length
        waiting.append(part[start:])
    if rows:
        yield _joined(waiting)


def _joined(parts: list[Rows]) -> Rows:
    def join(columns: tuple[Any, ...]) -> Any:
        if columns[0] is None:
            return None
        return np.concatenate(columns) if isinstance(columns[0], np.ndarray) else [value for column in columns for value in column]

    return Rows(*(join(columns) for columns in zip(*(part.columns for part in parts), strict=True)))


def mean_norm(total: float, number: int) -> float:
    """Mean of so many norms, summed in float64, rounded to 6 digits so that it is the same text everywhere."""
    return round(total / number, 6) if number else 0.0
