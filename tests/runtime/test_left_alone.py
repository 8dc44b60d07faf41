"""A program that imports distill and calls it finds its process as it was: nothing of it is tuned, for that is the command line's. In a real process."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import ctypes, json, logging, os, signal, subprocess, sys, threading

asked = []

class Watched(ctypes.CDLL):
    def __getattr__(self, name):
        if name == "mallopt":
            asked.append(name)
        return super().__getattr__(name)

ctypes.CDLL = Watched

def state():
    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE)
    loggers = {name: one for name, one in logging.root.manager.loggerDict.items() if isinstance(one, logging.Logger)} | {"": logging.root}
    return {
        **{f"${name}": value for name, value in os.environ.items()},
        **{f"logger {name}": [one.disabled, one.level, one.propagate, len(one.handlers)] for name, one in loggers.items()},
        "signals": [str(signal.getsignal(number)) for number in kinds],
        "hook": str(threading.excepthook),
        "streams": [str(sys.stdout), str(sys.stderr), os.fstat(1).st_ino, os.fstat(2).st_ino],
        "folder": os.getcwd(),
        "mallopt": len(asked),
    }

def changed(before, after):
    return {name: [before[name], after.get(name)] for name in before if after.get(name) != before[name]} | {
        name: ["not there", value] for name, value in after.items() if name not in before and name.startswith("$")
    }

faces, teacher, out = sys.argv[1:]
found = {}
before = state()
import distill, pipelines, teachers
import distill.api, pipelines.launch, pipelines.engines, distill.storage.client
found["import"] = changed(before, state())

import apache_beam, keras, tensorflow, tensorboard.summary  # what libraries set while they load is theirs
before = state()
child = subprocess.Popen(["sleep", "300"])
distill.load_model(teacher)
found["load_model"] = changed(before, state())
embedded = distill.embed(faces, f"{out}/set", teacher=teacher, engine="processes", workers=1, progress=False)
found["embed"] = changed(before, state())
distill.embed(faces, f"{out}/other", teacher=teacher, engine="local", progress=False)
found["embed in threads"] = changed(before, state())
trained = distill.train(shards=f"{out}/set", out=f"{out}/run", steps=8, progress=False)
found["train"] = changed(before, state())
print(json.dumps({"found": found, "child": child.poll(), "rows": embedded.rows, "steps": trained.steps}))
child.kill()
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory, faces, teacher):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "TF_CPP_"))}
    command = [sys.executable, "-c", PROGRAM, str(faces), str(teacher), str(tmp_path_factory.mktemp("left"))]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("call", ["import", "load_model", "embed", "embed in threads", "train"])
def test_a_call_leaves_the_process_as_it_was(told, call):
    """Variables of the environment, loggers, signals, streams, and glibc's malloc, which is never asked."""
    assert told["found"][call] == {}


def test_the_work_was_done_and_the_child_of_somebody_else_lives(told):
    assert (told["rows"], told["steps"], told["child"]) == (120, 8, None)


def test_a_program_that_asks_for_it_keeps_its_memory_and_says_so_again():
    code = (
        "import ctypes, os; from distill.runtime import process; asked = []\n"
        "class Library:\n    mallopt = staticmethod(lambda number, size: asked.append((number, size)) or 1)\n"
        "ctypes.CDLL = lambda name: Library\n"
        "process.keep_memory_again(); assert not asked and 'MALLOC_ARENA_MAX' not in os.environ\n"
        "assert process.keep_memory(); process.keep_memory_again(); print(asked == 2 * list(process.SETTINGS.items()), os.environ['MALLOC_ARENA_MAX'])"
    )
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment).stdout == "True 1\n"


@pytest.mark.parametrize("name", ["TF_CPP_MIN_LOG_LEVEL"])
def test_imports_that_overlap_leave_no_variable(monkeypatch, name):
    from distill.runtime.quiet import quiet_import

    monkeypatch.delenv("DISTILL_DEBUG", raising=False)
    for value in (None, "1"):
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
        with quiet_import(), quiet_import():
            assert os.environ[name] == (value or "3")
        assert os.environ.get(name) == value
