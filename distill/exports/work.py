"""What an export does in a process of its own: it writes the files of a student, and proves each one in its own engine.

The `.keras` file is reopened with the TensorFlow backend on the CPU: a student trained with JAX exports too, no GPU rounds the comparison (TF32
keeps 10 of 23 bits), and the caller's process loads no TensorFlow. The last line of its output is one JSON object: a Report, or {"error": message}.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from distill.errors import DistillError
from distill.exports.convert import convert, served_model
from distill.exports.formats import ALL, FORMATS, bytes_of
from distill.exports.proof import Load, Student, compare_tars, prove, tar_of
from distill.exports.samples import Samples, Where, find_samples
from distill.exports.saved_model import sizes_of, write_saved_model

Read = Callable[[str], Any]  # (path) -> a Keras model
NO_IMAGES = (
    "needs images of the kind that the student is made for, to find the ranges of its numbers. Give some: --images FOLDER, or --shards SHARDS that hold images."
)


@dataclass(frozen=True)
class Work:
    """What to do.

    Attributes:
        student: the .keras or .h5 file.
        folder: where the files are written; it is there.
        format: what was asked for, "all" leaves out what cannot be made without images.
        places: {format: path of its main file below `folder`, "" for the folder itself}.
        where: the images of the proof.
        pairs: sets of pairs, on which no export may lose; pairs_root, number: see open_pairs.
    """

    student: str
    folder: str
    format: str
    places: dict[str, str]
    where: Where = Where()
    pairs: tuple[str, ...] = ()
    pairs_root: str | None = None
    number: int | None = None


@dataclass
class Report:
    """facts: of the student and of the SavedModel; exports: {format: figures}; left_out: {format: reason}."""

    facts: dict[str, Any] = field(default_factory=dict)
    exports: dict[str, dict[str, Any]] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def do(work: Work, load: Load, read: Read | None = None) -> Report:
    """Writes and proves all files. DistillError where one cannot be made, or is not the student.

    load: how users load a model, (path) -> callable uint8 [B, H, W, 3] -> float32 [B, D]. read: how the file of a student is read, in place of `open_student`.
    """
    model = (read or open_student)(work.student)
    height, width, dimension = sizes_of(model)
    student, report = Student(model, height, width, dimension), Report()
    samples = find_samples(work.where, height, width)
    names = _possible(work, samples, report)
    expected = student(samples.proof)
    report.facts = {**_facts(model, student, expected), "proof": {"images": len(samples.proof), "source": samples.source}}
    sets = _pair_sets(work)
    students = tar_of(student, sets, work.where.resize, work.where.exif)
    served = served_model(model) if set(names) - {"saved_model"} else None
    for name in names:
        path = Path(work.folder) / work.places[name]
        if name == "saved_model":
            report.facts |= write_saved_model(model, path)
        else:
            convert(name, served, path, samples.calibration)
        loaded, figures = prove(name, path, samples.proof, expected, load)
        if sets:
            figures["pairs"] = compare_tars(name, sets, students, tar_of(loaded, sets, work.where.resize, work.where.exif))
        files = [work.places[name] or "."] if name == "saved_model" else list(FORMATS[name].files)
        size = bytes_of(Path(work.folder), work.places[name], name)
        report.exports[name] = {"files": files, "bytes": size, "input": "uint8" if name == "litert_int8" else "float32", **figures}
    return report


def _facts(model: Any, student: Student, expected: Any) -> dict[str, Any]:
    """Returns what a card says of the student itself. expected: its embeddings of the images of the proof."""
    import keras
    import numpy as np
    import tensorflow as tf

    lengths = np.linalg.norm(expected.astype(np.float64), axis=1)
    return {
        "height": student.height,
        "width": student.width,
        "dimension": student.dimension,
        "parameters": model.count_params(),
        "unit_length": bool(np.abs(lengths - 1).max() < 1e-3),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


def open_student(file: str) -> Any:
    """Returns the Keras model in a file. DistillError where there is none."""
    import keras

    try:
        return keras.models.load_model(file, compile=False)  # safe mode stays on: a student holds no code
    except Exception as error:  # of any class; Keras has the cause at the end
        cause = str(error).rpartition("Exception encountered:")[2].strip() or type(error).__name__
        raise DistillError(f"cannot be opened as a Keras model: {cause.splitlines()[0]}") from error


def _possible(work: Work, samples: Samples, report: Report) -> list[str]:
    """Returns the formats that can be made with these images, and notes those that cannot. DistillError where one of them was asked for."""
    if samples.calibration is not None:
        return list(work.places)
    lacking = [name for name in work.places if FORMATS[name].calibrated]
    if lacking and work.format != ALL:
        raise DistillError(f"{lacking[0]} {NO_IMAGES}")
    report.left_out.update(dict.fromkeys(lacking, f"it {NO_IMAGES}"))
    return [name for name in work.places if name not in lacking]


def _pair_sets(work: Work) -> Any:
    from distill.evaluation.pair_sets import open_pairs
    from distill.storage.path import as_path

    return open_pairs([as_path(one) for one in work.pairs], None if work.pairs_root is None else as_path(work.pairs_root), work.number)


def main(request: str, load: Load, read: Read | None = None) -> int:
    """Does what a file of JSON says, and prints the answer; returns the exit code."""
    from distill.storage.json_files import parse_json

    work = parse_json(Path(request).read_bytes(), Work)
    answer: dict[str, Any]
    try:
        answer = asdict(do(work, load, read))
    except DistillError as error:
        answer = {"error": str(error)}
    except OSError as error:
        answer = {"error": f"{error.filename or work.folder}: {error.strerror or error}"}
    print(json.dumps(answer))
    sys.stdout.flush()
    return 2 if "error" in answer else 0
