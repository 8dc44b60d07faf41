"""The process of its own that an export runs in: `python -m distill.api.export_process REQUEST`. Here, because it loads each file as users do, with `teachers`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from teachers import LoadedTeacher


def load_plainly(path: Path) -> LoadedTeacher:
    """Loads a model on disk as it is, without what a model.json beside it says."""
    from teachers import open_teacher

    return open_teacher(path, beside=False).load()


def read_keras(path: str) -> Any:
    """Returns the Keras model in a file, also in one of Keras 2, whose pixels are 0 to 255: what a model.json beside it says of them is put before it.

    Raises:
        DistillError: it is no such model, or wants another order of colours.
    """
    import zipfile

    from distill.errors import DistillError
    from distill.exports.work import open_student
    from teachers.keras_file import read_model
    from teachers.model_json import read_beside

    model, seen = open_student(path) if zipfile.is_zipfile(path) else read_model(Path(path), path), read_beside(path)
    if seen.color != "rgb":
        raise DistillError("it wants its colours as BGR, which its model.json says, and no export exchanges them. Put that into the model where it was made.")
    if (seen.scale, seen.offset) == (1.0, 0.0):
        return model
    import keras

    given = keras.Input(model.input_shape[1:], name="image")
    return keras.Model(given, model(keras.layers.Rescaling(seen.scale, seen.offset)(given)))


if __name__ == "__main__":
    from distill.exports.work import main

    sys.exit(main(sys.argv[1], load_plainly, read_keras))
