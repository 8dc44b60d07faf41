"""Small real things that many tests share: drawn faces as files, a teacher that is a real SavedModel, and object stores.

`make test` has two processes for two cores, and six minutes. What is dear, and what to take in its place:

- A process that imports TensorFlow costs 4 s of a core. `inside("embed", ...)` runs a command line in the test's own process. Where it must be a
  process of its own (kills, Ctrl-C, threads, environment, a session without what other tests have imported), `warm(...)` and `begin(...)` of
  tests/warm.py fork one in which TensorFlow is there already: 0.05 s. `distill(...)` begins from nothing, for what only that shows: imports,
  closed streams, limits of a process. Workers of `--engine processes` import for themselves: the teacher `quick` (ONNX) spares them TensorFlow.
- A set, a teacher or a folder that tests only read is a fixture of the session, made with `once(...)`, which both processes share. One that a
  test changes is a copy of such a one (`shutil.copytree`), not made anew. `faces` and `teacher` below are the smallest useful ones.
- A parameter is cheap where the work is done once before it: make in a fixture, look in the parametrised test.
- Nothing may depend on the order of tests, on being alone on the machine (a deadline of seconds is a minute when the other core is taken), on a
  fixed port, or on files outside tmp_path.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# one thread, whoever begins to compute first in this process: two processes for two cores, and the same bits whatever ran before
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")

import fcntl
import io
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from tests.stores import serving

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
    """The command line as a person runs it, in a process of its own, which TensorFlow is told nothing about."""
    command = [sys.executable, "-m", "distill.cli", *map(str, words)]
    env = {name: value for name, value in options.pop("env", os.environ).items() if name != "TF_NUM_INTRAOP_THREADS"}
    return subprocess.run(command, capture_output=True, text=True, timeout=options.pop("timeout", 180), env=env, **options)


def inside(*words: object) -> subprocess.CompletedProcess:
    """The same command line in this process, where TensorFlow is there already."""
    from distill.cli import outcome

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = outcome([str(word) for word in words])
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def messages(done: subprocess.CompletedProcess) -> list[str]:
    """The lines of stderr, but for phases ("loading the teacher ..."), which a slow machine says and a fast one does not."""
    return [line for line in done.stderr.strip().splitlines() if not line.endswith(" ...")]


def once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Returns the path that `make` has filled, once for all processes of a session; the others wait for it. Who gets it only reads.

    Args:
        name: unique in the suite.
        make: is given a path that does not exist yet, in a folder that does.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "once" / name
    shared.mkdir(parents=True, exist_ok=True)
    with open(shared / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (shared / ".made").exists():
            make(shared / name)
            (shared / ".made").touch()
    return shared / name


def snapshot(folder, *but: str, times: bool = True) -> dict[str, tuple]:
    """Every name below a folder, on disk or in an object store, with what is in it, and when it was written."""
    if not isinstance(folder, Path):
        found = [(path, path.stat()) for path, is_file in folder.entries(recursive=True) if is_file]
        return {path.path: (path.read_bytes(), state.st_mtime_ns) for path, state in found}
    found = [(path.relative_to(folder).as_posix(), path) for path in (folder, *folder.rglob("*")) if path.name not in but]
    return {
        name: (os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "folder", path.lstat().st_mtime_ns if times else 0)
        for name, path in found
    }


@pytest.fixture(scope="session")
def faces(tmp_path_factory) -> Path:
    """12 identities of 10 drawn pictures, 32x32, in class folders."""
    from distill.synthetic.folder import draw_folder

    return once(tmp_path_factory, "faces", lambda root: draw_folder(root, **FACES))


@pytest.fixture(scope="session")
def teacher(tmp_path_factory) -> Path:
    """A SavedModel of 32x32 pictures and 16 numbers, made in a process of its own."""
    return once(tmp_path_factory, "teacher", save_teacher)


def save_teacher(path: Path) -> None:
    from tests.warm import warm_code

    done = warm_code(TEACHER, path)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def quick(tmp_path_factory) -> Path:
    """A teacher that loads in no time and without TensorFlow, also in worker processes: the mean colour of 32x32 pictures, as ONNX."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    photo = onnx.helper.make_tensor_value_info("photo", onnx.TensorProto.FLOAT, ("N", 32, 32, 3))
    output = onnx.helper.make_tensor_value_info("output", onnx.TensorProto.FLOAT, ("N", 3))
    node = onnx.helper.make_node("ReduceMean", ["photo"], ["output"], axes=[1, 2], keepdims=0)
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "mean", [photo], [output]), opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path_factory.mktemp("quick") / "mean.onnx"
    onnx.save(model, str(path))
    return path


# ------------------------------------------------------------------------------------------------------------------------- object stores


@pytest.fixture(scope="session", params=["gs", "s3"])
def store(request):
    with serving(request.param) as store:
        yield store


@pytest.fixture
def folder(store, request, monkeypatch):
    """A folder of the test's own, in a store that answers."""
    from distill.storage.path import as_path

    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    forget_clients()
    yield as_path(store.root) / request.node.name
    store.faults(0.0)
    forget_clients()


def forget_clients():
    from distill.data.archives import archive
    from distill.storage import client, objects

    archive._opened.clear()
    for made in (client.filesystem, client.google, objects._has_bucket):
        made.cache_clear()


def put(path, data: bytes):
    from distill.storage.files import committed

    with committed(path) as temporary:
        temporary.write_bytes(data)
    return path


def upload_all(local: Path, folder) -> None:
    with ThreadPoolExecutor(16) as pool:
        files = [path for path in local.rglob("*") if path.is_file()]
        list(pool.map(lambda path: (folder / path.relative_to(local).as_posix()).upload(path), files))
