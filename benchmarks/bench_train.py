"""Training steps fed by the stream, without and with views, against the same steps on arrays in memory: the trainer's own model, optimizer and terms.

On a GPU the ratio says whether the stream keeps up. On a CPU stream and step share the cores, so a step is slower by what the stream takes
from it; whether it also waits is told beside: the share of the time in which a batch was asked for that was not there yet.
"""

import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import keras

from benchmarks.bench import interleaved, rate, save, show
from benchmarks.bench_sources import DIFFERENT, SIZE, VIEWS, make_set
from distill.config.run import Run
from distill.images.codec import encode_jpeg
from distill.runtime.process import keep_memory
from distill.synthetic.faces import draw_face
from distill.training.batches import endless_batches
from distill.training.model import Training, build_parts
from distill.training.optimizers import Rate, build_optimizer
from distill.training.stages import StageData, open_stages
from distill.training.trainer import prepare_device

STEPS, BATCH = 20, 128


def run_of(folder: str, encoded: list[bytes], views: int) -> Run:
    """Returns a run of one stage over a new set with so many views."""
    make_set(Path(folder) / f"set-{views}", "parquet", encoded, views)
    return Run.model_validate(
        {
            "student": {"backbone": "small_conv", "widths": (16, 32, 64, 64), "embedding": 512},
            "data": {"shards": f"{folder}/set-{views}", "batch": BATCH},
            "stage": ({"source": "shards", "terms": ({"name": "cosine", "weight": 64.0},)},),
        }
    )


def streamed(data: StageData, waited: list[tuple[float, float]]) -> Iterator:
    """Yields batches as training gets them. waited: takes the seconds until each was there, of those from asking to asking."""
    batches = endless_batches(data.train, data.fields, 0, [])
    yield next(batches)  # the first one has to be waited for
    asked = time.perf_counter()
    while True:
        batch = next(batches)
        ready = time.perf_counter()
        yield batch
        again = time.perf_counter()
        waited.append((ready - asked, again - asked))
        asked = again


def repeated(batches: list) -> Iterator:
    """Yields the same batches in memory again and again."""
    yield batches[0]
    keep_memory()  # TensorFlow takes it back when it starts, and endless_batches sets it again
    while True:
        yield from batches


def main() -> None:
    keep_memory()  # as the command line does
    print(prepare_device())
    encoded = [encode_jpeg(draw_face(number % 100, number // 100, SIZE)) for number in range(DIFFERENT)]
    with tempfile.TemporaryDirectory() as folder:
        run = run_of(folder, encoded, 1)
        (data,), (viewed,) = open_stages(run), open_stages(run_of(folder, encoded, VIEWS))
        model = Training(build_parts(run, [data]), data)
        learning = Rate(data.stage.schedule, 1e-3, 1000)
        model.compile(optimizer=build_optimizer(data.stage.optimizer, learning, model.trainable_variables, "float32"), jit_compile=False)
        waited: dict[int, list[tuple[float, float]]] = {1: [], VIEWS: []}
        some = list(islice(streamed(data, []), 8))

        def fit(batches: Iterator) -> float:
            return rate(STEPS * BATCH, lambda: model.fit(batches, steps_per_epoch=STEPS, epochs=1, verbose=0))

        ways = {
            "arrays in memory": lambda: fit(repeated(some)),
            "ShardSource": lambda: fit(streamed(data, waited[1])),
            f"ShardSource, one of {VIEWS} views": lambda: fit(streamed(viewed, waited[VIEWS])),
        }
        title = f"fit, {model.student.count_params():,} parameters, {SIZE}x{SIZE}, batch {BATCH}"
        found = show(title, interleaved(ways, 7), "arrays in memory", "images/s")
        shares = {views: sum(wait for wait, _ in times) / sum(whole for _, whole in times) for views, times in waited.items()}
        print("share of the time in which a step waited for its batch: " + ", ".join(f"{share:.2%} ({views} views)" for views, share in shares.items()))
    save("bench_train", {"small_conv": found, "waited": shares, "backend": keras.backend.backend()})


if __name__ == "__main__":
    main()
