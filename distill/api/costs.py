"""What a model costs: its bytes, parameters and operations, and how long it takes on this machine's CPU.

Time is taken in processes of their own, one for each engine and number of threads, because an engine keeps the threads that it began with:
`python -m distill.api.costs` reads a list of {"path", "preprocessing", "size", "threads"} from stdin and prints a line of JSON for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distill.errors import DistillError

if TYPE_CHECKING:
    from distill.evaluation.embed import Progress
    from teachers import LoadedTeacher, Teacher

THREADS = {"1": 1, "all": 0}  # 0: as many as an engine takes by itself
WORKER = "distill.api.costs"
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
ONE_THREAD = ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")


def cost_of(loaded: LoadedTeacher, size: tuple[int, int] | None) -> dict[str, Any]:
    """Returns {"bytes", "parameters", "flops", "left_out"} of a model in memory; what is not known is None, with the reason in "left_out".

    Args:
        size: (height, width) of the images, where it takes any.
    """
    left_out = dict[str, str]()
    try:
        flops: int | None = loaded.flops(size)
    except DistillError as error:
        flops, left_out["flops"] = None, str(error)
    except Exception as error:  # of any class: what is in the model decides which part of which library fails
        flops, left_out["flops"] = None, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:200]}"
    if loaded.parameters is None:
        left_out["parameters"] = "the file does not say"
    size_on_disk = sum(path.stat().st_size for _, path in loaded.teacher.files())
    return {"bytes": size_on_disk, "parameters": loaded.parameters, "flops": flops, **({"left_out": left_out} if left_out else {})}


def latency_of(teacher: Teacher, size: tuple[int, int] | None, progress: Progress) -> dict[str, Any]:
    """Returns {"threads": {"1": {"1": ms, "32": ms}, "all": {...}}, "images_per_second", "machine"} of a model, each taken in a process of its own.

    images_per_second is that of batches of 32 with all threads. Raises DistillError where a process ends without an answer.
    """
    return Latencies({"model": teacher}, size).of("model", progress)


class Latencies:
    """How long models take. Those that one engine runs are measured one after the other in one process for each number of threads: to begin one costs seconds."""

    def __init__(self, models: Mapping[str, Teacher], size: tuple[int, int] | None) -> None:
        self.models, self.size = models, size
        self._found = dict[str, dict[str, dict[str, Any]]]()  # {model: {threads: answer}}

    def of(self, who: str, progress: Progress) -> dict[str, Any]:
        """Returns the latency of a model, as `latency_of`; the first call for an engine measures all of its models."""
        if who not in self._found:
            self._measure([other for other, one in self.models.items() if _engine(one) == _engine(self.models[who])], progress)
        found = self._found[who]
        for answer in found.values():
            if "error" in answer:
                raise DistillError(answer["error"])
        milliseconds = {name: answer["ms"] for name, answer in found.items()}
        return {"threads": milliseconds, "images_per_second": 32e3 / milliseconds["all"]["32"], "machine": found["all"]["machine"]}

    def _measure(self, names: Sequence[str], progress: Progress) -> None:
        for done, (threads, number) in enumerate(THREADS.items()):
            progress(done, len(THREADS))
            answers = _in_own_process([self.models[who] for who in names], self.size, number)
            for who, answer in zip(names, answers, strict=True):
                self._found.setdefault(who, {})[threads] = answer
        progress(len(THREADS), len(THREADS))


def _engine(teacher: Teacher) -> str:
    """Returns what runs a kind of model."""
    return "tensorflow" if teacher.kind in ("keras", "h5", "saved_model") else teacher.kind


def _in_own_process(teachers: Sequence[Teacher], size: tuple[int, int] | None, threads: int) -> list[dict[str, Any]]:
    """Returns the answer for each model, or {"error": why there is none}."""
    asked = [{"path": one.path, "preprocessing": one.preprocessing.model_dump(mode="json"), "size": size, "threads": threads} for one in teachers]
    kept = {name: value for name, value in os.environ.items() if name not in ONE_THREAD}
    env = {**kept, **QUIET, **(dict.fromkeys(ONE_THREAD, str(threads)) if threads else {})}
    done = subprocess.run([sys.executable, "-m", WORKER], input=json.dumps(asked), env=env, capture_output=True, text=True, errors="replace")
    answers = [answer for line in done.stdout.splitlines() if (answer := _answer(line)) is not None][: len(asked)]
    last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
    return answers + [{"error": f"the process that measures ended with code {done.returncode}: {last}"}] * (len(asked) - len(answers))


def _answer(line: str) -> dict[str, Any] | None:
    """Returns an answer of the process that measures, None for what others print there."""
    try:
        answer = json.loads(line)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and ("ms" in answer or "error" in answer) else None


def measure(asked: dict[str, Any]) -> dict[str, Any]:
    """Returns {"ms": {batch: ms}, "machine"} of what a parent process asks, in this one, which has loaded no engine yet."""
    from distill.api.given import describe_with
    from distill.evaluation.embed import spec_for
    from distill.evaluation.latency import latencies, machine
    from distill.images.preprocessing import Preprocessing
    from distill.runtime.process import keep_memory
    from teachers import limit_threads

    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    keep_memory()
    if asked["threads"]:
        limit_threads(asked["threads"], asked["threads"])
    if asked["threads"] == 1 and cores:
        os.sched_setaffinity(0, {max(cores)})  # whatever threads an engine begins, they share this one
    size = None if asked["size"] is None else (asked["size"][0], asked["size"][1])
    model = describe_with(asked["path"], Preprocessing.model_validate(asked["preprocessing"]), beside=False).load()
    spec = spec_for(model, size=size)
    found = latencies(model, (spec.height, spec.width))
    if cores:
        os.sched_setaffinity(0, cores)
    return {"ms": found, "machine": machine()}


def main() -> None:
    for asked in json.load(sys.stdin):
        try:
            answer = measure(asked)
        except DistillError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
