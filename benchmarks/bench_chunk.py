"""Cutting the full list, 5,822,653 lines in 85,742 classes, against merely reading its lines: in the order of the classes, and shuffled.

Every run is `distill chunk` as a person types it, in a process of its own whose peak memory the system tells; so is the reading.
"""

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.bench import interleaved, save, show

ROWS, CLASSES, CHUNK = 5_822_653, 85_742, 100_000
READ = "import sys\nwith open(sys.argv[1], encoding='utf-8') as file:\n    print(sum(1 for line in file))"
READING = "reading the file's lines"


def write_list(path: Path, shuffled: bool) -> None:
    """Lines like `faces_emore/m.0002a3f1/0004711.jpg<TAB>1234`, class by class or in a random order."""
    order = np.random.default_rng(0).permutation(ROWS) if shuffled else np.arange(ROWS)
    labels = order * CLASSES // ROWS
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, ROWS, CHUNK):
            part = zip(order[start : start + CHUNK].tolist(), labels[start : start + CHUNK].tolist(), strict=True)
            file.write("".join(f"faces_emore/m.{label * 40503 % 2**32:08x}/{row:07d}.jpg\t{label}\n" for row, label in part))


def typed(command: list[object]) -> tuple[float, float]:
    """Seconds of a process, its start included, and its peak MB."""
    started = time.perf_counter()
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return time.perf_counter() - started, used.ru_maxrss / 1024


def rows_of(out: Path) -> list[int]:
    return [pq.read_metadata(path).num_rows for path in sorted(out.glob("*.parquet"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    found: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lists = {"distill chunk, class by class": folder / "ordered.txt", "distill chunk, shuffled": folder / "shuffled.txt"}
        for shuffled, path in enumerate(lists.values()):  # elsewhere: the system counts what this process had among the peak of its children
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                pool.apply(write_list, (path, bool(shuffled)))

        def measured(way: str, command: list[object]) -> float:
            seconds, peak = typed(command)
            found.setdefault(way, []).append((seconds, peak))
            return ROWS / seconds

        def cut(way: str) -> float:
            out = folder / "chunks"
            rate = measured(way, [sys.executable, "-m", "distill.cli", "chunk", lists[way], out, "--rows", CHUNK])
            rows = rows_of(out)
            shutil.rmtree(out)
            if rows != [CHUNK] * 58 + [22_653]:
                raise RuntimeError(f"{way}: {sum(rows)} rows in {len(rows)} chunks, {ROWS} in 59 are expected")
            return rate

        ways = {READING: lambda: measured(READING, [sys.executable, "-c", READ, lists["distill chunk, shuffled"]])}
        rates = interleaved({**ways, **{way: lambda way=way: cut(way) for way in lists}}, rounds)
        size = lists["distill chunk, shuffled"].stat().st_size
    ratios = show(f"{ROWS:,} lines in {CLASSES:,} classes ({size / 1e6:.0f} MB), 59 chunks, the last of 22,653 rows", rates, READING)
    results = {
        way: {
            "seconds": float(np.median([seconds for seconds, _ in runs[1:]])),
            "fastest": min(seconds for seconds, _ in runs),
            "peak_mb": max(peak for _, peak in runs),
            "times_reading": 1 / ratios[way],
        }
        for way, runs in found.items()
    }
    print(f"\n{'':<44}{'seconds':>12}{'fastest':>8}{'peak MB':>8}{'times reading':>16}")
    for way, one in results.items():
        print(f"{way:<44}{one['seconds']:>12.1f}{one['fastest']:>8.1f}{one['peak_mb']:>8.0f}{one['times_reading']:>16.1f}")
    save("bench_chunk", {"rows": ROWS, "classes": CLASSES, "chunks": 59, **results})


if __name__ == "__main__":
    main()
