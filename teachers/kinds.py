"""Which kind of model lies at a path, found by names alone: milliseconds, and no library is loaded."""

from distill.errors import DistillError
from distill.storage.path import StoragePath, close_to
from teachers.checkpoint import find_index
from teachers.foreign import WEIGHTS, known_name

LOADERS = {
    "saved_model": "teachers.saved_model",
    "keras": "teachers.keras_file",
    "onnx": "teachers.onnx_file",
    "litert": "teachers.litert_file",
    "openvino": "teachers.openvino_file",
    "tf1": "teachers.tf1_graph",
}
SUFFIXES = {".keras": "keras", ".h5": "keras", ".hdf5": "keras", ".onnx": "onnx", ".tflite": "litert", ".xml": "openvino", ".pb": "tf1"}
# Those with more files beside the one that is named: their loaders have `names_beside` and `external_files`.
BESIDE = ("onnx", "openvino", "tf1")
# Engines that keep the number of threads that they were made with.
THREADED = ("onnx", "litert", "openvino")
# What decides a SavedModel's answers. Left out: fingerprint.pb, which holds a random number, and what people or systems put beside it, and
# so model.json, whose values a set keeps itself in its metadata.
SAVED_MODEL_PARTS = ("saved_model.pb", "variables", "assets")
STUDENT = "student.keras"
NO_MODELS = (".weights.h5", ".weights.hdf5", "keras_metadata.pb", "fingerprint.pb")  # ends of names that look like a model's
EXPECTED = (
    "expected a SavedModel folder (saved_model.pb), a .keras, .h5, .onnx, .tflite or .xml (OpenVINO) file, a .meta or .pb file of TensorFlow 1, "
    "or the folder of a run (student.keras)"
)


def find(path: StoragePath) -> tuple[StoragePath, str]:
    """Returns the path of the model that is meant, and its kind, a key of LOADERS. DistillError with what lies there where it is no model."""
    if path.name == SAVED_MODEL_PARTS[0] and path.is_file():
        path = path.parent
    if path.is_dir():
        return _in_folder(path)
    if path.suffix.lower() == ".bin" and path.with_suffix(".xml").is_file():
        path = path.with_suffix(".xml")
    if (index := find_index(path)) is not None:
        return index, "tf1"
    if not path.is_file():
        raise DistillError(f"No model at {path}; {EXPECTED}.{close_to(path)}")
    if path.suffix.lower() not in SUFFIXES:
        known = known_name(path)
        if known:
            raise DistillError(f"{path} {known}")
        raise DistillError(f"{path} is no model that can be read here; {EXPECTED}.")
    return path, SUFFIXES[path.suffix.lower()]


def _in_folder(path: StoragePath) -> tuple[StoragePath, str]:
    if (path / SAVED_MODEL_PARTS[0]).is_file():
        return path, "saved_model"
    if (path / STUDENT).is_file():
        return path / STUDENT, "keras"
    if (index := find_index(path)) is not None:
        return index, "tf1"
    inside = sorted(child for child in path.iterdir() if _is_model(child))
    if not inside and ((path / "checkpoint").is_file() or any(child.suffix == ".index" for child in path.iterdir())):
        raise DistillError(f"{path} {WEIGHTS}")
    hint = f" Did you mean {inside[0]}?" if inside else ""
    raise DistillError(f"{path} is a folder without a model; {EXPECTED}.{hint}")


def _is_model(path: StoragePath) -> bool:
    """Whether a name in a folder looks like a model: a SavedModel, the folder of a run, or a whole model in one file."""
    if (path / SAVED_MODEL_PARTS[0]).is_file() or (path / STUDENT).is_file():
        return True
    return path.suffix.lower() in SUFFIXES and not path.name.lower().endswith(NO_MODELS) and path.is_file()
