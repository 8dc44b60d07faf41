"""The command line where people run it: streams that are closed or full, terminals of few letters, signals. Real processes of verbs that load little."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from distill.runtime.process import without_proxy

HERE = {**os.environ, "DISTILL": f"{sys.executable} -m distill.cli"}


def shell(line: str, cwd, **environment: str | None) -> subprocess.CompletedProcess:
    """A line as a person types it; None takes a name out of the environment."""
    names = {name: value for name, value in {**HERE, **environment}.items() if value is not None}
    return subprocess.run(["bash", "-c", f"set -o pipefail\n{line}"], cwd=cwd, env=names, capture_output=True, timeout=120)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return tmp_path_factory.mktemp("photos")


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", "<&- >&-", "<&- 2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(streams, photos, tmp_path):
    done = shell(f"$DISTILL faces f --identities 2 --images 1 --size 16 {streams} && ls f/id0001/000.jpg", tmp_path)
    assert done.returncode == 0 and b"id0001/000.jpg" in done.stdout and b"Traceback" not in done.stderr
    done = shell(f"$DISTILL chunk {photos}/none out {streams}", tmp_path)
    assert done.returncode == 2 and b"Traceback" not in done.stderr and (b"none" in done.stderr) == ("2>&-" not in streams)


def test_what_cannot_be_printed(tmp_path):
    draw = "$DISTILL faces f --identities 2 --images 1 --size 16"
    full = shell(f"{draw} >/dev/full", tmp_path)
    assert full.returncode == 1 and full.stderr.decode().strip() == (
        "distill: what it says could not be printed: No space left on device. Its work is not concerned."
    )
    assert (tmp_path / "f" / "id0001" / "000.jpg").is_file()
    assert shell(f"{draw} 2>/dev/full", tmp_path).returncode == 0
    early = shell("$DISTILL embed --help | head -1", tmp_path)
    assert early.returncode == 0 and early.stderr == b"" and early.stdout.count(b"\n") == 1
    assert shell(f"{draw} | true", tmp_path).returncode == 0


@pytest.mark.parametrize(
    "terminal", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "latin-1"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {}]
)
def test_terminals_of_few_letters(terminal, photos):
    made = photos / f"list-{len(str(terminal))}.txt"
    made.write_text("jörg/ü.jpg\n李雷/ü.jpg\n", encoding="utf-8")
    done = shell(f"$DISTILL inspect {made}", photos, **terminal)
    assert done.returncode == 0, done.stderr
    assert "first keys:" in done.stdout.decode("latin-1")
    done = shell(f"$DISTILL inspect {made} --json", photos, **terminal)
    told = json.loads(done.stdout.decode(terminal.get("PYTHONIOENCODING", "utf-8")))
    assert "李雷/ü.jpg" in json.dumps(told, ensure_ascii=False)


@pytest.mark.parametrize(
    "surroundings",
    [{"HOME": None, "USER": None, "LOGNAME": None, "TERM": None}, {"HOME": "/nonexistent", "TMPDIR": "/nonexistent", "TERM": "dumb", "COLUMNS": "1"}],
)
def test_surroundings(surroundings, tmp_path):
    done = shell("$DISTILL embed --help && $DISTILL faces f --identities 2 --images 1 --size 16", tmp_path, **surroundings)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr


def test_a_folder_that_is_gone(tmp_path):
    done = shell("mkdir gone; cd gone; rmdir ../gone; $DISTILL inspect x", tmp_path, PYTHONPATH=os.getcwd())
    assert done.returncode == 2 and b"the folder that this was started in is not there any more" in done.stderr and b"Traceback" not in done.stderr


def as_in_a_terminal():
    """Under nohup, or in the background of a shell, a process begins with these signals ignored, and so would the one that is tried."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, signal.SIG_DFL)


@pytest.mark.parametrize("name, code", [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_signals_end_a_verb_with_a_word(name, code, tmp_path):
    command = [*HERE["DISTILL"].split(), "faces", tmp_path / "f", "--identities", "90", "--images", "20", "--size", "112"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=HERE, preexec_fn=as_in_a_terminal)
    until = time.monotonic() + 60
    while not list(tmp_path.glob("f/id*/*.jpg")) and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(getattr(signal, name))
    said, told = process.communicate(timeout=60)
    word = "Interrupted." if name == "SIGINT" else f"Ended by {name}."
    assert process.returncode == code and told.strip().splitlines()[-1] == f"{word} Pictures that were drawn stay; the same command draws the others."


SWALLOWS = """
import time
from distill.runtime.signals import signal_code, stop_on_signals
from distill.runtime import signals
signals.AGAIN = 0.2
stop_on_signals()
class Odd:
    def __del__(self):
        print("here", flush=True)
        time.sleep(5)
def work():
    Odd()
    time.sleep(60)
try:
    work()
except KeyboardInterrupt:
    raise SystemExit(signal_code())
"""


def test_ctrl_c_that_something_swallowed_is_said_again(tmp_path):
    """An exception in __del__ is printed and forgotten, as one in a callback of C is."""
    process = subprocess.Popen(
        [sys.executable, "-c", SWALLOWS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    process.communicate()


@pytest.mark.parametrize(
    "there, added",
    [
        ({}, {}),
        ({"no_proxy": "a"}, {}),
        ({"http_proxy": "p"}, dict.fromkeys(("no_proxy", "NO_PROXY", "no_grpc_proxy"), "localhost,127.0.0.1,::1")),
        ({"ALL_PROXY": "p", "NO_PROXY": "a,localhost"}, dict.fromkeys(("no_proxy", "NO_PROXY", "no_grpc_proxy"), "a,localhost,127.0.0.1,::1")),
        (
            {"https_proxy": "p", "no_proxy": "a", "no_grpc_proxy": "b"},
            {"no_proxy": "a,localhost,127.0.0.1,::1", "NO_PROXY": "a,localhost,127.0.0.1,::1", "no_grpc_proxy": "b,localhost,127.0.0.1,::1"},
        ),
        ({"grpc_proxy": "p", "no_proxy": "*"}, {"no_proxy": "*", "NO_PROXY": "*", "no_grpc_proxy": "*,localhost,127.0.0.1,::1"}),
    ],
)
def test_no_proxy_for_this_machine(there, added):
    assert without_proxy(there) == added
