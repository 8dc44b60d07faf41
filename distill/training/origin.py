"""What a model learned from, as far as the folder that it lies in says: that of a run, or the card of an export. Of another model nothing is known."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from distill.config.data import Holdout
from distill.config.files import load_run
from distill.config.run import Run
from distill.data.kinds import read_card
from distill.data.shards import open_shards
from distill.data.sources import held_out
from distill.errors import DistillError
from distill.storage.path import StoragePath, as_path
from distill.training.run_folder import IDENTITIES

DONORS = 8  # of one model, one behind the other, that are looked at


@dataclass(frozen=True)
class Origin:
    """What is known of a model's training.

    known: whether anything is; holdout: which rows it never saw; sets: the identity of each source that it learned from, by its name ("shards",
    "images"), "" where it is not known which one; identities: the names of the people that it was trained on, None where nobody knows; donor: what is
    known of the model whose weights it began with, None where it began with none.
    """

    known: bool = False
    holdout: Holdout | None = None
    sets: Mapping[str, str] = field(default_factory=dict)
    identities: frozenset[str] | None = None
    donor: Origin | None = None

    def as_card(self) -> dict[str, Any]:
        """Returns what the card of an export says of it: the holdout and the sets, and those of its donor; {} of one that is not known."""
        if not self.known:
            return {}
        card = {"holdout": self.holdout.model_dump() if self.holdout else None, "sets": dict(self.sets)}
        return card if self.donor is None else {**card, "donor": self.donor.as_card()}

    def learned(self, identity: str, holdout: Holdout | None) -> bool | None:
        """Returns whether it was trained on rows of the set of that identity, on those held out alone where a holdout is given; None: not known.

        Its donors count too. Rows are proven to be held out by the same rule on the same set, and no other source beside it.
        """
        if not self.known:
            return None
        own: bool | None = None if self.sets else False
        if self.sets.get("shards") == identity:
            spared = _spares(self.holdout, holdout)
            own = not spared if not spared or set(self.sets) == {"shards"} else None
        before = False if self.donor is None else self.donor.learned(identity, holdout)
        return True if own or before else None if own is None or before is None else False


def origin_of(model: str | StoragePath, depth: int = 0) -> Origin:
    """Returns what is known of a run folder, the student.keras or best.keras in one, an export, or anything else; depth: donors before it."""
    if depth > DONORS:
        return Origin()  # of a run whose donor is the run itself
    if folder := run_folder(model):
        return _of_run(folder, depth)
    card = read_card(as_path(model)) or {}
    try:
        return _of_card(card["learned_from"])
    except (KeyError, TypeError, AttributeError, ValidationError, RecursionError):
        return Origin()  # no card, or one of an earlier version


def _of_card(learned: Mapping[str, Any]) -> Origin:
    if not learned:
        return Origin()
    holdout = None if learned["holdout"] is None else Holdout.model_validate(learned["holdout"])
    donor = _of_card(learned["donor"]) if "donor" in learned else None
    return Origin(True, holdout, {str(name): str(identity) for name, identity in learned["sets"].items()}, donor=donor)


def _spares(there: Holdout | None, asked: Holdout | None) -> bool:
    """Whether a model with the holdout `there` saw none of the rows that `asked` holds out: by the same rule a smaller part lies in a larger one."""
    return there is not None and asked is not None and there.by == asked.by and asked.fraction <= there.fraction


def projection_of(model: str | StoragePath, dimension: int) -> np.ndarray | None:
    """Returns the map from a run's student to embeddings of `dimension` numbers, float32 [D, dimension], which stands in its last checkpoint."""
    folder = run_folder(model)
    if folder is None or as_path(model).name == "best.keras":
        return None
    return _stored(folder, f"projection_{dimension}/0")


def trained_names(names: Iterable[str], holdout: Holdout | None) -> frozenset[str]:
    """Returns those of a class table that a holdout leaves to learn from."""
    if holdout is None or holdout.by != "identity":
        return frozenset(names)
    return frozenset(name for name in names if not held_out(name, holdout.fraction))


def run_folder(model: str | StoragePath) -> StoragePath | None:
    """Returns the folder of the run that a folder, a student.keras or a best.keras is of; None where it is of none."""
    path = as_path(model)
    folder = {"student.keras": path.parent, "best.keras": path.parent.parent}.get(path.name, path)
    return folder if (folder / "run.toml").is_file() else None


def _of_run(folder: StoragePath, depth: int) -> Origin:
    try:
        run = load_run(folder / "run.toml")
    except DistillError:
        return Origin()
    progress = _stored(folder, "progress.json")
    sets = json.loads(progress.tobytes()).get("learned_from") if progress is not None else None
    shards = _shards(run)
    if sets is None:  # of an earlier version
        sets = {name: "" for name in ("shards", "images") if getattr(run.data, name)} | ({"shards": shards.identity} if shards else {})
    donor = None if run.student.weights is None else origin_of(run.student.weights, depth + 1)
    written = folder / IDENTITIES
    if written.is_file():
        return Origin(True, run.data.holdout, sets, frozenset(written.read_text("utf-8").split("\n")[:-1]), donor)
    by_shards_alone = run.student.weights is None and run.data.images is None and shards is not None and shards.labelled
    return Origin(True, run.data.holdout, sets, trained_names(shards.classes, run.data.holdout) if by_shards_alone and shards else None, donor)


def _shards(run: Run) -> Any:
    try:
        return open_shards(run.data.shards) if run.data.shards else None
    except (DistillError, OSError):
        return None


def _stored(folder: StoragePath, name: str) -> np.ndarray | None:
    """One array of a run's last checkpoint, without reading the others; None where there is none, or far away."""
    path = folder / "checkpoints" / "last.npz"
    if not isinstance(path, Path) or not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored[name] if name in stored.files else None
    except (zipfile.BadZipFile, ValueError, EOFError, OSError):
        return None
