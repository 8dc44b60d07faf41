"""The losses under the other backend, in one process of its own."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.losses.cases import CASES

ROOT = Path(__file__).parents[2]
FAST = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"  # what runs once is not worth making quick


pytestmark = pytest.mark.skipif(not find_spec("jax"), reason="jax is not installed")


def test_losses_are_the_same_under_jax():
    done = subprocess.run([sys.executable, "-m", "tests.losses.under_jax"], cwd=ROOT, env=under_jax(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(CASES)} losses\n"


@pytest.mark.slow
def test_state_and_golden_values_hold_under_jax():
    """In a real training too. What goes through all losses is above: operation by operation it would take minutes."""
    left_out = [f"--ignore=tests/losses/test_{name}.py" for name in ("jax", "all", "finite")]
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-m", "not slow", "tests/losses", *left_out]
    done = subprocess.run(words, cwd=ROOT, env=under_jax(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def under_jax():
    return {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": FAST}
