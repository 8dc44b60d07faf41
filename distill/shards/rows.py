"""What one shard holds, whatever its format: rows in memory and the metadata beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from json import dumps
from typing import Any

import numpy as np

from distill import DistillError
from distill.files import parse_json
from distill.images import ImageSpec

FORMAT_VERSION = 1
EXACT = {"extra": "forbid", "allow_inf_nan": False}  # of what is read from JSON: nothing else, and numbers
Column = Any  # None where it was not asked for; what is in it stands in Rows
GROUP_ROWS = 1024  # one group reads in 0.6 to 3 ms and is what the pool of a source is made of


@dataclass(frozen=True)
class Rows:
    """Some rows of a shard, column by column; a column that was not asked for is None.

    keys: n strings; labels: int32 [n], -1 where there is none; embeddings: float16 or float32 [n, views * dimension];
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

    teacher: its fingerprint (sha256 over the model's files); reading: its signature, output, scale, offset and colour order;
    image: fields of ImageSpec; images: "inline" or "path"; mean_norm: mean L2 norm of the embeddings as stored, over finite rows.
    """

    chunk: int
    of: int
    chunk_sha256: str
    dimension: int
    dtype: str
    teacher: str
    reading: dict[str, Any]
    image: dict[str, Any]
    images: str = "inline"
    views: int = 1
    recipe: str = "none"
    software: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    mean_norm: float = 0.0
    version: int = FORMAT_VERSION

    __pydantic_config__ = EXACT

    def to_json(self) -> str:
        return dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str | bytes, path: Any) -> ShardMeta:
        try:
            version = parse_json(text).get("version")
            if version != FORMAT_VERSION:
                raise DistillError(f"{path} has format version {version}; this distill reads version {FORMAT_VERSION}. Use the distill that wrote it.")
            meta = parse_json(text, cls)
            if meta.chunk < 0:
                raise ValueError(f"chunk {meta.chunk}")
            meta.check()
        except ValueError as error:
            raise DistillError(f"{path} carries no readable metadata of a shard ({error}). Embed that chunk again.") from error
        return meta

    def check(self) -> None:
        """ValueError where it claims what cannot be."""
        sizes = (self.of, self.rows, self.dimension, self.views)
        if not all(0 <= size < 2**40 for size in sizes) or self.dtype not in ("float16", "float32") or self.images not in ("inline", "path"):
            raise ValueError(f"of, rows, dimension, views {sizes}, dtype {self.dtype!r}, images {self.images!r}")
        try:
            ImageSpec(**self.image)
        except (DistillError, TypeError) as error:
            raise ValueError(f"image {self.image}: {error}") from error

    @property
    def width(self) -> int:
        """Numbers in the embedding column of one row: views * dimension."""
        return self.views * self.dimension


def regrouped(parts: Iterable[Rows], size: int = GROUP_ROWS) -> Iterator[Rows]:
    """The same rows in the same order, `size` at a time (the last may be fewer), so that a shard's bytes do not depend on how rows arrived."""
    waiting: list[Rows] = []
    for part in parts:
        waiting.append(part)
        if sum(map(len, waiting)) >= size:
            whole = _joined(waiting)
            cut = len(whole) // size * size
            yield from (whole[start : start + size] for start in range(0, cut, size))
            waiting = [whole[cut:]]
    if sum(map(len, waiting)):
        yield _joined(waiting)


def _joined(parts: list[Rows]) -> Rows:
    def join(columns: tuple[Any, ...]) -> Any:
        if columns[0] is None:
            return None
        return np.concatenate(columns) if isinstance(columns[0], np.ndarray) else [value for column in columns for value in column]

    return Rows(*(join(columns) for columns in zip(*(part.columns for part in parts), strict=True)))


def mean_norm(total: float, rows: int) -> float:
    """Mean of norms summed in float64, rounded to 6 digits so that it is the same text everywhere."""
    return round(total / rows, 6) if rows else 0.0
