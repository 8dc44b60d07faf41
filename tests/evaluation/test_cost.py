"""What a model costs: bytes, parameters, operations, and time in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

import distill
from distill.api.costs import THREADS, cost_of, latency_of
from distill.evaluation.latency import latencies, machine, median_ms
from teachers import load_teacher, open_teacher
from tests.builders import FirstColour
from tests.conftest import inside


class Clock:
    """Time that goes on by what each call takes, and is read for nothing."""

    def __init__(self, *seconds):
        self.now, self.seconds, self.calls = 0.0, list(seconds), 0

    def __call__(self):
        return self.now

    def call(self):
        self.now += self.seconds[min(self.calls, len(self.seconds) - 1)]
        self.calls += 1


@pytest.mark.parametrize(
    ("seconds", "calls", "ms"),
    [
        ([0.5, 0.003, 0.001, 0.002, 0.002, 0.002, 0.002], 201, 2),  # one call warms up for half a second, and 200 are measured
        ([0.125] * 4 + [0.5], 4 + 20, 500),  # 20 calls are 10 s
        ([9.0], 1 + 5, 9000),  # 5 at least
    ],
)
def test_time_is_the_median_after_a_warm_up(seconds, calls, ms):
    clock = Clock(*seconds)
    assert median_ms(clock.call, clock=clock) == pytest.approx(ms) and clock.calls == calls


def test_batches_are_those_of_one_image_and_of_32():
    seen = []
    found = latencies(lambda images: seen.append(images.shape), (8, 6), calls=3, seconds=0.01)
    assert set(found) == {"1", "32"} and set(seen) == {(1, 8, 6, 3), (32, 8, 6, 3)} and all(ms >= 0 for ms in found.values())
    assert "core" in machine() and "Python 3" in machine()


def test_what_a_model_costs_is_measured_in_processes_of_their_own(quick, faces, tmp_path):
    done = inside("evaluate", quick, "--pairs", faces, "--number", 60, "--resamples", 0, "--speed", "--json")
    assert done.returncode == 0, done.stderr
    cost = json.loads(done.stdout)["model"]["cost"]
    assert (cost["bytes"], cost["parameters"], cost["flops"]) == (quick.stat().st_size, 0, 0) and "left_out" not in cost
    latency = cost["latency"]
    assert set(latency["threads"]) == set(THREADS) and all(0 < ms[batch] < 1000 for ms in latency["threads"].values() for batch in ("1", "32"))
    assert latency["images_per_second"] == pytest.approx(32e3 / latency["threads"]["all"]["32"])
    assert "ONNX Runtime" in latency["machine"] and "TensorFlow" not in latency["machine"]


def test_a_single_model_costs_nothing_unless_it_is_asked(quick, faces):
    assert "cost" not in distill.evaluate(quick, pairs=faces, number=60, resamples=0, progress=False).model.figures
    assert "cost" not in distill.evaluate(quick, pairs=faces, number=60, resamples=0, speed=False, progress=False).model.figures


def test_of_several_models_all_but_the_time_is_said_without_speed(quick, teacher, faces):
    found = distill.evaluate([teacher, quick], pairs=faces, number=60, resamples=0, speed=False, progress=False)
    cost = found.model.figures["cost"]
    assert cost["parameters"] == 5 * 5 * 3 * 24 + 24 * 4 * 16 and cost["flops"] == 2 * (16 * 16 * 24 * 75 + 96 * 16)
    assert cost["latency"] is None and cost["left_out"] == {"latency": "not measured (--no-speed)"}


def test_what_is_not_known_has_its_reason(quick, monkeypatch):
    def fails(self, size):
        raise ValueError("no idea\nat all")

    model = load_teacher(quick)
    monkeypatch.setattr(type(model), "flops", fails)
    monkeypatch.setattr(type(model), "parameters", None)
    assert cost_of(model, None)["left_out"] == {"flops": "ValueError: no idea", "parameters": "the file does not say"}


@pytest.mark.parametrize(
    ("said", "reason"),
    [("", "ended with code 3: it said nothing"), ('{"error": "no memory"}', "^no memory$"), ("words\n[", "ended with code 3: it said nothing")],
)
def test_a_process_that_fails_says_why(quick, monkeypatch, said, reason):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: subprocess.CompletedProcess((), 3, said, ""))
    with pytest.raises(distill.DistillError, match=reason):
        latency_of(open_teacher(quick), None, lambda done, of: None)


def test_a_model_that_cannot_be_measured_is_judged_all_the_same(faces):
    from distill.evaluation.evaluate import evaluate_models
    from distill.evaluation.pair_sets import drawn_set
    from distill.evaluation.request import EvaluationRequest

    def fails(who, progress):
        raise distill.DistillError(f"{who} is too large")

    request = EvaluationRequest(sets=(drawn_set(faces, 60),), resamples=0, cost=lambda model: {"bytes": 1, "left_out": {"flops": "x"}}, latency=fails)
    cost = evaluate_models({"model": ("m", lambda: FirstColour(32, 32))}, request)["model"]["cost"]
    assert cost == {"bytes": 1, "latency": None, "left_out": {"flops": "x", "latency": "model is too large"}}


@pytest.mark.slow
def test_threads_are_those_that_were_asked_for(teacher, tmp_path):
    """A SavedModel on one thread uses one core, whatever TensorFlow would take; the process says so itself."""
    code = (
        "import os, sys, json, numpy, distill.api.costs as costs, distill.evaluation.latency as latency\n"
        "latency.latencies = lambda model, size: {'1': len(os.sched_getaffinity(0))}\n"
        "import tensorflow as tf\n"
        "found = costs.measure(json.loads(sys.argv[1]))\n"
        "print(found['ms']['1'], tf.config.threading.get_intra_op_parallelism_threads(), len(os.sched_getaffinity(0)))"
    )
    asked = {"path": str(teacher), "preprocessing": open_teacher(teacher).preprocessing.model_dump(mode="json"), "size": None, "threads": 1}
    done = subprocess.run([sys.executable, "-c", code, json.dumps(asked)], capture_output=True, text=True)
    assert done.stdout.split() == ["1", "1", str(len(os.sched_getaffinity(0)))], done.stderr
