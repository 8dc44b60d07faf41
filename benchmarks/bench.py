"""Ratios in one interleaved run: shared machines drift, so ways are compared round by round and absolute rates are only lower bounds."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path


def machine() -> str:
    """One line that says where figures were taken."""
    try:
        model = next(line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or "unknown"
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, Python {platform.python_version()}"


def interleaved(ways: dict[str, Callable[[], float]], rounds: int = 5) -> dict[str, list[float]]:
    """Each way once a round, in turn, after one round that does not count. A way does its work and returns items a second."""
    for way in ways.values():
        way()
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            rates[name].append(way())
    return rates


def rate(items: int, work: Callable[[], object]) -> float:
    """Items a second of wall time."""
    started = time.perf_counter()
    work()
    return items / (time.perf_counter() - started)


def cpu_rate(items: int, work: Callable[[], object]) -> float:
    """Items a CPU-second of this process, all threads."""
    started = time.process_time()
    work()
    return items / (time.process_time() - started)


def show(title: str, rates: dict[str, list[float]], limit: str, unit: str = "rows/s") -> dict[str, float]:
    """Print a table against the way named `limit`; the median ratio of each way, round by round."""
    ratios = {name: statistics.median(one / top for one, top in zip(values, rates[limit], strict=True)) for name, values in rates.items()}
    print(f"\n{title}\n{'':<44}{unit:>12}{'ratio':>8}{'lowest':>8}{'highest':>8}")
    for name, values in rates.items():
        each = [one / top for one, top in zip(values, rates[limit], strict=True)]
        print(f"{name:<44}{statistics.median(values):>12,.0f}{ratios[name]:>8.2f}{min(each):>8.2f}{max(each):>8.2f}")
    sys.stdout.flush()
    return ratios


def save(name: str, results: dict[str, object]) -> None:
    """benchmarks/results/NAME.json with the machine's line."""
    folder = Path(__file__).parent / "results"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps({"machine": machine(), **results}, indent=2) + "\n")
    print(f"\n{machine()}\nwritten: {folder / name}.json")
