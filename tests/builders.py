"""What tests of several rooms make: rows and metadata, sets, photos, record files, and runs of the command line."""

import dataclasses
import hashlib
import json

import numpy as np

from distill.data.shards import Rows, ShardMeta, commit_shard, write_index
from distill.images.augmentation import Change, Recipe
from distill.images.codec import encode_jpeg
from distill.images.preprocessing import Preprocessing
from distill.images.spec import ImageSpec
from tests.conftest import inside
from tests.warm import begin

READING = {"signature": "serving_default", "output": "output", "scale": 1.0, "offset": 0.0, "color": "rgb"}


def meta(**changes) -> ShardMeta:
    base = ShardMeta(
        chunk=0,
        of=1,
        chunk_sha256="c" * 64,
        dimension=3,
        dtype="float16",
        teacher="t" * 64,
        reading=Preprocessing(**READING),
        image=ImageSpec(2, 2),
        software={"numpy": "2"},
    )
    return dataclasses.replace(base, **changes)


def rows(count: int, start: int = 0, dimension: int = 3, dtype="float16", inline: bool = True) -> Rows:
    numbers = range(start, start + count)
    blobs = [bytes([number % 251]) * (number % 7 + 1) for number in numbers]
    return Rows(
        keys=[f"id{number % 5}/ä {number}.jpg" for number in numbers],
        labels=np.array([number % 5 - 1 for number in numbers], np.int32),
        embeddings=np.array([[number % 10, number % 3, 1] + [0] * (dimension - 3) for number in numbers], dtype).reshape(count, dimension),
        images=blobs if inline else None,
        image_sha256=None if inline else [bytes([number % 256]) * 32 for number in numbers],
    )


def same(left: Rows, right: Rows) -> bool:
    return (
        left.keys == right.keys
        and np.array_equal(left.labels, right.labels)
        and left.embeddings.dtype == right.embeddings.dtype
        and np.array_equal(left.embeddings, right.embeddings)
        and left.images == right.images
        and left.image_sha256 == right.image_sha256
    )


def same_batches(left, right) -> bool:
    return len(left) == len(right) and all(
        np.array_equal(a, b) and x.keys() == y.keys() and all(np.array_equal(x[name], y[name]) for name in x)
        for (a, x), (b, y) in zip(left, right, strict=True)
    )


SIZE, IDENTITIES = 8, 20


LIGHT = Recipe(brightness=Change(1.0, -0.4, 0.4))


def picture(number: int) -> np.ndarray:
    """One colour that tells the row: a JPEG keeps it within 2 of 255."""
    return np.full((SIZE, SIZE, 3), (number % 16 * 16, number // 16 % 16 * 16, 128), np.uint8)


def shard_rows(start: int, count: int, inline: bool = True, views: int = 1) -> Rows:
    encoded = [encode_jpeg(picture(number)) for number in range(start, start + count)]
    return Rows(
        keys=[f"p{number % IDENTITIES}/{number}.jpg" for number in range(start, start + count)],
        labels=np.arange(start, start + count, dtype=np.int32) % IDENTITIES,
        embeddings=np.array([[[number, -number, 1 + view] for view in range(views)] for number in range(start, start + count)], np.float16).reshape(count, -1),
        images=encoded if inline else None,
        image_sha256=None if inline else [hashlib.sha256(data).digest() for data in encoded],
    )


def make_set(folder, sizes=(100, 50), format="parquet", labelled=True, inline=True, views=1, names=None):
    folder.mkdir(parents=True)
    records, start = [], 0
    for number, count in enumerate(sizes):
        rows = shard_rows(start, count, inline, views)
        if not labelled:
            rows = dataclasses.replace(rows, labels=np.full(count, -1, np.int32))
        about = meta(chunk=number, of=len(sizes), image=ImageSpec(SIZE, SIZE), images="inline" if inline else "path")
        if views > 1:
            about = dataclasses.replace(about, views=views, recipe=LIGHT, view_seed=5)
        records.append(commit_shard(folder, format, about, [rows], []))
        start += count
    write_index(folder, format, records, (names or [f"p{number}" for number in range(IDENTITIES)]) if labelled else [])
    return folder


ROWS = 25  # 120 pictures: five chunks, the last of 20


def embed(source, out, teacher, *words, through=inside):
    return through("embed", source, out, "--teacher", teacher, "--rows", ROWS, "--batch", 8, *words)


def contents(out):
    return {path.name: path.read_bytes() for path in sorted((out / "shards").iterdir()) if not path.name.startswith(".")}


def start(out, faces, teacher, *words):
    return begin("embed", faces, out, "--teacher", teacher, "--rows", ROWS, "--batch", 8, *words)


def inspected(out):
    return json.loads(inside("inspect", out, "--json").stdout)


@dataclasses.dataclass
class FirstColour:
    """A model: red, green and blue of a corner, less 100."""

    height: int | None = 8
    width: int | None = 8
    dimension: int = 3

    def __call__(self, images):
        return images[:, 4, 4].astype(np.float32) - 100
