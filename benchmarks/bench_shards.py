"""Writing and reading shards to NumPy against copying the same bytes: labelling and training run at 1,000 to 30,000 rows a second."""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.bench import interleaved, rate, save, show
from distill.data.shards import FORMATS, Rows, ShardMeta
from distill.data.shards.rows import regrouped
from distill.images.preprocessing import Preprocessing
from distill.images.spec import ImageSpec

ROWS, DIMENSION, IMAGE = 20_480, 512, 4_000


def main() -> None:
    rng = np.random.default_rng(0)
    rows = Rows(
        [f"id{row // 68:05d}/{row}.jpg" for row in range(ROWS)],
        np.arange(ROWS, dtype=np.int32) // 68,
        rng.normal(size=(ROWS, DIMENSION)).astype(np.float16),
        [rng.bytes(IMAGE) for _ in range(ROWS)],
    )
    meta = ShardMeta(
        chunk=0, of=1, chunk_sha256="0" * 64, dimension=DIMENSION, dtype="float16", teacher="0" * 64, reading=Preprocessing(), image=ImageSpec(112, 112)
    )
    groups = list(regrouped([rows]))
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "plain"

        def write_plain() -> None:
            with plain.open("wb") as file:
                for group in groups:
                    file.write(group.embeddings.tobytes())
                    file.write(b"".join(group.images))

        def read_plain() -> None:
            plain.read_bytes()

        def read(name: str) -> None:
            if sum(len(group) for group in FORMATS[name].read(Path(folder) / name)) != ROWS:
                raise RuntimeError("rows were lost")

        write = {
            "the same bytes, plain file": write_plain,
            **{name: lambda name=name: FORMATS[name].write(Path(folder) / name, meta, groups) for name in FORMATS},
        }
        written = show("write", interleaved({name: lambda work=work: rate(ROWS, work) for name, work in write.items()}), "the same bytes, plain file")
        reads = {"the same bytes, plain file": read_plain, **{name: lambda name=name: read(name) for name in FORMATS}}
        found = show(
            "read, checksums verified", interleaved({name: lambda work=work: rate(ROWS, work) for name, work in reads.items()}), "the same bytes, plain file"
        )
        sizes = {name: (Path(folder) / name).stat().st_size / ROWS for name in FORMATS}
    print("bytes a row: " + ", ".join(f"{name} {size:,.0f}" for name, size in sizes.items()) + f", content {IMAGE + 2 * DIMENSION:,}")
    save("bench_shards", {"write": written, "read": found, "bytes_a_row": sizes})


if __name__ == "__main__":
    main()
