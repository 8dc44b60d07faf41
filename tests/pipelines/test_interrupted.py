"""A run that is looked at and stopped by Ctrl-C: it says how far it is and how to go on, leaves no process and nothing half-named, and goes on."""

import json
import os
import re
import shutil
import signal
import time
from types import SimpleNamespace

import psutil
import pytest

from distill.inspection.describe import describe, in_words
from distill.storage.path import as_path
from tests.builders import contents
from tests.conftest import inside
from tests.warm import begin

ROWS, PATIENCE = 300, 120.0  # 3,600 rows in 12 chunks, called one by one: seconds on any machine
LAST_WORD = "Interrupted. Finished chunks stay; the same command makes the others, those begun from their first row."


def words(many, out, teacher):
    return ("embed", many, out, "--teacher", teacher, "--rows", ROWS, "--batch", 1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, many, teacher):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    assert inside(*words(many, out, teacher)).returncode == 0
    return out


def look(out):
    return describe(out, lambda path: {}) if out.is_dir() and (out / ".launcher").exists() else {}


def alive_in(group):
    """Processes of a group that still run; one that its parent has not yet buried does not."""
    found = []
    for one in psutil.process_iter():
        try:
            if os.getpgid(one.pid) == group and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one.cmdline())
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


@pytest.fixture(scope="module", params=["local", pytest.param("processes", marks=pytest.mark.slow)])
def stopped(request, tmp_path_factory, many, teacher):
    """What `distill inspect` says while a run works and after Ctrl-C, and what the run itself said last."""
    out = tmp_path_factory.mktemp(request.param) / "out"
    process = begin(*words(many, out, teacher), "--engine", request.param, "--workers", 2)
    starting = running = {}
    until = time.monotonic() + PATIENCE
    while not (running.get("rows_per_second") and running["done_chunks"]) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
        running = look(out)
        starting = starting or running
    os.killpg(process.pid, signal.SIGINT)
    said, told = process.communicate(timeout=PATIENCE)
    until = time.monotonic() + 5
    while alive_in(process.pid) and time.monotonic() < until:
        time.sleep(0.1)
    left = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    return SimpleNamespace(
        engine=request.param,
        out=out,
        pid=process.pid,
        code=process.returncode,
        said=said,
        told=told,
        starting=starting,
        running=running,
        processes=alive_in(process.pid),
        left=left,
        after=look(out),
    )


def test_a_run_that_works_tells_how_far_it_is(stopped):
    found = stopped.running
    assert (found["kind"], found["rows"], found["chunks"]) == ("unfinished set of shards", 3600, 12)
    assert found["launcher"].startswith(f"process {stopped.pid} on ") and "next" not in found
    assert 1 <= found["done_chunks"] < 12 and found["done_rows"] == ROWS * found["done_chunks"]
    assert len(found["missing_chunks"]) == 12 - found["done_chunks"]
    assert (found["rejects"], found["failed_chunks"]) == (0, {})
    assert 0 <= found["rows_in_progress"] < 2 * ROWS + 1 and found["rows_per_second"] > 0
    assert "rows per second: " in in_words(found) and stopped.starting["launcher"] == found["launcher"]


def test_ctrl_c_ends_everything_with_one_line(stopped):
    assert stopped.code == 130 and not stopped.said
    lines = stopped.told.strip().splitlines()
    assert lines[-1] == LAST_WORD and stopped.told.count("Interrupted") == 1
    assert all(re.match(r"3,600 rows in 12 chunks|embedding: |[A-Za-z ]+ \.\.\.$", line) for line in lines[:-1]), stopped.told
    assert stopped.processes == []


def test_nothing_half_named_is_left(stopped, undisturbed):
    """Files under their own names are whole; whatever else is there begins with a dot and says whose it was."""
    whole = contents(undisturbed)
    shards = {name.removeprefix("shards/") for name in stopped.left if name.startswith("shards/")}
    named = {name for name in shards if not name.startswith(".")}
    assert named and "_index.json" not in named
    for name in named:
        assert (stopped.out / "shards" / name).read_bytes() == whole[name]
    assert all(re.fullmatch(r"\..+\.[0-9a-f]{12}\.\d+\.\d+-[0-9a-f]{16}\.tmp", name) for name in shards - named)


def test_a_run_that_was_stopped_tells_how_far_it_was(stopped):
    found = stopped.after
    assert found["launcher"] == "none at work" and "same distill embed again" in found["next"]
    assert found["done_chunks"] >= stopped.running["done_chunks"] and found["rows"] == 3600
    assert "rows_in_progress" not in found and "rows_per_second" not in found and "error" not in found


def test_in_an_object_store_it_is_told_in_the_same_words(stopped, tmp_path, monkeypatch):
    """The store is a folder here: only what a path in a store has is used."""
    from pyarrow.fs import LocalFileSystem, SubTreeFileSystem

    monkeypatch.setattr("distill.storage.objects.filesystem", lambda scheme: SubTreeFileSystem(str(tmp_path), LocalFileSystem()))
    shutil.copytree(stopped.out, tmp_path / "bucket" / "out", ignore=shutil.ignore_patterns(".*"))
    found = describe(as_path("s3://bucket/out"), lambda path: {})
    told = {name: value for name, value in found.items() if name not in ("path", "launcher", "rows_in_progress", "rows_per_second")}
    assert told == {name: value for name, value in stopped.after.items() if name not in ("path", "launcher")}
    assert found["launcher"] == "none at work" and "same distill embed again" in told["next"]


def test_the_same_command_goes_on(stopped, undisturbed, many, teacher):
    """Last, because it changes what was left."""
    done = inside(*words(many, stopped.out, teacher), "--json")
    assert done.returncode == 0, done.stderr
    assert 0 < json.loads(done.stdout)["made"] <= 3600 - stopped.after["done_rows"]
    assert contents(stopped.out) == contents(undisturbed)
    assert not [path for path in stopped.out.rglob(".*") if path.name != ".launcher"]
