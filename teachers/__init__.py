"""A file on disk as a teacher: uint8 images in, float32 embeddings out. What the model wants instead of that is said once, in a `Teacher`.

A `Teacher` is a value: it names a model and how to speak to it, pickles to a few hundred bytes and loads nothing. The weights appear in
`Teacher.load()`, once in each process, and again only when the files have changed. A loaded teacher may be called by many threads at once.
Neither importing this nor opening a teacher imports TensorFlow or another engine.

How pixels are handed over is its `Preprocessing` (distill/images/preprocessing.py has the formula). What the model answers is handed on as it is,
not normalised; rows that are not finite are the caller's to judge.
"""

import gc
import hashlib
import importlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, Unpack

from distill.arguments import checked
from distill.errors import DistillError
from distill.images.preprocessing import Preprocessing, PreprocessingOptions, Scalar, preprocessing_of
from distill.runtime.process import grow_gpu_memory, keep_memory_again
from distill.runtime.progress import phase
from distill.runtime.quiet import quiet_import
from distill.storage.path import StoragePath, as_path, local_copy
from teachers.kinds import BESIDE, EXPECTED, LOADERS, SAVED_MODEL_PARTS, THREADED, find
from teachers.loaded import LoadedTeacher

log = logging.getLogger("distill")
_told: set[str] = set()
_loaded: dict[str, tuple[tuple[Any, ...], LoadedTeacher]] = {}
_loading = Lock()
_threads = (0, 0)


@dataclass(frozen=True)
class Teacher:
    """A model on disk and how to speak to it. Made by `open_teacher`, which checks that it is there.

    path: SavedModel folder, or a file; kind: a key of LOADERS; preprocessing: what a set says of itself when this made it.
    """

    path: str
    kind: str
    preprocessing: Preprocessing = Preprocessing()

    def __post_init__(self) -> None:
        if self.kind not in LOADERS:
            raise DistillError(f"teacher {self.path}: kind {self.kind!r}, expected one of: {', '.join(LOADERS)}.")
        if self.preprocessing.scale == 0:
            raise DistillError(f"teacher {self.path}: pixels * 0 + {self.preprocessing.offset}: expected a scale that is not 0.")
        if self.preprocessing.tags is not None and self.kind != "saved_model":
            raise DistillError(f"teacher {self.path} is no SavedModel, so it has no tags. Leave --tags away.")

    def load(self) -> LoadedTeacher:
        """The model, ready to be called: read once in a process, however many threads ask, and again when its files have changed."""
        with _loading:
            key, state = os.path.abspath(self.local), (self, _stamp(self), _threads if self.kind in THREADED else None)
            if key not in _loaded or _loaded[key][0] != state:
                _loaded.pop(key, None)  # the same model as it was opened before must not stay in memory beside the new one
                with phase("loading the model"):
                    _loaded[key] = (state, LoadedTeacher(self, _loader(self.kind).load(self)))
            return _loaded[key][1]

    @property
    def local(self) -> Path:
        """Where the model lies on this machine: its own place, or the copy of an object store's that this process has fetched."""
        return local_copy(self.path, _loader(self.kind).names_beside) if self.kind in BESIDE else local_copy(self.path)

    def files(self) -> list[tuple[str, Path]]:
        """(name relative to the model, path) of every file that decides its answers, ordered by the UTF-8 bytes of the name."""
        root = self.local
        if root.is_file():
            beside = _loader(self.kind).external_files(root, self.path) if self.kind in BESIDE else []
            return [("model", root), *beside]  # the same model under another name is the same teacher
        found = [path for part in SAVED_MODEL_PARTS for path in ([root / part] if (root / part).is_file() else (root / part).rglob("*"))]
        named = [(path.relative_to(root).as_posix(), path) for path in found if path.is_file()]
        if not named:
            raise DistillError(f"teacher {self.path} is not there any more; {EXPECTED}.")
        return sorted(named, key=lambda item: os.fsencode(item[0]))

    def fingerprint(self) -> str:
        """sha256 (64 hex digits) over the model's files: for each its name, a zero byte, its size in 8 bytes big endian, and its bytes.

        The same wherever the model lies and whatever its folder or file is called. Streamed: 0.1 s for 100 MB, and kept in this process
        until the files change.
        """
        return _hash(self, _stamp(self))


@checked
def open_teacher(
    path: str | os.PathLike[str] | StoragePath,
    *,
    signature: str | None = None,
    output: str | None = None,
    scale: float | None = None,
    offset: float | None = None,
    color: str | None = None,
    preset: str | None = None,
    feed: Mapping[str, Scalar] | None = None,
    tags: Sequence[str] | None = None,
    input: str | None = None,
    beside: bool = True,
) -> Teacher:
    """The teacher at `path`, described but not loaded: looks at what lies there, in milliseconds. DistillError where no model does.

    preset: a key of PRESETS, in place of scale, offset and color. feed: {name: value} of inputs beside the images; a text is read as the input's type wants
    it. input: the one that takes the images, where the model does not say it. tags: of a graph in a SavedModel with several; an empty one for that without
    tags. beside: whether a `model.json` beside the model says what is not given here (see `teachers.model_json`); no for a set's own preprocessing, which
    says all.
    """
    given = preprocessing_of(
        path, signature=signature, output=output, scale=scale, offset=offset, color=color, preset=preset, feed=feed, tags=tags, input=input
    )
    return describe_teacher(path, given, beside)


def describe_teacher(path: str | os.PathLike[str] | StoragePath, given: Preprocessing, beside: bool = True) -> Teacher:
    """`open_teacher` for who has the preprocessing as a value, such as a run file or the metadata of a set."""
    found, kind = find(as_path(path))
    return Teacher(str(found), kind, (_with_beside(str(found), given) if beside else given).whole())


def _with_beside(model: str, given: Preprocessing) -> Preprocessing:
    """What is given, over what `model.json` says; it is reported once in a process that something was taken from there."""
    from teachers.model_json import path_beside, read_beside

    beside = read_beside(model)
    line = f"preprocessing from {path_beside(model)}: {taken}" if str(taken := beside.without(given)) else ""
    if line and line not in _told:
        _told.add(line)
        log.warning(line)
    return given.over(beside)


def load_teacher(path: str | os.PathLike[str], **options: Unpack[PreprocessingOptions]) -> LoadedTeacher:
    """`open_teacher(...).load()`.

    >>> teacher = load_teacher("teacher", scale=1 / 127.5, offset=-1)
    >>> teacher(np.zeros((2, 112, 112, 3), np.uint8)).shape
    (2, 512)
    """
    return open_teacher(path, **options).load()


def let_go(teacher: Teacher) -> None:
    """Forgets a model that this process has loaded, so that its memory is free where nobody else holds it; `load` then reads it again."""
    with _loading:
        gone = [key for key, (state, _) in _loaded.items() if state[0] == teacher]
        for key in gone:
            del _loaded[key]
    if gone:
        gc.collect()  # a model of TensorFlow holds itself in circles


def limit_threads(intra: int, inter: int = 0) -> bool:
    """How many threads a teacher takes in this process: `intra` within an operation, `inter` beside each other; 0 leaves the choice.

    To be called before TensorFlow computes anything; it is not imported for this. Returns False when it already runs with another number,
    which then stays; other engines take `intra` for what is loaded from then on. The number of threads within an operation moves embeddings
    in the last bits of a float32 (up to 4e-7 of the norm), the number beside each other moves none.
    """
    global _threads
    if min(intra, inter) < 0:
        raise DistillError(f"threads {intra} and {inter}: expected 0 or more.")
    _threads = (intra, inter)
    return "tensorflow" not in sys.modules or _apply_threads()


def asked_threads() -> tuple[int, int]:
    """What `limit_threads` was called with last."""
    return _threads


def start_tensorflow() -> Any:
    """Import TensorFlow and hand it over, with the threads that were asked for, and GPU memory that grows as it is needed."""
    keep_memory_again()
    with phase("importing TensorFlow"), quiet_import():
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


def _loader(kind: str) -> Any:
    return importlib.import_module(LOADERS[kind])


def _stamp(teacher: Teacher) -> tuple[tuple[str, int, int], ...]:
    states = [(name, path.stat()) for name, path in teacher.files()]
    return tuple((name, state.st_size, state.st_mtime_ns) for name, state in states)


@lru_cache(maxsize=16)
def _hash(teacher: Teacher, stamp: object) -> str:
    digest = hashlib.sha256()
    for name, path in teacher.files():
        digest.update(os.fsencode(name) + b"\0" + path.stat().st_size.to_bytes(8, "big"))
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
