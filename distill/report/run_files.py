"""What lies in a run folder, read for its pages. A file that is missing is an empty value here; one that is damaged is a message."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.config.files import load_run
from distill.config.run import Run
from distill.errors import Damaged, DistillError
from distill.storage.files import sha256_file

Figures = Mapping[str, Any]  # of one model, as evaluation.json holds them
PARTS = ("pairs", "identification", "templates", "agreement", "asymmetric", "leaks", "cost", "probe")
EVERY = ("folder", "accuracy", "std", "threshold", "tar", "genuine", "impostors")  # of each set of pairs, in every version


def read_history(path: Path) -> dict[str, np.ndarray]:
    """Returns the columns of a history.csv: float64 [epochs] each, NaN where a stage has no such figure."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except UnicodeDecodeError as error:
        raise Damaged(f"{path} is damaged: {error}. The same distill train writes it again.") from None
    except FileNotFoundError:
        raise DistillError(f"{path}: no such file. Expected the history of a run that has trained for at least one epoch.") from None
    if not rows:
        raise DistillError(f"{path}: no epochs in it. Expected the history of a run that has trained for at least one.")
    if lost := [name for name in ("loss", "seconds") if name not in rows[0]]:
        raise Damaged(f"{path} is damaged: it has no column {' and no column '.join(lost)}. The same distill train writes it again.")
    try:
        return {name: np.array([float(row[name]) if row[name] else np.nan for row in rows]) for name in rows[0]}
    except (TypeError, ValueError) as error:
        raise Damaged(f"{path} is damaged: {error}. The same distill train writes it again.") from None


def read_json_of(path: Path) -> dict[str, Any]:
    """Returns the content of a JSON file; {} where there is none."""
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path} is damaged: {error}. Remove it, and let the verb that wrote it write it again.") from None
    if not isinstance(content, dict):
        raise Damaged(f"{path} is damaged: it holds {type(content).__name__}, expected an object. Remove it, and let the verb that wrote it write it again.")
    return content


def _as_written(path: Path, part: str = "", /, **kinds: type) -> dict[str, Any]:
    """Returns the content of a JSON file, or a part of it, whose named values are of these kinds where they are there."""
    content = read_json_of(path)
    content = content[part] if part else content
    odd = ["it"] if not isinstance(content, dict) else [name for name, kind in kinds.items() if not isinstance(content.get(name, kind()), kind)]
    if odd:
        where = f"{part}: {odd[0]}" if part else odd[0]
        raise Damaged(f"{path} is not as distill writes it: {where} is of another kind. Remove it, and let the verb that wrote it write it again.")
    return dict(content)


@dataclass(frozen=True)
class Scores:
    """The cosines of a model on a set of pairs: scores float [N], same bool [N], first and second: the keys of the images; far, tar: its ROC."""

    scores: np.ndarray
    same: np.ndarray
    first: np.ndarray
    second: np.ndarray
    far: np.ndarray | None = None
    tar: np.ndarray | None = None


@dataclass(frozen=True)
class RunFiles:
    """A run as its folder holds it.

    Attributes:
        history: columns of history.csv.
        summary, evaluation, exports: of summary.json, evaluation.json and exports.json; {} where there is none.
        run_file: None where there is none, or one of another version.
        text: of run.toml.
        evaluated: the folder of the evaluation: the run, or "evaluation" in it where the run itself has none.
        who: the name of this run's student in its evaluation.
    """

    folder: Path
    history: Mapping[str, np.ndarray]
    summary: Mapping[str, Any]
    evaluation: Mapping[str, Figures]
    exports: Mapping[str, Any]
    run_file: Run | None
    text: str
    evaluated: Path
    who: str = "model"

    @classmethod
    def read(cls, folder: Path) -> RunFiles:
        file = folder / "run.toml"
        evaluated = folder if (folder / "evaluation.json").is_file() else folder / "evaluation"
        evaluation, who = _evaluation_of(folder, evaluated)
        return cls(
            folder,
            read_history(folder / "history.csv"),
            _as_written(folder / "summary.json", parameters=int, epochs=int),
            evaluation,
            {name: _as_written(folder / "exports.json", name, path=str, bytes=int) for name in read_json_of(folder / "exports.json")},
            _run_file(file),
            file.read_text(encoding="utf-8", errors="replace") if file.is_file() else "",
            evaluated,
            who,
        )

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def finished(self) -> bool:
        return bool(self.summary) or self.run_file is None

    @property
    def student(self) -> Figures:
        """The figures of the run's student; {} where it was not evaluated."""
        return self.evaluation.get(self.who, {})

    @property
    def teacher(self) -> Figures:
        """The figures of the teacher on the same pairs; {} where none was given."""
        return self.evaluation.get("teacher", {})

    @property
    def leaks(self) -> Figures:
        """What the evaluation shows of the rows of a set, which stands with the first of its models; {} where it was not looked for."""
        return next((one["leaks"] for one in self.evaluation.values() if one.get("leaks")), {})

    def scores(self, who: str, number: int = 1) -> Scores | None:
        """Returns the scores of a model on a set of pairs, which count from 1; None where there are none."""
        stored = self.arrays(who)
        names = [name if number == 1 else f"{name}_{number}" for name in ("scores", "same", "first", "second", "roc_far", "roc_tar")]
        if not {*names[:4]} <= stored.keys():
            return None
        return Scores(*(stored.get(name) for name in names))  # type: ignore[arg-type]

    def arrays(self, who: str) -> dict[str, np.ndarray]:
        """Returns what scores-WHO.npz holds; {} where there is none."""
        path = self.evaluated / f"scores-{who}.npz"
        if not path.is_file():
            return {}
        try:
            with np.load(path, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise Damaged(f"{path} is damaged: {error}. Evaluate the run again, with --out {self.evaluated}.") from None


def sets_of(figures: Figures) -> Sequence[Figures]:
    """Returns the figures of a model on each set of pairs, in the order given."""
    return [figures["pairs"], *figures.get("more_pairs", ())] if figures.get("pairs") else []


def set_name(figures: Figures) -> str:
    """Returns what a set of pairs is called: the last part of its path."""
    return str(figures.get("folder", "")).rstrip("/").rpartition("/")[2] or "pairs"


def _evaluation_of(folder: Path, evaluated: Path) -> tuple[dict[str, Figures], str]:
    """Returns the evaluation.json of a run, which lies in `evaluated`, and the name of the run's student in it; ({}, "model") where it has none."""
    evaluation: dict[str, Figures] = {who: one for who, one in read_json_of(evaluated / "evaluation.json").items() if isinstance(one, dict)}
    for who, figures in evaluation.items():
        if odd := [name for name in PARTS if not isinstance(figures.get(name) or {}, dict)]:
            raise Damaged(
                f"{evaluated / 'evaluation.json'} is not as distill evaluate writes it: {odd[0]} of {who} is of another kind. Evaluate the run again."
            )
        for each in sets_of(figures):
            if not isinstance(each, dict) or (lost := [name for name in EVERY if name not in each]):
                told = "hold no figures" if not isinstance(each, dict) else f"lack {', '.join(lost)}"
                raise Damaged(f"{evaluated / 'evaluation.json'} is not as distill evaluate writes it: the pairs of {who} {told}. Evaluate the run again.")
    models = {who: one for who, one in evaluation.items() if who != "teacher"}
    own = (
        {sha256_file(file) for file in (*folder.glob("*.keras"), *folder.glob("checkpoints/*.keras"))}
        if any("sha256" in one for one in models.values())
        else set()
    )
    mine = next((name for name, one in models.items() if _is_of(one, folder, own, len(models))), "")
    return (evaluation, mine or "model") if mine or not models else ({}, "model")


def _is_of(figures: Figures, folder: Path, own: set[str], models: int) -> bool:
    """Returns whether figures are of a model of this run: by its file's SHA-256. An evaluation of an earlier version has none: then by its path, or
    because it is of one model alone and lies here."""
    if "sha256" in figures:
        return figures["sha256"] in own
    path = figures.get("path")
    return (bool(path) and Path(str(path)).resolve().is_relative_to(folder.resolve())) or (models == 1 and (not path or not Path(str(path)).exists()))


def _run_file(path: Path) -> Run | None:
    try:
        return load_run(path)
    except (DistillError, OSError):
        return None
