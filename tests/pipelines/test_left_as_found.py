"""`pipelines.launch.embed` in somebody's own program: it ends what it started, and leaves the process as it found it."""

import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import psutil
import pytest

from distill import DistillError, Unfinished
from distill.storage.files import started, temporary_for
from pipelines import launch
from pipelines.engines import outside_ipython
from pipelines.job import Job
from teachers import open_teacher

NAMES = ("", "apache_beam", "apache_beam.runners", "PrismRunner", "distributed", "distill", "theirs")


def state() -> dict[str, object]:
    """What a run has no business to change."""
    from apache_beam import pipeline
    from apache_beam.runners.portability.fn_api_runner.worker_handlers import ControlConnection
    from apache_beam.utils import interactive_utils

    told = os.fstat(2)
    loggers = {name: logging.getLogger(name) for name in NAMES}
    return {
        "loggers": {name: (one.disabled, one.level, one.propagate, one.handlers[:]) for name, one in loggers.items()},
        **{f"${name}": value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
        "warnings": warnings.filters[:],
        "hook": threading.excepthook,
        "folder": os.getcwd(),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)],
        "stderr": (told.st_dev, told.st_ino),
        "Beam": (ControlConnection.push, interactive_utils.is_in_ipython, pipeline.is_in_ipython),
        "pipelines": [one for one in threading.enumerate() if one.name == "pipeline"],
    }


@pytest.fixture
def theirs(monkeypatch, teacher):
    """A caller with settings and children of its own, one of them easily taken for a worker of Beam."""
    from pipelines import embed  # noqa: F401

    open_teacher(teacher).load()  # what libraries set while they load is theirs
    for name in ("MALLOC_ARENA_MAX", "TF_CPP_MIN_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(threading, "excepthook", lambda ended: None)
    handler = logging.NullHandler()
    logging.getLogger("apache_beam").addHandler(handler)
    logging.getLogger("distributed").setLevel(logging.INFO)
    command = [sys.executable, "-c", "import time; time.sleep(300)", "apache_beam.runners.worker.sdk_worker_main"]
    children = [subprocess.Popen(["sleep", "300"]), subprocess.Popen(command)]
    worker = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(300,))
    worker.start()
    yield [child.pid for child in children] + [worker.pid]
    for child in (*children, worker):
        child.kill()
        child.wait() if isinstance(child, subprocess.Popen) else child.join()
    logging.getLogger("apache_beam").removeHandler(handler)
    logging.getLogger("distributed").setLevel(logging.NOTSET)


@contextmanager
def nothing_changed(children):
    before = state()
    mine = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    until = time.monotonic() + 5
    while {child.pid for child in psutil.Process().children(recursive=True)} - mine and time.monotonic() < until:
        time.sleep(0.05)
    assert all(psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD) for pid in children)
    assert {child.pid for child in psutil.Process().children(recursive=True)} <= mine
    after = state()
    assert {name: after.get(name) for name in {**before, **after} if after.get(name) != before.get(name)} == {}


def job(source, out, teacher, **options) -> Job:
    return Job(source=str(source), out=str(out), root=str(source), teacher=open_teacher(teacher), **options)


def test_a_run_that_fails(theirs, faces, teacher, tmp_path):
    (tmp_path / "empty").mkdir()
    with nothing_changed(theirs), pytest.raises(DistillError):
        launch.embed(job(tmp_path / "empty", tmp_path / "out", teacher))
    with nothing_changed(theirs), pytest.raises(DistillError, match="--only 7"):
        launch.embed(job(faces, tmp_path / "out", teacher, only=(7,)))


def test_a_run_that_works(theirs, faces, teacher, tmp_path):
    with nothing_changed(theirs):
        assert launch.embed(job(faces, tmp_path / "out", teacher)).committed


@pytest.mark.parametrize("engine", ["local", "processes", pytest.param("dask", marks=pytest.mark.engines)])
def test_a_run_in_ipython(engine, theirs, faces, teacher, tmp_path, monkeypatch):
    """Beam's interactive environment, which needs pandas and writes into the cell, stays out; the caller's own pipelines still have it."""
    from apache_beam.utils import interactive_utils

    shell = SimpleNamespace(config={"IPKernelApp": {}}, execution_count=1)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "pandas", None)  # to import it fails
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    found = []
    with nothing_changed(theirs):
        done = launch.embed(job(faces, tmp_path / "out", teacher), engine, 2, on_progress=lambda progress: found.append(interactive_utils.is_in_notebook()))
    assert done.committed and all(found) and interactive_utils.is_in_notebook()
    assert not any(name.startswith("apache_beam.runners.interactive.interactive_environment") for name in sys.modules)
    assert not list((tmp_path / "temporary").glob("beam-pipeline-temp*"))


def test_pipelines_that_overlap_leave_beam_as_it_was(monkeypatch):
    from apache_beam.utils import interactive_utils

    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=object))
    genuine, inside, said = interactive_utils.is_in_ipython, threading.Barrier(2), list[bool]()

    def run(longer):
        with outside_ipython():
            inside.wait(10)
            longer.wait(10)
            said.append(interactive_utils.is_in_ipython())

    ends = [threading.Event(), threading.Event()]
    threads = [threading.Thread(target=run, args=(end,)) for end in ends]
    for thread in threads:
        thread.start()
    for thread, end in zip(threads, ends, strict=True):  # the first to begin ends first
        assert interactive_utils.is_in_ipython()
        end.set()
        thread.join()
    assert said == [False, False] and interactive_utils.is_in_ipython is genuine


def test_a_run_that_is_interrupted(theirs, many, teacher, tmp_path):  # noqa: F811
    """Its threads stop too, so that nobody writes into OUT behind the one who holds it then; and it goes on."""
    out = tmp_path / "out"

    def interrupt(progress):
        if progress.made:
            raise KeyboardInterrupt

    with nothing_changed(theirs), pytest.raises(KeyboardInterrupt):
        launch.embed(job(many, out, teacher, rows=300, batch=1), workers=2, on_progress=interrupt)
    there = sorted(path.name for path in out.rglob("*"))
    assert "_index.json" not in there and not [name for name in there if name.endswith(".tmp")]
    time.sleep(0.5)
    assert sorted(path.name for path in out.rglob("*")) == there
    assert launch.embed(job(many, out, teacher, rows=300, batch=1)).committed


def test_a_run_of_which_a_worker_is_killed(theirs, faces, teacher, tmp_path, monkeypatch):
    monkeypatch.setattr(launch, "LOST_AFTER", 0.5)
    alive = launch.Workers.alive
    seen = []

    def kill(workers, **which):
        found = alive(workers, **which)
        if found and not seen:
            seen.append(found.copy().pop())
            return found
        if seen and seen[0].is_running():
            seen[0].kill()
        return found

    monkeypatch.setattr(launch.Workers, "alive", kill)
    with nothing_changed(theirs), pytest.raises(Unfinished, match="A worker process was lost"):
        launch.embed(job(faces, tmp_path / "out", teacher, rows=30), "processes", 2)
    assert seen


def test_what_a_worker_of_a_killed_launcher_leaves_that_outlived_it_for_a_moment_goes_too(faces, quick, tmp_path):
    late = subprocess.Popen(["sleep", "300"])
    files = []

    def dies(estimate):
        late.kill()
        late.wait()

    for name in ("shards", "state"):
        (tmp_path / "out" / name).mkdir(parents=True)
        parts = temporary_for(tmp_path / "out" / name / "00000-of-00001.parquet").name.split(".")
        parts[-3], parts[-2] = str(late.pid), f"{started(late.pid)}-{'0' * 16}"
        files.append(tmp_path / "out" / name / ".".join(parts))
        files[-1].touch()
    launch.embed(Job(source=str(faces), out=str(tmp_path / "out"), root=str(faces), teacher=open_teacher(quick)), on_estimate=dies)
    assert not any(file.exists() for file in files) and late.returncode
