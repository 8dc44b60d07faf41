"""Writes the golden files of the present format version and layout: `make golden`. Files of an earlier one are never written again.

Six rows of two classes and one reject in two chunks, in each format; every value is a formula of the row and the view, so that the test can
say it. Version 1 had one view of each; version 2 is what sets with views, or stored as int8, are written as; in version 3 row groups were cut by
the bytes of their images: there two images went into one. These are of the plain layout; in `v3-underscore` the files beside the shards have names
with an underscore, and the shards are of versions 1 and 2.
"""

import hashlib
from pathlib import Path

import numpy as np

from distill.data.chunks import read_chunk, write_chunks
from distill.data.layout import UNDERSCORE
from distill.data.shards import FORMATS, Rows, ShardMeta, commit_shard, write_index
from distill.data.shards.rows import FORMAT_VERSIONS
from distill.images.augmentation import RECIPES
from distill.images.codec import encode_jpeg
from distill.images.preprocessing import Preprocessing
from distill.images.spec import ImageSpec

HERE = Path(__file__).parent / f"v{FORMAT_VERSIONS[-1]}-{UNDERSCORE.name}"
KEYS = [f"{name}/ö {number}.jpg" for name in ("anna", "bea") for number in range(3)] + ["bea/reject.jpg"]
LABELS = [0, 0, 0, 1, 1, 1, 1]
SETS = {  # dtype and views of each set, by version
    "v1": {"inline": ("float16", 1), "path": ("float32", 1)},
    "v2": {"inline": ("float16", 3), "path": ("float32", 2), "int8": ("int8", 2)},
    "v3": {"inline": ("float16", 1), "int8": ("int8", 2)},
    "v3-underscore": {"inline": ("float16", 1), "path": ("float32", 1), "int8": ("int8", 2)},
}


def image(row: int) -> np.ndarray:
    return np.full((8, 8, 3), 40 * row, np.uint8)


def embedding(row: int, view: int = 0) -> list[float]:
    return [row, -row / 2, 0.25, 1000.0 + row + 10 * view]


def main() -> None:
    HERE.mkdir(exist_ok=True)
    listed = HERE / "list.txt"
    listed.write_text("".join(f"{key}\t{('anna', 'bea')[label]}\n" for key, label in zip(KEYS, LABELS, strict=True)), encoding="utf-8")
    chunks = write_chunks(listed, HERE / "chunks", rows=4)
    for format in FORMATS:
        for name, (dtype, views) in SETS[HERE.name].items():
            images = "path" if name == "path" else "inline"
            folder = HERE / f"{format}-{name}"
            folder.mkdir(exist_ok=True)
            digests = [read_chunk(path).sha256 for path in chunks.chunks]
            records = [commit(folder, format, number, images, dtype, views, digest) for number, digest in enumerate(digests)]
            write_index(folder, format, records, chunks.classes)
    print(f"written: {HERE}")


def commit(folder: Path, format: str, number: int, images: str, dtype: str, views: int, digest: str):
    numbers = [row for row in range(number * 4, min(number * 4 + 4, 7)) if KEYS[row] != "bea/reject.jpg"]
    encoded = [encode_jpeg(image(row)) for row in numbers]
    meta = ShardMeta(
        chunk=number,
        of=2,
        chunk_sha256=digest,
        dimension=4,
        dtype=dtype,
        teacher="t" * 64,
        reading=Preprocessing(signature="serving_default"),
        image=ImageSpec(8, 8),
        images=images,
        software={"numpy": "2"},
        views=views,
        recipe=RECIPES["photo" if views > 1 else "none"],
        view_seed=7 if views > 1 else 0,
    )
    rows = Rows(
        [KEYS[row] for row in numbers],
        np.array([LABELS[row] for row in numbers], np.int32),
        np.array([[embedding(row, view) for view in range(views)] for row in numbers], "float32" if dtype == "int8" else dtype).reshape(len(numbers), -1),
        encoded if images == "inline" else None,
        [hashlib.sha256(data).digest() for data in encoded] if images == "path" else None,
    )
    rejects = [{"key": KEYS[6], "reason": "the file is empty", "sha256": None}] if number else []
    return commit_shard(folder, format, meta, [rows], rejects)


if __name__ == "__main__":
    main()
