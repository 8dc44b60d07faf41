"""Checkpoints of a run: all weights with the optimizer's state, and how far the run is. Each file appears whole or not at all.

In last.npz every variable is an array under the name that `Parts.variables` gives it, and progress.json is the text of `Progress` as bytes.
"""

import json
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from distill.errors import Damaged, DistillError
from distill.storage.files import committed, failure, is_there, temporary_for
from distill.training.layers import all_trainable

PROGRESS = "progress.json"


@dataclass
class Progress:
    """How far a run is: its cursor is (stage, epoch, step).

    Attributes:
        stage: index from 0.
        epoch: how many of its epochs are done.
        step: how many steps of the epoch after these are done: 0, because a checkpoint is written at an epoch's end. It is not stored where it is 0.
        best: the lowest loss of the stage, on held-out rows where there are such.
        waited: epochs since then, in a stage whose schedule is "plateau".
        history: a row an epoch, all stages.
        left_out: images that could not be read, by the kind of their reason.
        learned_from: the identity of each source, by its name.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: float | None = None
    waited: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    learned_from: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps({name: value for name, value in asdict(self).items() if name != "step" or value})

    @property
    def kept(self) -> str:
        """Which epoch the last checkpoint is of, in words; "" where there is none."""
        return f"the checkpoint of stage {self.history[-1]['stage']}, epoch {self.history[-1]['epoch']} stays" if self.history else ""


def save_checkpoint(path: Path, progress: Progress, arrays: dict[str, np.ndarray]) -> None:
    """Replaces the checkpoint in one rename: a kill before it leaves the old one."""
    state = np.frombuffer(progress.to_json().encode(), np.uint8)
    with committed(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **{PROGRESS: state}, **arrays)  # type: ignore[arg-type]


def load_checkpoint(path: Path) -> tuple[Progress, dict[str, np.ndarray]] | None:
    """Returns the progress and the arrays of a checkpoint, whose checksums are checked; None where there is none.

    Raises:
        DistillError: it is damaged, or was taken within an epoch.
    """
    if not is_there(path):
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        progress = Progress(**json.loads(arrays.pop(PROGRESS).tobytes()))
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError) as error:
        if failed := failure(path, error):
            raise failed from error
        raise Damaged(f"{path} is damaged: {error}. Remove it to start the run from its beginning.") from None
    if progress.step:
        raise DistillError(f"{path} was taken after step {progress.step} of an epoch, by a later version of distill. Go on with that version.")
    return progress, arrays


def restore(variables: dict[str, Any], arrays: dict[str, np.ndarray], where: Path) -> None:
    """Assigns the arrays of a checkpoint. DistillError where it was made by other code or another Keras."""
    for name, variable in variables.items():
        array = arrays.get(name)
        if array is None or tuple(array.shape) != tuple(variable.shape):
            found = "missing" if array is None else f"of shape {array.shape}"
            expected = f"expected shape {tuple(variable.shape)}"
            raise DistillError(f"{where}/last.npz does not fit: {name} ({variable.path}) is {found}, {expected}. Use another folder.")
        variable.assign(array)


def save_student(student: Any, path: Path, folder: Path) -> None:
    """Writes the student as a .keras file, by way of a draft in `folder`. In the file every layer is trainable, whatever its stage freezes."""
    draft = temporary_for(folder / path.stem).with_suffix(".keras")  # Keras saves under its own suffix only
    try:
        with all_trainable(student):
            student.save(draft)
        with committed(path) as temporary:
            draft.replace(temporary)
    finally:
        draft.unlink(missing_ok=True)
