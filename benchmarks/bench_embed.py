"""Labelling (read, decode, teacher, write) against the teacher's batched call on arrays in memory, in one interleaved run.

Each way lives in processes of its own, because a process has one number of TensorFlow threads; they stay loaded and take turns, so that
what is compared is the steady state. `distill embed` runs its chunks as `local` does (two threads of one process, one TensorFlow thread
each) and as `processes` does.
"""

import argparse
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.bench import interleaved, save, show

SIZE = 112
MAKE = """
import sys, keras
name, out = sys.argv[1:]
keras.utils.set_random_seed(0)
inputs = keras.Input((112, 112, 3), name="images")
if name == "resnet50":
    net = keras.applications.ResNet50(weights=None, include_top=False, input_shape=(112, 112, 3), pooling="avg")
else:
    net = keras.applications.MobileNetV2(weights=None, include_top=False, input_shape=(112, 112, 3), alpha=0.35, pooling="avg")
outputs = keras.layers.Dense(512, name="output")(net(keras.layers.Rescaling(1 / 127.5, -1)(inputs)))
keras.Model(inputs, {"output": outputs}).export(out, verbose=False)
"""


def plain(teacher: str):
    """The batched call as anybody would write it: TensorFlow as it comes."""
    import tensorflow as tf

    signature = tf.saved_model.load(teacher).signatures["serving_default"]
    return lambda pixels: signature(images=tf.constant(pixels.astype(np.float32)))["output"].numpy()


def worker(pipe: Connection, threads: int | None, teacher: str, source: str, folder: str, batch: int, rows: int) -> None:
    """A process with the teacher in it. Takes ("call", parallel, images) or ("label", parallel, [chunks]) and answers when it is done."""
    from distill.data.shards.plan import Plan
    from pipelines.job import Job, Task
    from pipelines.label import embed_chunk
    from teachers import limit_threads, open_teacher

    if threads is not None:
        limit_threads(threads)
    loaded = plain(teacher) if threads is None else open_teacher(teacher).load()
    pixels = np.random.default_rng(0).integers(0, 256, (512, SIZE, SIZE, 3), np.uint8)
    loaded(pixels[:batch])
    pipe.send("ready")
    while (asked := pipe.recv()) is not None:
        if asked[0] == "call":
            starts = [start % 512 for start in range(0, asked[2], batch)]
            with ThreadPoolExecutor(asked[1]) as pool:
                list(pool.map(lambda start: loaded(pixels[start : start + batch]), starts))
        else:
            job = Job(source=source, out=folder, root=source, teacher=open_teacher(teacher), rows=rows, batch=batch)
            plan = Plan.load(Path(folder) / "plan.json")
            tasks = [Task.of(job, plan, number) for number in asked[2]]
            with ThreadPoolExecutor(asked[1]) as pool:
                list(pool.map(embed_chunk, tasks))
        pipe.send("done")


def bench(name: str, images: int, batch: int, rows: int, rounds: int, folder: Path) -> dict[str, float]:
    teacher, source, out = folder / name, folder / f"faces-{images}", folder / f"out-{name}"
    subprocess.run([sys.executable, "-c", MAKE, name, str(teacher)], check=True, capture_output=True)
    distill = [sys.executable, "-m", "distill.cli"]
    identities = -(-images // 64)
    subprocess.run([*distill, "faces", source, "--identities", str(identities), "--images", "64"], check=True, capture_output=True)
    command = ["embed", source, out, "--teacher", teacher, "--rows", str(rows), "--batch", str(batch), "--dry-run"]
    subprocess.run([*distill, *map(str, command)], check=True, capture_output=True)
    context = multiprocessing.get_context("spawn")
    pipes = {}
    for key, threads in (("plain", None), ("own", 0), ("one", 1), ("other", 1)):
        pipes[key], theirs = context.Pipe()
        context.Process(target=worker, args=(theirs, threads, str(teacher), str(source), str(out), batch, rows), daemon=True).start()
        pipes[key].recv()
    chunks = list(range(images // rows))

    def ask(*requests: tuple) -> float:
        for path in (out / "shards").glob("0*"):
            path.unlink()
        started = time.perf_counter()
        for key, *request in requests:
            pipes[key].send(request)
        for key, *_ in requests:
            pipes[key].recv()
        return images / (time.perf_counter() - started)

    limit = "batched call, arrays in memory, its own threads"
    ways = {
        "the same, TensorFlow and malloc as they come": lambda: ask(("plain", "call", 1, images)),
        limit: lambda: ask(("own", "call", 1, images)),
        "batched calls, two threads of one": lambda: ask(("one", "call", 2, images)),
        "distill embed, one process, two threads": lambda: ask(("one", "label", 2, chunks)),
        "batched calls, two processes of one": lambda: ask(("one", "call", 1, images // 2), ("other", "call", 1, images // 2)),
        "distill embed, two processes": lambda: ask(("one", "label", 1, chunks[::2]), ("other", "label", 1, chunks[1::2])),
    }
    found = show(f"{name}, batch {batch}, {images:,} JPEGs of {SIZE}x{SIZE}", interleaved(ways, rounds), limit, "images/s")
    for pipe in pipes.values():
        pipe.send(None)
    shutil.rmtree(out)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        small = bench("mobilenetv2", 4096, 128, 1024, rounds, Path(folder))
        large = bench("resnet50", 512, 64, 128, rounds, Path(folder))
    save("bench_embed", {"mobilenetv2_0.35": small, "resnet50": large})


if __name__ == "__main__":
    main()
