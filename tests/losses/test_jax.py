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


@pytest.mark.skipif(not find_spec("jax"), reason="jax is not installed")
def test_losses_are_the_same_under_jax():
    env = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": FAST}
    done = subprocess.run([sys.executable, "-m", "tests.losses.under_jax"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(CASES)} losses\n"
