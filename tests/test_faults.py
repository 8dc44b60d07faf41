"""A system that fails, and a system that kills: nothing good is called damaged, nothing is replaced by less, and all goes on when it is well again."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def tried(what: str, folder: Path, **environment: str) -> int:
    """How many cases `python -m tests.faulty` tried, none of which went wrong."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faulty", what, str(folder)], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert not found["wrong"], f"{len(found['wrong'])} of {found['tried']}: " + "\n".join(found["wrong"][:8])
    return found["tried"]


@pytest.mark.parametrize("what, cases", [("faults", 150), pytest.param("every", 700, marks=pytest.mark.slow)])
def test_a_failing_system_is_neither_damage_nor_absence(what, cases, tmp_path):
    """Every error at open, read and stat of a shard, and some of them (slow: all) at fsync and rename and of every other kind of file, in both
    formats. The shards hold the only pictures; the run ends with the error's own name, and the next one gives what was there, byte for byte."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if sys.platform != "linux" or compiler is None:
        pytest.skip("calls of the system are made to fail by a small C library: Linux, and a compiler")
    made = subprocess.run(
        [compiler, "-shared", "-fPIC", "-w", "-o", str(tmp_path / "faults.so"), str(ROOT / "tests" / "faults.c"), "-ldl"], capture_output=True
    )
    if made.returncode:
        pytest.skip(f"the compiler makes no library here: {made.stderr.decode()[-300:]}")
    assert tried(what, tmp_path / "sets", LD_PRELOAD=str(tmp_path / "faults.so")) > cases


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_between_every_two_changes_of_files_nothing_is_lost(tmp_path):
    """New sets, shards made again and shards without a record, of the same size and of another; run folders; and what the version before left."""
    assert tried("kills", tmp_path / "sets") > 90
