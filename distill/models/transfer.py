"""Weights from elsewhere: what a student starts from when [student] names weights."""

from pathlib import Path

import keras

from distill.config.student import Student
from distill.errors import DistillError
from distill.models.scaling import settle_scales
from distill.storage.path import as_path, local_copy


def weights_file(student: Student) -> Path | None:
    """Returns the file of student.weights, None where it is not set. Raises DistillError where it is missing."""
    if student.weights is None:
        return None
    given = as_path(student.weights)
    path = given / "student.keras" if given.is_dir() else given
    if not path.is_file():
        expected = "a finished run's folder, a student's .keras file, or an .h5 file with the weights of a keras.applications backbone"
        raise DistillError(f"student.weights: {path} is not there. Expected {expected}.")
    return local_copy(str(path))


def copy_weights(model: keras.Model, path: Path) -> None:
    """Gives a student the weights of another one. Raises DistillError where that cannot be loaded, or a weight has another shape there."""
    try:
        donor = keras.models.load_model(path, compile=False)
    except Exception as error:  # of any class; Keras has the cause at the end
        cause = str(error).rpartition("Exception encountered:")[2].strip() or type(error).__name__
        raise DistillError(f"student.weights: {path} cannot be loaded: {cause.splitlines()[0]}") from None
    mine, theirs = ([tuple(weight.shape) for weight in each.weights] for each in (model, donor))
    if mine != theirs:
        place = next((place for place, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), min(len(mine), len(theirs)))
        shapes = [str(each[place]) if place < len(each) else "none" for each in (theirs, mine)]
        raise DistillError(
            f"student.weights: {path} is another student: weight {place + 1} has shape {shapes[0]} there and {shapes[1]} here. "
            "Use the same backbone, widths and embedding as it was made with."
        )
    model.set_weights(donor.get_weights())
    settle_scales(model)
