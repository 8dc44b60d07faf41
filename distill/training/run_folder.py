"""What a run leaves on disk. Every file appears whole under its name; a run killed at any moment goes on from its last epoch.

run.toml                the resolved run; another run in the same folder is refused, where what it learns from lies may change
history.csv             one row an epoch, all stages
events/                 the same figures for TensorBoard
checkpoints/last.npz    all weights, the optimizer's state, the progress after the last epoch, and the names of the classes
checkpoints/NAME.npz    means of the teacher's embeddings of each class, where a term takes its centres from them
checkpoints/best.keras  the student with the lowest held-out loss of its stage (training loss where nothing is held out)
student.keras           the student after the last stage, without heads; written at the end
identities.txt          the names of the people that it was trained on, where all are known
summary.json            the final figures; where it lies the run is finished
"""

import csv
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from distill.config.files import differences, dump_run, load_run
from distill.config.run import Run
from distill.config.stage import NoiseStage
from distill.data.folders import make_folder
from distill.errors import Damaged, DistillError
from distill.storage.files import committed, is_there, sweep
from distill.storage.json_files import read_json, read_toml, write_json
from distill.storage.locks import only_process
from distill.storage.path import as_path
from distill.training.checkpoint import Progress, load_checkpoint, save_checkpoint

IDENTITIES = "identities.txt"

# Of [data]: where rows lie, who is asked beside, how fast. Nothing of it changes what a row teaches; that rows are the same is proven when they are open.
WHERE = ("shards", "images", "root", "threads", "teacher", "max_rejects")


def taught_alike(there: Run, here: Run, *, whole: bool) -> Run:
    """Returns the run `here` with what teaches nothing as it is `there`, so that what differs still makes another run.

    whole: whether a checkpoint has all weights, so that the donor (student.weights) may be gone or left out; one that is there is another donor.
    """
    data = {name: getattr(there.data, name) for name in WHERE}
    for name in ("shards", "images"):
        if getattr(here.data, name) is None or data[name] is None:  # that there is one at all is no matter of place
            data[name] = getattr(here.data, name)
    stages = [
        now.model_copy(update={"teacher": then.teacher})
        if isinstance(then, NoiseStage) and isinstance(now, NoiseStage) and _same_place(then.teacher, now.teacher)
        else now
        for then, now in zip(there.stage, here.stage, strict=False)
    ]
    donor, given = there.student.weights, here.student.weights
    if _same_place(donor, given) or (whole and donor and not (given and as_path(given).exists())):
        given = donor
    lost = whole and here.student.weights is None and there.student.weights is not None  # and with it what its heads were to give
    return here.model_copy(
        update={
            "data": here.data.model_copy(update=data),
            "stage": (*stages, *here.stage[len(stages) :]),
            "student": here.student.model_copy(update={"weights": given, **({"head": there.student.head} if lost else {})}),
        }
    )


def _moved(written: dict[str, Any], run: Run) -> str:
    """Returns a run.toml with the places of `run`; what it does not say it still does not, because that may mean the rule of an earlier version."""
    import tomli_w

    places = run.data.model_dump(mode="json", include=set(WHERE), exclude_none=True)
    kept = {name: value for name, value in written.get("data", {}).items() if name not in WHERE}
    return tomli_w.dumps({**written, "data": {**kept, **places}})


def _same_place(one: str | None, other: str | None) -> bool:
    return one == other or (one is not None and other is not None and os.path.realpath(one) == os.path.realpath(other))


def _identity_at(name: str, path: str | None) -> str:
    """The identity of a set that lies where a run of an earlier version, which kept none, began with it; "" where nothing can be known."""
    from distill.data.shards import open_shards

    try:
        return open_shards(path).identity if name == "shards" and path else ""
    except (DistillError, OSError):
        return ""


class RunFolder:
    """The folder of one run. Making this value writes nothing; `held` takes the folder for this process before anything in it is touched."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / "checkpoints"
        self.student = self.path / "student.keras"
        self.best = self.checkpoints / "best.keras"
        self.history = self.path / "history.csv"
        self.tables: dict[str, np.ndarray] = {}  # class tables, to be kept with each checkpoint
        self.people: set[str] | None = None  # names of all that the run is trained on, to be kept with its next checkpoint
        self._averaged: list[Path] = []  # centres of classes that this process wrote
        self._check_hold: Callable[[], None] = lambda: None

    def check(self, run: Run) -> bool:
        """Returns whether this run has begun here. DistillError where another one has; a run that left no student and no checkpoint gives way."""
        written = self.path / "run.toml"
        left = self._left()
        if left and not is_there(written):
            raise DistillError(f"{self.path} holds {left[0].relative_to(self.path)} but no run.toml, so nobody knows of which run. Use another folder.")
        whole = any(path.name in ("last.npz", "summary.json") for path in left)
        begun = load_run(written) if left else run
        changed = differences(begun, taught_alike(begun, run, whole=whole))
        if changed:
            raise DistillError(
                f"{self.path} holds another run. Different (there, here): {'; '.join(changed)}. "
                f"Use another folder, or the same settings to go on.{self._prolonged(changed)}"
            )
        return bool(left)

    def by_its_rule(self, run: Run) -> Run:
        """Returns the run as it began here: one of an earlier version, whose run.toml does not say all_files, listed all files of its images."""
        written = self.path / "run.toml"
        if not is_there(written) or "all_files" in read_toml(written).get("data", {}) or not run.data.images:
            return run
        return run.model_copy(update={"data": run.data.model_copy(update={"all_files": True})})

    def _left(self) -> list[Path]:
        """Returns what is there of a run that has begun."""
        return [path for path in (self.checkpoints / "last.npz", self.best, self.student, self.path / "summary.json") if is_there(path)]

    def _prolonged(self, changed: list[str]) -> str:
        """How to train further, where nothing but the length of a run that has its student was changed."""
        if not self.student.exists() or not all(re.match(r"stage\.\d+\.epochs: |stage\.\d+\.[\w.]+: not set, ", each) for each in changed):
            return ""
        return (
            f" To train its student further, give it to another run: --out OTHER --set student.weights={self.path}. "
            "Class heads (but with --set student.head=kept), a projection and the optimizer begin anew there."
        )

    def prove(self, run: Run, progress: Progress, learned_from: dict[str, str]) -> None:
        """Check that a run goes on with what it began with, wherever that lies now, and let run.toml say where.

        Args:
            learned_from: the identity of each source that was opened, by its name; kept in `progress`.
        Raises:
            DistillError: it is something else, or cannot be known.
        """
        begun = load_run(self.path / "run.toml")
        for name, identity in learned_from.items():
            there, here = getattr(begun.data, name), getattr(run.data, name)
            known = progress.learned_from.get(name) or (identity if _same_place(there, here) else _identity_at(name, there))
            if not known:
                raise DistillError(f"data.{name}: {self.path} began with {there}, which is not there to compare {here} with. Name it as it was named.")
            if known != identity:
                raise DistillError(
                    f"data.{name}: {here} is not what {self.path} learned from: other rows, labels or embeddings than {there} had. "
                    "Name that one, wherever it lies now, or use another folder."
                )
        progress.learned_from = learned_from
        if any(getattr(begun.data, name) != getattr(run.data, name) for name in WHERE):
            with committed(self.path / "run.toml") as temporary:
                temporary.write_text(_moved(read_toml(self.path / "run.toml"), run), "utf-8")

    @contextmanager
    def held(self, run: Run) -> Iterator[None]:
        """The folder for this process alone, and for this run: run.toml is written where the run begins.

        DistillError where another process trains there, or another run has begun; then nothing was changed. A block that ends
        with a DistillError before anything of the run is there leaves no folder that was not there before.
        """
        made = make_folder(self.path, "run.toml", IDENTITIES, "checkpoints", ".trainer", ".trainer.claims")
        with only_process(self.path, "trainer") as self._check_hold:
            begun = self.check(run)
            self.checkpoints.mkdir(exist_ok=True)
            for folder in (self.path, self.checkpoints):
                sweep(folder)
            if not begun:
                with committed(self.path / "run.toml") as temporary:
                    temporary.write_text(dump_run(run), "utf-8")
            try:
                yield
            except DistillError:
                if not self._left():
                    for path in self._averaged:
                        path.unlink(missing_ok=True)
                    made.give_back()
                raise

    def summary(self) -> dict[str, Any] | None:
        """The final figures of a finished run, else None."""
        path = self.path / "summary.json"
        try:
            return read_json(path) if is_there(path) else None
        except ValueError as error:
            raise Damaged(f"{path} is damaged: {error}. Remove it, and the same distill train writes it again.") from error

    def finish(self, summary: dict[str, Any]) -> None:
        write_json(self.path / "summary.json", summary)

    def save(self, progress: Progress, arrays: dict[str, np.ndarray]) -> None:
        """Replaces the last checkpoint, then history.csv."""
        self._check_hold()
        if self.people is not None:  # not before, so that a run that is refused leaves nothing
            with committed(self.path / IDENTITIES) as temporary:
                temporary.write_text("".join(f"{name}\n" for name in sorted(self.people)), "utf-8")
        save_checkpoint(self.checkpoints / "last.npz", progress, arrays | self.tables)
        self.write_history(progress.history)

    def centres(self, name: str, identity: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Returns the centres of classes that lie in checkpoints/NAME.npz, which are made and written where these are not there, or are of other rows.

        Args:
            identity: of the rows that they are the means of.
        """
        path = self.checkpoints / f"{name}.npz"
        try:
            with np.load(path, allow_pickle=False) as stored:
                if str(stored["identity"]) == identity:
                    return np.asarray(stored["centres"], np.float32)
        except (FileNotFoundError, zipfile.BadZipFile, ValueError, KeyError, EOFError):
            pass  # what can be made again needs no mending
        centres = make()
        self._averaged.append(path)
        with committed(path) as temporary, temporary.open("wb") as file:
            np.savez(file, centres=centres, identity=np.array(identity))
        return centres

    def load(self) -> tuple[Progress, dict[str, np.ndarray]] | None:
        """Returns the last checkpoint; None in a run that has none."""
        return load_checkpoint(self.checkpoints / "last.npz")

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """history.csv, written anew so that it never says more or less than the checkpoint."""
        columns = list(dict.fromkeys(name for row in history for name in row))
        with committed(self.history) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, columns)
            table.writeheader()
            for row in history:
                table.writerow({name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()})
