"""A training step fed by the stream against the same step on arrays in memory: images a second of whole epochs, interleaved."""

import tempfile
from pathlib import Path

import keras
import numpy as np

from benchmarks.bench import interleaved, rate, save, show
from benchmarks.bench_sources import DIFFERENT, SIZE, make_set
from distill.config import Student
from distill.faces import draw_face
from distill.images import encode_jpeg
from distill.process import keep_memory
from distill.sources import ShardSource
from distill.students import build_student

STEPS, BATCH = 40, 128


def build() -> keras.Model:
    """A small student with a cosine loss; 0.1 M parameters, so that the step is short and the stream has to be quick."""
    student = build_student(Student(backbone="small_conv", widths=(16, 32, 64, 64), embedding=512), (SIZE, SIZE, 3))
    student.compile(optimizer=keras.optimizers.SGD(0.01), loss=keras.losses.CosineSimilarity())
    return student


def main() -> None:
    keep_memory()  # as training does
    encoded = [encode_jpeg(draw_face(number % 100, number // 100, SIZE)) for number in range(DIFFERENT)]
    with tempfile.TemporaryDirectory() as folder:
        source = ShardSource(make_set(Path(folder) / "set", "parquet", encoded), batch=BATCH, seed=0)
        held = [(images, fields["embedding"]) for _, (images, fields) in zip(range(8), source.epoch(0), strict=False)]
        student = build()

        def arrays():
            while True:
                yield from held

        def streamed():
            number = 0
            while True:
                yield from ((images, fields["embedding"]) for images, fields in source.epoch(number))
                number += 1

        def fit(batches) -> None:
            student.fit(batches(), steps_per_epoch=STEPS, epochs=1, verbose=0)

        ways = {
            "arrays in memory": lambda: rate(STEPS * BATCH, lambda: fit(arrays)),
            "ShardSource": lambda: rate(STEPS * BATCH, lambda: fit(streamed)),
        }
        found = show(
            f"fit, {student.count_params():,} parameters, {SIZE}x{SIZE}, batch {BATCH}",
            interleaved(ways, 7),
            "arrays in memory",
            "images/s",
        )
    save("bench_train", {"small_conv": found, "backend": keras.backend.backend(), "numpy": np.__version__})


if __name__ == "__main__":
    main()
