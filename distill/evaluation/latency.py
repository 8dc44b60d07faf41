"""How long a model takes for a batch, and on which machine: what a row of an evaluation's table says of speed. Plain Python and NumPy."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import numpy as np

BATCHES = (1, 32)
CALLS, SECONDS = 200, 10.0  # measured calls: so many, or as many as so many seconds hold
LEAST_CALLS = 5  # of a model whose calls take seconds
WARM_UP = 0.5  # seconds, in which memory is taken and threads begin
# module: (package, what people call it)
ENGINES = {
    "tensorflow": ("tensorflow", "TensorFlow"),
    "keras": ("keras", "Keras"),
    "onnxruntime": ("onnxruntime", "ONNX Runtime"),
    "ai_edge_litert": ("ai-edge-litert", "LiteRT"),
    "openvino": ("openvino", "OpenVINO"),
}


def median_ms(call: Callable[[], object], calls: int = CALLS, seconds: float = SECONDS, clock: Callable[[], float] = time.perf_counter) -> float:
    """Returns the median of the milliseconds of a call, after a warm-up: of `calls` calls, or of those that begin within `seconds`, but of 5 at least."""
    began = clock()
    while True:
        call()
        if clock() - began >= WARM_UP:
            break
    taken, began = list[float](), clock()
    while len(taken) < calls and (len(taken) < LEAST_CALLS or clock() - began < seconds):
        start = clock()
        call()
        taken.append(clock() - start)
    return float(np.median(taken)) * 1e3


def latencies(model: Callable[[np.ndarray], object], size: tuple[int, int], **limits: float) -> dict[str, float]:
    """Returns {batch: ms of a call} of a model for BATCHES, on noise of a size (height, width)."""
    images = np.random.default_rng(0).integers(0, 256, (max(BATCHES), *size, 3), np.uint8)
    return {str(batch): median_ms(lambda rows=images[:batch]: model(rows), **limits) for batch in BATCHES}  # type: ignore[misc,arg-type]


def machine() -> str:
    """Returns the processor, how many cores this process may use, the system and the versions of those engines that are loaded."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    versions = [f"{name} {found}" for module, (package, name) in ENGINES.items() if module in sys.modules and (found := _version(package))]
    parts = [_processor(), f"{cores} core{'s' * (cores != 1)}", f"{platform.system()} {platform.machine()}", f"Python {platform.python_version()}"]
    return ", ".join([*parts, *versions])


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            found = re.search(r"^model name\s*: *(.+)$", file.read(), re.M)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or "unknown processor"
