"""Memory that a process frees stays with it; imports that talk are quiet, unless they fail."""

import os
import resource
import signal
import subprocess
import sys
from multiprocessing import get_context
from types import SimpleNamespace

import pytest

from distill.runtime.process import grow_gpu_memory, keep_memory
from distill.runtime.quiet import quiet_import, speak
from distill.runtime.signals import uninterrupted


def faults(blocks: int, size: int = 16 << 20) -> int:
    """Page faults of taking and freeing so many bytes that often."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(blocks):
        b"x" * size  # not numpy, which asks for huge pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def test_freed_memory_is_used_again():
    if not keep_memory():
        pytest.skip("the C library has no mallopt")
    faults(2)
    assert faults(20) < 2000  # 16 MB are 4,096 pages: 80,000 faults if each block were new


def test_a_thread_uses_its_memory_again_too():
    code = (
        "import threading, sys; from distill.runtime.process import keep_memory; from tests.runtime.test_process import faults\n"
        "if not keep_memory(): sys.exit(3)\n"
        "told = []; thread = threading.Thread(target=lambda: (faults(2, 100 << 20), told.append(faults(5, 100 << 20)))); thread.start(); thread.join(); print(told[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip("the C library has no mallopt")
    assert int(done.stdout) < 2000, done.stderr  # 100 MB are 25,600 pages


@pytest.mark.parametrize("error", [None, RuntimeError, ValueError])
def test_gpu_memory_grows_on_every_card_unless_they_are_in_use(monkeypatch, error):
    grown = []

    def grow(device, on):
        if error:
            raise error("in use")
        grown.append((device, on))

    listed = {"GPU": ["first", "second"]}
    config = SimpleNamespace(list_physical_devices=listed.get, experimental=SimpleNamespace(set_memory_growth=grow))
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace(config=config))
    assert grow_gpu_memory() is (error is None)
    assert grown == ([] if error else [("first", True), ("second", True)])


def test_what_an_import_says_is_kept_back(capfd, monkeypatch):
    monkeypatch.delenv("DISTILL_DEBUG", raising=False)
    with quiet_import():
        os.write(2, b"chatter from C")
    assert capfd.readouterr().err == ""


def test_what_a_failing_import_says_is_shown():
    code = "import os\nfrom distill.runtime.quiet import quiet_import\nwith quiet_import():\n    os.write(2, b'the reason')\n    raise ImportError('broken')\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "the reason" in done.stderr and "broken" in done.stderr and done.returncode == 1


def test_a_last_word_is_heard_in_the_middle_of_an_import(capfd, monkeypatch):
    monkeypatch.delenv("DISTILL_DEBUG", raising=False)
    with quiet_import(), quiet_import():
        os.write(2, b"chatter from C")
        speak()
        os.write(2, b"the end")
    speak()
    os.write(2, b", really")
    assert capfd.readouterr().err == "the end, really"


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="the system has no signal masks")
def test_what_is_started_uninterrupted_does_not_see_ctrl_c():
    def blocked():
        told = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
        here = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
        return here, subprocess.run([sys.executable, "-c", told], capture_output=True, text=True).stdout.strip()

    assert blocked() == (False, "False")
    with uninterrupted():
        child = get_context("spawn").Process(target=int)  # multiprocessing's own helper takes masks away when it starts
        child.start()
        child.join()
        assert blocked() == (True, "True")
    assert blocked() == (False, "False")
