"""Weights from elsewhere: what a student starts from when [student] names weights, and rows of a class head by the names of its classes.

Where the backbone is the same and only the size of the embedding is not, all but the last layers are taken, and those that begin anew are named.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from distill.config.student import OURS, Student
from distill.errors import DistillError
from distill.models.exported import INDEX, exported_weights
from distill.models.scaling import settle_scales
from distill.storage.path import as_path, local_copy

Arrays = list[np.ndarray | None]

LAST = {"embedding": 2, "projection": 1, "projection_norm": 4}  # layers that may begin anew, and how many weights they have


def weights_file(student: Student) -> Path | None:
    """Returns the file of student.weights, or the folder of an export, None where it is not set. Raises DistillError where it is missing."""
    if student.weights is None:
        return None
    given = as_path(student.weights)
    if (given / INDEX).is_file():
        return local_copy(str(given))
    path = given / "student.keras" if given.is_dir() else given
    if not path.is_file():
        expected = "a finished run's folder, a student's .keras file, an export of one, or an .h5 file with the weights of a student or of a keras.applications backbone"
        raise DistillError(f"student.weights: {path} is not there. Expected {expected}.")
    return local_copy(str(path))


def start(model: keras.Model, student: Student) -> list[str]:
    """Gives a new student the weights that it starts from.

    Returns:
        What begins anew all the same, a line for a person; none where every weight was taken, or none was asked for.
    Raises:
        DistillError: they cannot be loaded, or are those of another backbone.
    """
    path = weights_file(student)
    if path is None or of_backbone(path, student):
        return []
    last = [model.get_layer(name) for name in LAST if any(layer.name == name for layer in model.layers)]
    body = model.weights[: len(model.weights) - sum(len(layer.weights) for layer in last)]
    theirs: Arrays = _from_h5(model, path) if path.suffix == ".h5" else [*exported_weights(path)] if path.is_dir() else _from_keras(path)
    _check_body(body, theirs, path)
    for weight, array in zip(body, theirs, strict=False):
        weight.assign(array)
    anew = _take_last(last, theirs[len(body) :])
    settle_scales(model)
    return [f"student.weights: {path} is taken but for {', '.join(anew)}"] if anew else []


def of_backbone(path: Path, student: Student) -> bool:
    """Returns whether a file is for the backbone alone: an .h5 file for keras.applications, without the layers that a student has around it."""
    if path.suffix != ".h5" or student.backbone in OURS:
        return False
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return "layers/functional" not in file and "embedding" not in file.get("model_weights", file)
    except OSError:  # whoever loads it says why
        return True


def _check_body(body: list[keras.Variable], theirs: Arrays, path: Path) -> None:
    """Raises DistillError with the first difference where the weights before the embedding are not those of this backbone."""
    here = [tuple(weight.shape) for weight in body]
    there = [None if array is None else array.shape for array in theirs]
    place = next((place for place, shape in enumerate(here) if place >= len(there) or there[place] != shape), None)
    if place is None and len(there) - len(here) in (LAST["embedding"], sum(LAST.values())):
        return
    if place is None:
        difference = f"it has {len(there)} weights, {len(here)} of them before the embedding are as here"
    else:
        found = "none" if place >= len(there) else there[place] or "another"
        difference = f"weight {place + 1} has shape {found} there and {here[place]} here ({body[place].path})"
    raise DistillError(f"student.weights: {path} is another student: {difference}. Use the same backbone and its options as it was made with.")


def _take_last(last: list[keras.Layer], theirs: Arrays) -> list[str]:
    """Gives the layers from the embedding on their weights, up to the first that has other shapes. Returns those that begin anew, or are left out, in words."""
    told: list[str] = []
    for layer, count in zip(last, LAST.values(), strict=False):
        arrays, theirs = theirs[:count], theirs[count:]
        fit = len(arrays) == count and all(a is not None and a.shape == tuple(w.shape) for a, w in zip(arrays, layer.weights, strict=True))
        if fit and not told:
            layer.set_weights(arrays)
        else:
            there = "none" if not arrays else "another" if arrays[0] is None else "x".join(map(str, arrays[0].shape))
            why = "behind one that does" if fit else f"{there} there, {'x'.join(map(str, layer.weights[0].shape))} here"
            told.append(f"{layer.name}, which begins anew ({why})")
    return told + (["its projection, which is left out"] if theirs else [])


def _from_keras(path: Path) -> Arrays:
    try:
        donor = keras.models.load_model(path, compile=False)
    except Exception as error:  # of any class; Keras has the cause at the end
        cause = str(error).rpartition("Exception encountered:")[2].strip() or type(error).__name__
        raise DistillError(f"student.weights: {path} cannot be loaded: {cause.splitlines()[0]}") from None
    return list(donor.get_weights())


def _from_h5(model: keras.Model, path: Path) -> Arrays:
    """Returns the weights that a file has for a student, None in the place of those that have another shape there; the student stays as it is.

    Only Keras knows which array belongs to which layer in each of its layouts. What it leaves out is still what it was marked with.
    """
    before = [keras.ops.convert_to_numpy(variable) for variable in model.variables]  # dropout's random state too
    try:
        for weight in model.weights:
            if "float" in str(weight.dtype):
                weight.assign(np.full(weight.shape, np.nan, "float32"))
        held = _load_h5(model, path)
        found = [keras.ops.convert_to_numpy(weight) for weight in model.weights]
    finally:
        for variable, value in zip(model.variables, before, strict=True):
            variable.assign(value)
    arrays: Arrays = [None if np.isnan(array).all() else array for array in found]
    return arrays[:held] + [None] * (held - len(arrays))


def _load_h5(model: keras.Model, path: Path) -> int:
    """Loads what fits, and returns how many weights the file has."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            held = _count(file.get("model_weights", file))
        to_embedding = keras.Model(model.input, model.get_layer("embedding").output)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on each weight of another shape
            (model if held >= len(model.weights) else to_embedding).load_weights(path, skip_mismatch=True)
    except Exception as error:  # Keras and h5py raise of many classes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DistillError(f"student.weights: {path} cannot be loaded into this student: {reason}") from None
    return held


def _count(group: object) -> int:
    """Returns how many arrays of a file are weights: neither an optimizer's nor the random state of dropout."""
    import h5py

    names: list[str] = []
    group.visititems(lambda name, found: names.append(name) if isinstance(found, h5py.Dataset) else None)  # type: ignore[attr-defined]
    return sum("optimizer" not in name and "seed_generator" not in name for name in names)


def rows_by_name(old_names: Sequence[str | None], old: np.ndarray, names: Sequence[str], new: np.ndarray) -> tuple[np.ndarray, int]:
    """Returns the rows of a class head with those of the classes that both class tables have taken from the old one.

    Args:
        old_names: the class of each row of `old`; None for a row that is not to be taken.
        old, new: [classes there, ...] and [classes here, ...].
        names: the class of each row of `new`.
    Returns:
        Like `new`, which stays as it is, and how many rows were taken.

    >>> rows_by_name(["ann", "bob", None], np.array([[1.0], [2.0], [3.0]]), ["eve", "bob"], np.array([[8.0], [9.0]]))
    (array([[8.],
           [2.]]), 1)
    """
    places = {name: place for place, name in enumerate(old_names) if name is not None}
    here = [place for place, name in enumerate(names) if name in places]
    rows = new.copy()
    rows[here] = old[[places[names[place]] for place in here]]
    return rows, len(here)
