"""A file on disk as a teacher: uint8 images in, float32 embeddings out. What the model wants instead of that is said once, in a `Teacher`.

A `Teacher` is a value: it names a model and how to speak to it, pickles to a few hundred bytes and loads nothing. The weights appear in
`Teacher.load()`, once in each process, and again only when the files have changed. A loaded teacher may be called by many threads at once.
Neither importing this nor opening a teacher imports TensorFlow.

The pixels that the model sees are

    x * scale + offset        computed in float32; x are the pixels 0 to 255, in the order of `color`

so that (x - 127.5) / 127.5 is scale=1/127.5, offset=-1, and x / 255 is scale=1/255. What the model answers is handed on as it is, not
normalised; rows that are not finite are the caller's to judge.
"""

import hashlib
import importlib
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from distill import DistillError
from distill.process import grow_gpu_memory, keep_memory, quiet_import
from teachers.loaded import LoadedTeacher

COLORS = ("rgb", "bgr")
LOADERS = {"saved_model": "teachers.saved_model", "keras": "teachers.keras_file"}
KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
# What decides a SavedModel's answers. Left out: fingerprint.pb, which holds a random number, and what people or systems put beside it.
SAVED_MODEL_PARTS = ("saved_model.pb", "variables", "assets")
STUDENT = "student.keras"
EXPECTED = "expected a SavedModel folder (saved_model.pb), a .keras or .h5 file, or the folder of a run (student.keras)"

_loaded: dict[str, tuple[object, LoadedTeacher]] = {}
_loading = Lock()
_threads = (0, 0)


@dataclass(frozen=True)
class Teacher:
    """A model on disk and how to speak to it. Made by `open_teacher`, which checks that it is there.

    path: SavedModel folder or Keras file; kind: a key of LOADERS; signature, output: names within the model, None for its own
    (`serving_default`; `output`; or the only one there is); scale, offset: see the module's formula; color: "rgb" or "bgr".
    """

    path: str
    kind: str
    signature: str | None = None
    output: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    color: str = "rgb"

    def __post_init__(self) -> None:
        if self.kind not in LOADERS:
            raise DistillError(f"teacher {self.path}: kind {self.kind!r}, expected one of: {', '.join(LOADERS)}.")
        if self.color not in COLORS:
            raise DistillError(f"teacher {self.path}: color {self.color!r}, expected one of: {', '.join(COLORS)}.")
        if not (math.isfinite(self.scale) and math.isfinite(self.offset)) or self.scale == 0:
            raise DistillError(f"teacher {self.path}: pixels * {self.scale} + {self.offset}: expected two finite numbers, the first not 0.")

    def load(self) -> LoadedTeacher:
        """The model, ready to be called: read once in a process, however many threads ask, and again when its files have changed."""
        with _loading:
            key, state = os.path.abspath(self.path), (self, _stamp(self))
            if key not in _loaded or _loaded[key][0] != state:
                _loaded.pop(key, None)  # an older reading of the same model must not stay in memory beside the new one
                _loaded[key] = (state, LoadedTeacher(self, importlib.import_module(LOADERS[self.kind]).load(self)))
            return _loaded[key][1]

    def files(self) -> list[tuple[str, Path]]:
        """(name relative to the model, path) of every file that decides its answers, ordered by the UTF-8 bytes of the name."""
        root = Path(self.path)
        if root.is_file():
            return [("model", root)]  # the same model under another name is the same teacher
        found = [path for part in SAVED_MODEL_PARTS for path in ([root / part] if (root / part).is_file() else (root / part).rglob("*"))]
        named = [(path.relative_to(root).as_posix(), path) for path in found if path.is_file()]
        if not named:
            raise DistillError(f"teacher {self.path} is not there any more; {EXPECTED}.")
        return sorted(named, key=lambda item: os.fsencode(item[0]))

    def fingerprint(self) -> str:
        """sha256 (64 hex digits) over the model's files: for each its name, a zero byte, its size in 8 bytes big endian, and its bytes.

        The same wherever the model lies and whatever its folder or file is called. Streamed: 0.1 s for 100 MB.
        """
        digest = hashlib.sha256()
        for name, path in self.files():
            digest.update(os.fsencode(name) + b"\0" + path.stat().st_size.to_bytes(8, "big"))
            with path.open("rb") as stream:
                while block := stream.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


def open_teacher(
    path: str | os.PathLike[str],
    *,
    signature: str | None = None,
    output: str | None = None,
    scale: float = 1.0,
    offset: float = 0.0,
    color: str = "rgb",
) -> Teacher:
    """The teacher at `path`, described but not loaded: looks at what lies there, in milliseconds. DistillError where no model does."""
    found, kind = _find(Path(path))
    return Teacher(str(found), kind, signature, output, float(scale), float(offset), color)


def load_teacher(
    path: str | os.PathLike[str],
    *,
    signature: str | None = None,
    output: str | None = None,
    scale: float = 1.0,
    offset: float = 0.0,
    color: str = "rgb",
) -> LoadedTeacher:
    """`open_teacher(...).load()`.

    >>> teacher = load_teacher("teacher", scale=1 / 127.5, offset=-1)
    >>> teacher(np.zeros((2, 112, 112, 3), np.uint8)).shape
    (2, 512)
    """
    return open_teacher(path, signature=signature, output=output, scale=scale, offset=offset, color=color).load()


def limit_threads(intra: int, inter: int = 0) -> bool:
    """How many threads TensorFlow takes in this process: `intra` within an operation, `inter` beside each other; 0 leaves it the choice.

    To be called before TensorFlow computes anything; it is not imported for this. Returns False when it already runs with another number,
    which then stays. The number of threads within an operation moves embeddings in the last bits of a float32 (up to 4e-7 of the norm),
    the number beside each other moves none.
    """
    global _threads
    if min(intra, inter) < 0:
        raise DistillError(f"threads {intra} and {inter}: expected 0 or more.")
    _threads = (intra, inter)
    return "tensorflow" not in sys.modules or _apply_threads()


def start_tensorflow() -> Any:
    """Import TensorFlow and hand it over, with the threads that were asked for, and GPU memory that grows as it is needed."""
    keep_memory()
    with quiet_import():
        import tensorflow as tf

        grow_gpu_memory()
    _apply_threads()
    return tf


def _apply_threads() -> bool:
    import tensorflow as tf

    try:
        if _threads[0]:
            tf.config.threading.set_intra_op_parallelism_threads(_threads[0])
        if _threads[1]:
            tf.config.threading.set_inter_op_parallelism_threads(_threads[1])
    except RuntimeError:
        return False  # it computes already
    return True


def _find(path: Path) -> tuple[Path, str]:
    if path.name == SAVED_MODEL_PARTS[0] and path.is_file():
        path = path.parent
    if path.is_dir():
        if (path / SAVED_MODEL_PARTS[0]).is_file():
            return path, "saved_model"
        if (path / STUDENT).is_file():
            return path / STUDENT, "keras"
        inside = sorted(child for child in path.iterdir() if (child / SAVED_MODEL_PARTS[0]).is_file() or child.suffix in KERAS_SUFFIXES)
        hint = f" Did you mean {inside[0]}?" if inside else ""
        raise DistillError(f"{path} is a folder without a model; {EXPECTED}.{hint}")
    if not path.is_file():
        raise DistillError(f"No teacher at {path}; {EXPECTED}.")
    if path.suffix.lower() not in KERAS_SUFFIXES:
        raise DistillError(f"{path} is no model that can be read here; {EXPECTED}.")
    return path, "keras"


def _stamp(teacher: Teacher) -> tuple[tuple[str, int, int], ...]:
    states = [(name, path.stat()) for name, path in teacher.files()]
    return tuple((name, state.st_size, state.st_mtime_ns) for name, state in states)
