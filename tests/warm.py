"""Real processes that need no 4 s to begin: forked from one that has imported TensorFlow, Keras and Beam, and computed nothing.

    done = warm("embed", faces, out, "--teacher", teacher)       # as `distill` of conftest.py: its exit code, stdout, stderr
    begun = begin("embed", faces, out, "--teacher", teacher)     # as subprocess.Popen, in a session of its own: to be killed, stopped, interrupted
    done = warm_code("import sys; print(sys.argv[1])", "a")      # as python -c

What a process does while it imports, and what it does with streams and at its very end, is only seen in one that was not forked: `distill`.
"""

import contextlib
import functools
import multiprocessing
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

LOADED = ("tensorflow", "keras", "apache_beam.runners.portability.fn_api_runner", "distill.cli", "pipelines.embed", "teachers.saved_model", "tests.warm")


@functools.cache
def _server() -> Any:
    """The process that the others are forked from; it begins with the first of them. What TensorFlow says while it loads is heard by nobody."""
    from multiprocessing import forkserver

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(LOADED))
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        forkserver.ensure_running()
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)
    return context


class Begun:
    """A process that runs: of subprocess.Popen what tests ask for. args as they would stand behind `python`."""

    def __init__(self, args: tuple[str, ...], cwd: str | Path | None = None, env: Mapping[str, str] | None = None) -> None:
        self.args, folder = args, Path(tempfile.mkdtemp())
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._said = [folder / "stdout", folder / "stderr"]
        for path in self._said:
            path.touch()
        mine, theirs = multiprocessing.Pipe(duplex=False)
        given = (theirs, args, self._said, os.fspath(cwd or os.getcwd()), dict(os.environ if env is None else env))
        self._process = _server().Process(target=_become, args=given)
        self._process.start()
        theirs.close()
        with contextlib.suppress(EOFError):
            mine.recv()  # it has its own session and streams
        mine.close()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.wait(timeout)
        out, err = (path.read_text(encoding="utf-8") for path in self._said)
        return out, err

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()

    def kill_all(self) -> None:
        """Kills it with all that it has started, and returns when these are gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.wait()
        until = time.monotonic() + 10
        while _alive_in(self.pid) and time.monotonic() < until:
            time.sleep(0.02)


def _alive_in(group: int) -> bool:
    """Whether a process of a group still runs; one that nobody has buried yet does not."""
    for one in psutil.process_iter():
        with contextlib.suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getpgid(one.pid) == group and one.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def begin(*words: object, **where: Any) -> Begun:
    """A command line of distill, begun."""
    return Begun(("-m", "distill.cli", *map(str, words)), **where)


def warm(*words: object, timeout: float = 180, **where: Any) -> subprocess.CompletedProcess:
    """A command line of distill, run to its end."""
    return _ended(begin(*words, **where), timeout)


def warm_code(code: str, *words: object, timeout: float = 180, **where: Any) -> subprocess.CompletedProcess:
    """A piece of Python, run to its end."""
    return _ended(Begun(("-c", code, *map(str, words)), **where), timeout)


def forked(command: Sequence[str], env: Mapping[str, str], **_: Any) -> subprocess.CompletedProcess:
    """What stands for subprocess.run where a room begins `python -m` in a process of its own: the same, forked."""
    return _ended(Begun(tuple(command[1:]), env=env), 180)


def _ended(begun: Begun, timeout: float) -> subprocess.CompletedProcess:
    try:
        out, err = begun.communicate(timeout)
    except subprocess.TimeoutExpired:
        begun.kill()
        raise
    return subprocess.CompletedProcess(begun.args, begun.returncode, out, err)


# --------------------------------------------------------------------------------------------------------------- in the forked process


def _become(ready: Connection, args: tuple[str, ...], said: list[Path], cwd: str, env: dict[str, str]) -> None:
    """Be the process of that command line: its own session, streams, folder and environment."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for stream, path in zip((sys.stdout, sys.stderr), said, strict=True):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, stream.fileno())
        os.close(file)
        stream.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    tempfile.tempdir = None
    ready.send(True)
    ready.close()
    how, what, *words = args
    sys.argv = [how, *words]
    if how == "-c":
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
    elif what == "distill.cli":
        from distill.cli import main

        main()
    else:
        runpy.run_module(what, run_name="__main__", alter_sys=True)
