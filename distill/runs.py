"""What a run leaves on disk. Every file appears whole under its name; a run killed at any moment goes on from its last epoch.

    run.toml                the resolved run; another run in the same folder is refused
    history.csv             one row an epoch, all stages
    events/                 the same figures for TensorBoard
    checkpoints/last.npz    all weights, the optimizer's state and the progress after the last epoch
    checkpoints/best.keras  the student with the lowest held-out loss of its stage (training loss where nothing is held out)
    student.keras           the student after the last stage, without heads; written at the end
    summary.json            the final figures; where it lies the run is finished
"""

import csv
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from distill import DistillError
from distill.config import Run, differences, dump_run, load_run
from distill.files import committed, sweep, write_json
from distill.locks import only_process


@dataclass
class Progress:
    """How far a run is. stage: index from 0; epoch: how many of its epochs are done.

    best: the lowest judged loss of the stage; waited: epochs since then; history: one dict an epoch, all stages."""

    stage: int = 0
    epoch: int = 0
    seconds: float = 0.0
    best: float | None = None
    waited: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)


class RunFolder:
    """The folder of one run. Opening it writes run.toml, or refuses a folder that holds another run (DistillError names the keys)."""

    def __init__(self, path: str | Path, run: Run) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.student = self.path / "student.keras"
        self.best = self.checkpoints / "best.keras"
        self.history = self.path / "history.csv"
        written = self.path / "run.toml"
        begun = (self.checkpoints / "last.npz").exists() or (self.path / "summary.json").exists()
        if written.exists() and begun:
            changed = differences(load_run(written), run)
            if changed:
                raise DistillError(
                    f"{self.path} holds another run. Different (there, here): {'; '.join(changed)}. "
                    "Use another folder, or the same settings to go on."
                )
        self.checkpoints.mkdir(parents=True, exist_ok=True)
        for folder in (self.path, self.checkpoints):
            sweep(folder)
        if not (written.exists() and begun):  # a run that never came to its first checkpoint gives way
            with committed(written) as temporary:
                temporary.write_text(dump_run(run), "utf-8")

    @contextmanager
    def held(self) -> Iterator[None]:
        """The folder for this process alone, or DistillError where another one trains there. Half a student of a dead one is removed."""
        with only_process(self.path, "trainer"):
            for draft in self.checkpoints.glob(".*.keras"):
                draft.unlink()
            yield

    def summary(self) -> dict[str, Any] | None:
        """The final figures of a finished run, else None."""
        path = self.path / "summary.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else None

    def finish(self, summary: dict[str, Any]) -> None:
        write_json(self.path / "summary.json", summary)

    def save(self, progress: Progress, arrays: dict[str, np.ndarray]) -> None:
        """Replace the last checkpoint in one rename, then history.csv. A kill before the rename leaves the old one."""
        state = np.frombuffer(json.dumps(asdict(progress)).encode(), np.uint8)
        with committed(self.checkpoints / "last.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, **{"progress.json": state}, **arrays)  # type: ignore[arg-type]
        self.write_history(progress.history)

    def load(self) -> tuple[Progress, dict[str, np.ndarray]] | None:
        """The last checkpoint; None in a run that has none. Its checksums are checked."""
        path = self.checkpoints / "last.npz"
        if not path.exists():
            return None
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            return Progress(**json.loads(arrays.pop("progress.json").tobytes())), arrays
        except (zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError) as error:
            raise DistillError(f"{path} is damaged: {error}. Remove it to start the run from its beginning.") from None

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """history.csv, written anew so that it never says more or less than the checkpoint."""
        columns = list(dict.fromkeys(name for row in history for name in row))
        with committed(self.history) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            for row in history:
                table.writerow({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()})
