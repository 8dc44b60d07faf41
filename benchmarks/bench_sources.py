"""The student's stream (decode, embedding, label, shuffled) against simplejpeg decoding the same images from memory, per CPU-second, and the
streams of one of 8 views of each row, and of 32 identities with 4 images each a batch, against the plain stream."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import simplejpeg

from benchmarks.bench import cpu_rate, interleaved, rate, save, show
from distill.config.stage import Balanced
from distill.data.shards import FORMATS, Rows, ShardMeta, commit_shard, write_index
from distill.data.sources import ShardSource
from distill.images.augmentation import RECIPES
from distill.images.codec import encode_jpeg
from distill.images.preprocessing import Preprocessing
from distill.images.spec import ImageSpec
from distill.images.views import replay
from distill.runtime.process import keep_memory
from distill.synthetic.faces import draw_face

ROWS, SIZE, DIMENSION, DIFFERENT, VIEWS = 8_192, 112, 512, 400, 8
BALANCED = Balanced(identities=32, images=4)


def make_set(folder: Path, format: str, encoded: list[bytes], views: int = 1) -> Path:
    folder.mkdir()
    rng = np.random.default_rng(0)
    records = []
    for number in range(4):
        meta = ShardMeta(
            chunk=number,
            of=4,
            chunk_sha256="0" * 64,
            dimension=DIMENSION,
            dtype="float16",
            teacher="0" * 64,
            reading=Preprocessing(),
            image=ImageSpec(SIZE, SIZE),
            views=views,
            recipe=RECIPES["face" if views > 1 else "none"],
        )
        count = ROWS // 4
        rows = Rows(
            [f"id/{number}/{row}.jpg" for row in range(count)],
            np.arange(count, dtype=np.int32) % 100,
            rng.normal(size=(count, views * DIMENSION)).astype(np.float16),
            [encoded[row % DIFFERENT] for row in range(count)],
        )
        records.append(commit_shard(folder, format, meta, [rows], []))
    write_index(folder, format, records, [str(number) for number in range(100)])
    return folder


def into_batches(encoded: list[bytes], threads: int) -> None:
    """Decodes into batches of 128 by simplejpeg alone: the limit of every stream."""

    def decode(part: list[bytes]) -> np.ndarray:
        batch = np.empty((len(part), SIZE, SIZE, 3), np.uint8)
        for row, data in enumerate(part):
            simplejpeg.decode_jpeg(data, buffer=batch[row])
        return batch

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda start: decode(encoded[start : start + 128]) is None, range(0, ROWS, 128)))


def make_sources(folder: str, encoded: list[bytes]) -> dict[str, ShardSource]:
    """Returns the source of a set of each format, plain and balanced, and of one with views in both ways that views are taken."""
    sources = {format: ShardSource(make_set(Path(folder) / format, format, encoded), batch=128, seed=0) for format in FORMATS}
    for format in FORMATS:
        sources[f"{format}, balanced"] = ShardSource(sources[format].set.folder, batch=128, seed=0, balanced=BALANCED)
        viewed = make_set(Path(folder) / f"{format}-views", format, encoded, VIEWS)
        sources |= {f"{format}, {how} of {VIEWS} views": ShardSource(viewed, batch=128, seed=0, views=how) for how in ("one", "all")}
    return sources


def stream(source: ShardSource) -> None:
    """Takes one epoch; of all views an eighth."""
    if sum(len(images) for images, _ in islice(source.epoch(0), -(-ROWS // 128))) != ROWS:
        raise RuntimeError("rows were lost")


def main() -> None:
    keep_memory()  # as training does
    encoded = [encode_jpeg(draw_face(number % 100, number // 100, SIZE)) for number in range(DIFFERENT)]
    everything = [encoded[row % DIFFERENT] for row in range(ROWS)]
    pixels, keys = np.stack([simplejpeg.decode_jpeg(data) for data in encoded[:128]]), [f"{row}.jpg" for row in range(128)]

    def thrown_away() -> None:
        for data in everything:
            simplejpeg.decode_jpeg(data)

    def replayed() -> None:
        for number in range(1, 1 + ROWS // 128):
            replay(pixels, RECIPES["face"], 0, keys, number)

    with tempfile.TemporaryDirectory() as folder:
        # two threads on two hyperthreads of one core take more CPU-seconds than one: like is compared with like
        limit = "simplejpeg into batches, two threads"
        ways = {
            limit: lambda: into_batches(everything, 2),
            "simplejpeg into batches, one thread": lambda: into_batches(everything, 1),
            "simplejpeg, one thread, pixels thrown away": thrown_away,
            "views by the recipe face alone, one thread": replayed,
            **{f"ShardSource, {name}, two threads": partial(stream, source) for name, source in make_sources(folder, encoded).items()},
        }
        found = {}
        for title, measure, rounds in (("images per CPU-second", cpu_rate, 5), ("images per second", rate, 3)):
            rates = interleaved({name: partial(measure, ROWS, work) for name, work in ways.items()}, rounds)
            found[title] = show(title, rates, limit, "images/s")
            for format in FORMATS:
                compared = {name: values for name, values in rates.items() if name.startswith(f"ShardSource, {format}")}
                found[f"{title}, {format}"] = show(
                    f"{title}, with views or balanced against plain", compared, f"ShardSource, {format}, two threads", "images/s"
                )
        print(f"a JPEG has {sum(map(len, encoded)) / len(encoded):,.0f} bytes, a row {DIMENSION} numbers of float16")
    save("bench_sources", found)


if __name__ == "__main__":
    main()
