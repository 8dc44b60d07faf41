"""What must stay as it is while the house is rebuilt, as digests and files: `python -m tests.golden.pin` writes tests/golden/pinned.json anew.

Written only when a version changes one of these on purpose, with its reason in CHANGELOG.md. What is random here is drawn from SHA-256, so that
no version of numpy or Python changes it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from distill.config.data import Holdout
from distill.config.files import dump_run, load_run
from distill.data import chunks
from distill.data.layout import LAYOUTS, shard_name
from distill.data.lists import listing
from distill.data.shards import FORMATS, Record, Rows, ShardMeta, commit_shard, write_index
from distill.data.sources import ImageSource, NoiseSource, ShardSource
from distill.images.augmentation import RECIPES, Change, Recipe
from distill.images.codec import encode_jpeg
from distill.images.preprocessing import Preprocessing
from distill.images.spec import ImageSpec
from distill.storage.json_files import json_text
from teachers import model_json

HERE = Path(__file__).parent
PINNED = HERE / "pinned.json"
VALUES, PARTS = 10_000, 10
EPOCHS = 3
SETS = {"plain": 1, "views": 3}
LIGHT = Recipe(flip=0.5, brightness=Change(1.0, -0.4, 0.4))


class Draw:
    """Numbers and texts out of SHA-256 of a name and a counter: equal everywhere and for ever."""

    def __init__(self, name: str) -> None:
        self.name, self.drawn = name, 0

    def number(self, below: int) -> int:
        self.drawn += 1
        return int.from_bytes(hashlib.sha256(f"{self.name} {self.drawn}".encode()).digest()[:8], "big") % below

    def one(self, of: Sequence[Any]) -> Any:
        return of[self.number(len(of))]

    def digest(self) -> str:
        self.drawn += 1
        return hashlib.sha256(f"{self.name} {self.drawn}".encode()).hexdigest()

    def text(self) -> str:
        return "".join(self.one("aöß/ .\"\\'\t€😀z0-") for _ in range(self.number(12)))


def metas() -> Iterator[ShardMeta]:
    """Metadata of every published version: plain ones, views and int8, row groups cut by bytes, and what a reading came to have later."""
    draw = Draw("meta")
    for _ in range(VALUES):
        views = draw.one((1, 1, 2, 8))
        sizes = [1 + draw.number(1024) for _ in range(draw.one((0, 0, 3)))]
        image = {"height": 1 + draw.number(300), "width": 1 + draw.number(300), "resize": draw.one(("none", "crop", "stretch"))}
        reading = {"signature": draw.text(), "output": draw.one((None, "embedding")), "scale": draw.number(1000) / 127.5, "offset": -draw.number(9) / 3}
        reading["color"] = draw.one(("rgb", "bgr"))
        if draw.number(3) == 0:
            image["exif"] = draw.one(("ignore", "apply"))
        if draw.number(3) == 0:
            reading["tags"] = ["serve", draw.text()]
        if draw.number(3) == 0:
            reading["feed"] = {"training": False, "keep": draw.number(10) / 7}
        yield ShardMeta(
            chunk=draw.number(59),
            of=59,
            chunk_sha256=draw.digest(),
            dimension=1 + draw.number(1024),
            dtype=draw.one(("float16", "float32", "int8")),
            teacher=draw.digest(),
            reading=Preprocessing(**reading),
            image=ImageSpec(**image),
            images=draw.one(("inline", "path")),
            views=views,
            recipe=draw.one((RECIPES["photo"], RECIPES["face"], LIGHT)) if views > 1 else RECIPES["none"],
            view_seed=draw.number(2**40) if views > 1 else 0,
            software={"numpy": f"2.{draw.number(9)}", "opencv": draw.text()},
            rows=sum(sizes) or draw.number(100_000),
            mean_norm=draw.number(10**9) / 7e6,
            groups=tuple(sizes),
        )


def records() -> Iterator[Record]:
    """Records of both layouts and both formats."""
    draw = Draw("record")
    for _ in range(VALUES):
        of = 1 + draw.number(120_000)
        number, layout = draw.number(of), draw.one([LAYOUTS[name] for name in sorted(LAYOUTS)])
        yield Record(
            number=number,
            of=of,
            chunk_sha256=draw.digest(),
            rows=draw.number(100_001),
            rejects=draw.number(1000),
            labelled=draw.number(100_001),
            mean_norm=draw.number(10**9) / 3e7,
            shard=f"{shard_name(number, of)}.{draw.one(('parquet', 'h5'))}",
            shard_bytes=draw.number(2**40),
            shard_sha256=draw.digest(),
            ledger=layout.ledger(number, of),
            ledger_bytes=draw.number(2**30),
            ledger_sha256=draw.digest(),
        )


def rejects() -> list[dict[str, Any]]:
    draw = Draw("reject")
    return [{"key": draw.text(), "reason": draw.text(), "sha256": draw.one((None, draw.digest()))} for _ in range(VALUES)]


def digests(texts: Iterator[bytes]) -> list[str]:
    """Of each thousand."""
    all_texts = list(texts)
    size = len(all_texts) // PARTS
    return [hashlib.sha256(b"\n".join(all_texts[start : start + size])).hexdigest() for start in range(0, len(all_texts), size)]


def reject_log(folder: Path) -> bytes:
    """The file that a chunk of one row and all these rejects leaves."""
    meta = next(metas())
    folder.mkdir()
    plain = replace(meta, dimension=2, dtype="float32", views=1, groups=(), rows=0, images="inline", recipe=RECIPES["none"], view_seed=0)
    rows = Rows(["a"], np.array([0], np.int32), np.ones((1, 2), np.float32), [b"x"], None)
    record = commit_shard(folder, "parquet", plain, [rows], rejects())
    return (folder / record.ledger).read_bytes()


# ------------------------------------------------------------------------------------------------------------------- batches


def make_set(folder: Path, format: str, views: int, sizes: Sequence[int] = (1200, 300)) -> Path:
    """Rows in two shards: embedding (number, -number, 1 + view), one colour a row, 30 classes."""
    folder.mkdir(parents=True)
    records_, start = [], 0
    for number, count in enumerate(sizes):
        numbers = range(start, start + count)
        meta = ShardMeta(
            chunk=number,
            of=2,
            chunk_sha256="c" * 64,
            dimension=3,
            dtype="float32",
            teacher="t" * 64,
            reading=Preprocessing(signature="serving_default"),
            image=ImageSpec(8, 8),
            images="inline",
            software={},
            views=views,
            recipe=LIGHT if views > 1 else RECIPES["none"],
            view_seed=5 if views > 1 else 0,
        )
        rows = Rows(
            [f"p{one % 30}/{one}.jpg" for one in numbers],
            np.array(numbers, np.int32) % 30,
            np.array([[[one, -one, 1 + view] for view in range(views)] for one in numbers], np.float32).reshape(count, -1),
            [encode_jpeg(picture(one)) for one in numbers],
            None,
        )
        records_.append(commit_shard(folder, format, meta, [rows], []))
        start += count
    write_index(folder, format, records_, [f"p{name}" for name in range(30)])
    return folder


def picture(number: int) -> np.ndarray:
    return np.full((8, 8, 3), (number % 16 * 16, number // 16 % 16 * 16, 128), np.uint8)


def make_photos(folder: Path) -> Path:
    for number in range(300):
        path = folder / f"p{number % 30:02d}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(picture(number)))
    return folder


def teacher(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)[:, :3].astype(np.float32)


def sources(root: Path) -> Iterator[tuple[str, Any]]:
    """(what it is called, source) for each source in each mode of views, each part and each way of augmenting."""
    holdouts = {"all": None, "train": Holdout(by="identity", fraction=0.2), "held_out": Holdout(by="key", fraction=0.1)}
    for name, views in SETS.items():
        for format in sorted(FORMATS):
            folder = make_set(root / f"{name}-{format}", format, views)
            for mode in ("one", "all", "plain"):
                for part, holdout in holdouts.items():
                    yield f"shards {name} views={mode} {part}", ShardSource(folder, batch=64, seed=3, part=part, holdout=holdout, views=mode)
            yield f"shards {name} augmented", ShardSource(folder, batch=64, seed=3, views="plain", augment=LIGHT)
    many = make_set(root / "many", "parquet", 1, (9000, 2500))  # more row groups than the pool holds
    yield "shards of many groups", ShardSource(many, batch=500, seed=3)
    photos = make_photos(root / "photos")
    for part, holdout in holdouts.items():
        yield f"images {part}", ImageSource(photos, size=(8, 8), batch=64, seed=3, part=part, holdout=holdout)
    yield "images augmented", ImageSource(photos, size=(8, 8), batch=64, seed=3, augment=LIGHT)
    yield "noise", NoiseSource(teacher, size=(8, 8), batch=64, seed=3, steps=5)


def batches(source: Any) -> str:
    """A digest of three epochs, and of one that is entered in its middle."""
    digest = hashlib.sha256()
    for epoch, start in ((0, 0), (1, 0), (2, 0), (1, 2)):
        for images, values in source.epoch(epoch, start):
            for name, column in (("images", images), *sorted(values.items())):
                column = np.ascontiguousarray(column)
                digest.update(f"{name} {column.dtype.str} {column.shape}".encode() + column.tobytes())
    return digest.hexdigest()


def run_texts() -> dict[str, str]:
    """Each run file that is public, as a run writes it into its folder."""
    folder = Path(__file__).parents[2] / "distill" / "examples"
    return {path.stem: dump_run(load_run(path)) for path in sorted(folder.glob("*.toml"))}


def found(root: Path) -> dict[str, Any]:
    """Everything that is pinned, as this version has it."""
    made = dict[str, str]()
    for name, source in sources(root):
        digest = batches(source)
        assert made.setdefault(name, digest) == digest, f"{name}: the formats differ"
    return {
        "formats": {"chunk": chunks.FORMAT, "listing": listing.FORMAT, "model.json": model_json.FORMAT},
        "metadata": digests(meta.to_json().encode() for meta in metas()),
        "records": digests(json_text(asdict(record)) for record in records()),
        "reject log": hashlib.sha256(reject_log(root / "log")).hexdigest(),
        "batches": made,
        "runs": run_texts(),
    }


# ------------------------------------------------------------------------------------------------------------------- a run that was stopped

RUN = HERE / "run"
RUN_FILE = """
seed = 3
[student]
backbone = "small_conv"
widths = [4, 4]
embedding = 3
dropout = 0.3
[data]
shards = "set"
batch = 2
[[stage]]
source = "shards"
epochs = 2
optimizer = { name = "adamw", learning_rate = 1e-2, weight_decay = 1e-3 }
schedule = { name = "cosine", warmup = 0.2 }
terms = [{ name = "cosine", weight = 64.0 }]
[[stage]]
source = "shards"
epochs = 3
optimizer = { name = "sgd", learning_rate = 0.02, momentum = 0.9 }
schedule = { name = "plateau", factor = 0.5, patience = 1 }
terms = [{ name = "cosine", weight = 64.0 }, { name = "arcface", scale = 16.0, angle_add = 0.2 }]
"""


class Stopped(Exception):
    """Ends a run where a person would have."""


def write_run(folder: Path) -> None:
    """Two stages on the golden set of this format version, stopped after the first epoch of the second; and the figures of the whole run."""
    import os
    import shutil

    from distill.training import trainer as training

    (folder / "set").symlink_to(HERE / "v3-underscore" / "parquet-inline")
    (folder / "run.toml").write_text(RUN_FILE, encoding="utf-8")
    os.chdir(folder)
    run = load_run("run.toml")
    training.train(run, "whole", quiet=True)
    save = training.RunFolder.save

    def stop(self: Any, progress: Any, arrays: Any) -> None:
        save(self, progress, arrays)
        if (progress.stage, progress.epoch) == (1, 1):
            raise Stopped

    training.RunFolder.save = stop  # type: ignore[method-assign]
    with suppress(Stopped):
        training.train(run, "stopped", quiet=True)
    shutil.rmtree(folder / "stopped" / "events", ignore_errors=True)
    (folder / "stopped" / ".trainer").unlink(missing_ok=True)
    shutil.rmtree(RUN, ignore_errors=True)
    shutil.copytree(folder / "stopped", RUN)
    shutil.copy(folder / "whole" / "history.csv", RUN / "whole.csv")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        PINNED.write_text(json.dumps(found(Path(folder)), indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    print(f"written: {PINNED}")
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder))
    print(f"written: {RUN}")
