"""How labelling grows with the number of chunks: seconds on a straight line, memory not at all, and what Beam itself takes.

Every run is `distill embed` as a person types it, in a process of its own whose peak memory the system tells. Beam's share: the same
chunks labelled through the pipeline and by the bare function in as many threads, in one process, in turn.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.bench import interleaved, save, show
from benchmarks.bench_embed import MAKE

CHUNK, PICTURES, WORKERS = 1000, 500, 2


def images(folder: Path, number: int) -> Path:
    """A folder of `number` JPEGs under names of their own; only PICTURES of them differ, the others are links to the same bytes."""
    drawn, root = folder / "drawn", folder / f"images-{number}"
    if not drawn.exists():
        subprocess.run(
            [sys.executable, "-m", "distill.cli", "faces", drawn, "--identities", str(PICTURES // 50), "--images", "50"], check=True, capture_output=True
        )
    pictures = sorted(drawn.rglob("*.jpg"))
    for start in range(0, number, len(pictures)):
        (part := root / f"class{start:07d}").mkdir(parents=True)
        for place, picture in enumerate(pictures[: number - start]):
            os.link(picture, part / f"{place}.jpg")
    return root


def typed(source: Path, out: Path, teacher: Path) -> tuple[float, float]:
    """Seconds of the run by its own account (imports of the launcher left out), and peak MB of the process."""
    command = [sys.executable, "-m", "distill.cli", "embed", source, out, "--teacher", teacher, "--rows", CHUNK, "--workers", WORKERS, "--json"]
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    told = json.loads(process.stdout.read())
    _, status, used = os.wait4(process.pid, 0)
    if status or told["missing"]:
        raise RuntimeError(f"distill embed ended with {status}: {told}")
    return told["seconds"], used.ru_maxrss / 1024


def growth(folder: Path, teacher: Path, counts: list[int]) -> list[dict[str, float]]:
    found = []
    print(f"\n{'chunks of ' + str(CHUNK):>16}{'seconds':>10}{'peak MB':>10}{'rows/s':>10}")
    for count in counts:
        source, out = images(folder, count * CHUNK), folder / f"out-{count}"
        seconds, peak = typed(source, out, teacher)
        found.append({"chunks": count, "seconds": seconds, "peak_mb": peak})
        print(f"{count:>16}{seconds:>10.1f}{peak:>10.0f}{count * CHUNK / seconds:>10.0f}", flush=True)
        shutil.rmtree(source)
        shutil.rmtree(out)
    x, y = np.array([[one["chunks"], one["seconds"]] for one in found], float).T
    slope, start = np.polyfit(x, y, 1)
    off = float(np.abs(y - (start + slope * x)).max() / y.max())
    print(f"{slope:.2f} s a chunk and {start:.1f} s to start; the farthest point lies {off:.1%} of the longest run off that line")
    return [*found, {"seconds_a_chunk": slope, "seconds_to_start": start, "farthest_off_the_line": off}]


def share_of_beam(folder: Path, teacher: Path, chunks: int, rounds: int) -> dict[str, float]:
    from distill.data.shards.plan import Plan
    from distill.runtime.quiet import quiet_import
    from pipelines.job import Job, Task
    from pipelines.label import embed_chunk
    from pipelines.launch import embed
    from teachers import limit_threads, open_teacher

    source, out = images(folder, chunks * CHUNK), folder / "beam"
    limit_threads(1)
    job = Job(source=str(source), out=str(out), root=str(source), teacher=open_teacher(teacher), rows=CHUNK)
    with quiet_import():
        embed(job, workers=WORKERS)
    tasks = [Task.of(job, Plan.load(out / "plan.json"), number) for number in range(chunks)]

    def timed(work) -> float:
        for path in (out / "shards").glob("*"):
            path.unlink()
        started = time.perf_counter()
        work()
        return chunks * CHUNK / (time.perf_counter() - started)

    def bare() -> None:
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(embed_chunk, tasks))

    name = "embed_chunk in two threads"
    rates = interleaved({name: lambda: timed(bare), "the pipeline": lambda: timed(lambda: embed(job, workers=WORKERS))}, rounds)
    return show(f"Beam's own share, {chunks} chunks of {CHUNK}", rates, name, "images/s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        subprocess.run([sys.executable, "-c", MAKE, "mobilenetv2", str(folder / "teacher")], check=True, capture_output=True)
        grown = growth(folder, folder / "teacher", asked.chunks)
        share = share_of_beam(folder, folder / "teacher", 16, asked.rounds)
    save("bench_scale", {"growth": grown, "beam": share})


if __name__ == "__main__":
    main()
