"""What a run takes from the run that it starts from, beside the student: rows of class heads, by the names of their classes.

The names of the classes stand in the last checkpoint of each run beside the heads, as a JSON list in UTF-8 for each class table.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from distill.config.data import Holdout
from distill.config.files import load_run
from distill.config.losses import Head
from distill.config.run import Run
from distill.errors import Damaged, DistillError
from distill.models.heads import AnyHead, LinearHead
from distill.models.transfer import rows_by_name
from distill.runtime.lines import many
from distill.storage.path import StoragePath, as_path, local_copy
from distill.training.model import Parts
from distill.training.origin import run_folder, trained_names
from distill.training.stages import StageData

CLASSES = "classes/"
NEW = 'Leave head out (or head = "new")'


def class_tables(stages: Sequence[StageData]) -> dict[str, np.ndarray]:
    """Returns the class tables of all heads of a run, as its checkpoints hold them: by "classes/SOURCE_NUMBER", JSON as bytes."""
    tables = {data.table: list(data.train.class_names) for data in stages if data.heads}
    return {f"{CLASSES}{table}": np.frombuffer(json.dumps(names).encode(), np.uint8) for table, names in tables.items()}


def keep_heads(run: Run, stages: Sequence[StageData], parts: Parts) -> list[str]:
    """Gives the class heads of a new run the rows that its donor has for the same classes, where student.head = "kept" asks for it.

    Returns:
        A line for each head: how many of its classes begin with a row of the donor's.
    Raises:
        DistillError: there is no donor with such heads, or none of its classes is here.
    """
    if run.student.head == "new" or run.student.weights is None:
        return []
    wanted = {name: (head, data) for data in stages for head, name in data.heads.items() if not head.taught}
    if not wanted:
        raise DistillError(f'student.head = "kept", but no stage of this run learns a class head. {NEW}.')
    folder, path = _checkpoint(run.student.weights)
    try:
        with np.load(path, allow_pickle=False) as stored:
            tables = {name.removeprefix(CLASSES): json.loads(stored[name].tobytes()) for name in stored.files if name.startswith(CLASSES)}
            if not tables:
                raise DistillError(f"student.head: {path} names no classes: no class head was trained there, or by an earlier version of distill. {NEW}.")
            holdout = load_run(folder / "run.toml").data.holdout
            seen = {table: _trained(names, holdout) for table, names in tables.items()}
            return [_keep(parts.heads[name], head, data, stored, seen, path) for name, (head, data) in wanted.items()]
    except (zipfile.BadZipFile, EOFError, ValueError) as error:
        raise Damaged(f"{path} is damaged: {error}. {NEW}.") from None


def _checkpoint(weights: str) -> tuple[StoragePath, Path]:
    """Returns the folder of a run, and its last checkpoint on disk."""
    folder = run_folder(weights)
    path = folder / "checkpoints" / "last.npz" if folder else None
    if folder is None or path is None or as_path(weights).name == "best.keras" or not path.is_file():
        raise DistillError(f'student.head = "kept" takes class heads from the last checkpoint of a run, and weights = "{weights}" is none. Name its folder.')
    return folder, local_copy(str(path))


def _trained(names: Sequence[str], holdout: Holdout | None) -> list[str | None]:
    """Returns a class table with None in the place of those that were held out, whose rows learned nothing."""
    kept = trained_names(names, holdout)
    return [name if name in kept else None for name in names]


def _keep(layer: AnyHead, head: Head, data: StageData, stored: Mapping[str, np.ndarray], tables: Mapping[str, Sequence[str | None]], path: Path) -> str:
    """Gives a head the rows of the donor's head of the same kind that shares most classes with it."""
    suffix = "" if head == Head() else f"_{head.name}"
    names = list(data.train.class_names)
    alike = {table: len(set(names).intersection(filter(None, there))) for table, there in tables.items() if f"{table}{suffix}/0" in stored}
    table = max(alike, key=lambda each: alike[each], default="")
    if not alike.get(table):
        there = f"{many(len(names), 'classes')} here, none of them among its {', '.join(tables)}" if alike else f'no head of the kind "{head.name}" there'
        raise DistillError(f'student.head = "kept" finds nothing to keep in {path}: {there}. {NEW}.')
    for number, variable in enumerate(layer.variables):
        across = isinstance(layer, LinearHead) and number == 0  # a kernel [D, classes]
        old, new = (_by_class(array, count, across) for array, count in ((stored[f"{table}{suffix}/{number}"], len(tables[table])), (variable, len(names))))
        if old.shape[1:] != new.shape[1:]:
            raise DistillError(
                f'student.head = "kept": the rows of {path} have {old.shape[1]} numbers, those of this run {new.shape[1]}. {NEW}, or use the same embedding.'
            )
        rows, _ = rows_by_name(tables[table], old, names, new)
        variable.assign(rows.T if across else rows.reshape(variable.shape))
    return f"class head {data.table}{suffix}: {alike[table]:,} of {many(len(names), 'classes')} begin with their rows of {table}{suffix} in {path}"


def _by_class(array: object, classes: int, across: bool) -> np.ndarray:
    """Returns a variable of a head with the classes along its first axis; what belongs to one of them (sub-centres too) along the second."""
    plain = keras.ops.convert_to_numpy(array)
    return plain.T if across else plain.reshape(classes, -1)
