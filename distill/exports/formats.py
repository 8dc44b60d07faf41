"""The formats of exports: the files of each, the libraries that it needs, and how close to the student it has to come."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from distill.errors import DistillError, how_to_install

ALL = "all"


@dataclass(frozen=True)
class Format:
    """One format.

    Attributes:
        files: what is written, below the folder of the export; the first one is what is opened.
        libraries: modules that writing or running it needs, beside what distill always has.
        extra: of pyproject.toml, which brings these.
        least: of the 1 % quantile of cosines to the student.
        length: how much the median length of an embedding may differ from the student's, as a share.
        calibrated: whether it is made with images that show the ranges of its numbers.
    """

    files: tuple[str, ...]
    libraries: tuple[str, ...] = ()
    extra: str = ""
    least: float = 0.999
    length: float = 0.02
    calibrated: bool = False


FORMATS: dict[str, Format] = {
    "saved_model": Format(("saved_model",)),
    "onnx": Format(("student.onnx",), ("tf2onnx", "onnx", "onnxruntime"), "onnx"),
    "litert": Format(("student.float32.tflite",)),
    "litert_float16": Format(("student.float16.tflite",)),
    "litert_int8": Format(("student.int8.tflite",), least=0.98, length=0.1, calibrated=True),
    "openvino": Format(("student.xml", "student.bin"), ("openvino",), "openvino"),
}


def missing(name: str) -> str:
    """Returns what this machine lacks for a format and how to get it, "" where it lacks nothing."""
    wanted = FORMATS[name]
    lacking = [library for library in wanted.libraries if find_spec(library) is None]
    return f"it needs {' and '.join(lacking)}: {how_to_install(wanted.extra)}" if lacking else ""


def chosen(format: str) -> tuple[dict[str, str], dict[str, str]]:
    """Returns the formats to write, {format: path of its main file below OUT, "" for OUT itself}, and those left out, {format: reason}.

    DistillError for a format that is unknown, or that this machine cannot make.
    """
    if format == ALL:
        lacking = {name: missing(name) for name in FORMATS}
        places = {name: FORMATS[name].files[0] for name, reason in lacking.items() if not reason}
        return places, {name: reason for name, reason in lacking.items() if reason}
    if format not in FORMATS:
        raise DistillError(f"export format {format!r} is unknown. Expected one of: {', '.join([*FORMATS, ALL])}.")
    if reason := missing(format):
        raise DistillError(f"export format {format}: {reason}")
    return {format: "" if format == "saved_model" else FORMATS[format].files[0]}, {}


def bytes_of(folder: Path, place: str, name: str) -> int:
    """Returns the size of all files of a format, where its main file is `place` below a folder; of a SavedModel without what stands beside it."""
    main = folder / place
    if main.is_dir():
        parts = [main / part for part in ("saved_model.pb", "fingerprint.pb", "variables", "assets")]
        return sum(path.stat().st_size for part in parts for path in ([part] if part.is_file() else part.rglob("*")) if path.is_file())
    return sum((folder / file).stat().st_size for file in FORMATS[name].files)
