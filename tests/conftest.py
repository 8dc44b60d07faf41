"""Small real things that many tests share: drawn faces as files, and a teacher that is a real SavedModel."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import io
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

FACES = {"identities": 12, "images": 10, "size": 32}

# A SavedModel without Keras: one convolution with fixed weights, pooled, so that it loads in no time and every pixel counts.
TEACHER = """
import sys
import numpy as np
import tensorflow as tf

class Teacher(tf.Module):
    def __init__(self):
        rng = np.random.default_rng(0)
        self.kernel = tf.Variable(rng.normal(size=(5, 5, 3, 24)).astype("float32") / 8)
        self.top = tf.Variable(rng.normal(size=(24 * 4, 16)).astype("float32") / 10)

    @tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.float32, name="images")])
    def serve(self, images):
        maps = tf.nn.relu(tf.nn.conv2d(images / 127.5 - 1.0, self.kernel, 2, "SAME"))
        pooled = tf.nn.avg_pool2d(maps, 8, 8, "VALID")
        return {"output": tf.reshape(pooled, [-1, 24 * 4]) @ self.top}

teacher = Teacher()
tf.saved_model.save(teacher, sys.argv[1], signatures=teacher.serve)
"""


def distill(*words: object, **options) -> subprocess.CompletedProcess:
    """The command line as a person runs it, in a process of its own."""
    command = [sys.executable, "-m", "distill.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=options.pop("timeout", 180), **options)


def inside(*words: object) -> subprocess.CompletedProcess:
    """The same command line in this process, where TensorFlow is there already."""
    from distill.cli import outcome

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = outcome([str(word) for word in words])
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> Path:
    """12 identities of 10 drawn pictures, 32x32, in class folders."""
    from distill.faces import draw_folder

    root = tmp_path_factory.mktemp("faces")
    draw_folder(root, **FACES)
    return root


@pytest.fixture(scope="session")
def teacher(tmp_path_factory) -> Path:
    """A SavedModel of 32x32 pictures and 16 numbers, made in a process of its own."""
    path = tmp_path_factory.mktemp("models") / "teacher"
    subprocess.run([sys.executable, "-c", TEACHER, str(path)], check=True, capture_output=True, timeout=120)
    return path
