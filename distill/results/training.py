"""What train returns, with its advice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from distill.results.result import Result
from distill.runtime.lines import many

MEMORISED = 0.15  # excess of the agreement on training rows over held-out rows from which on the student has memorised its images
LOW_AGREEMENT = 0.5  # with the teacher on held-out rows; 600 drawn faces gave 0.33 after 68 steps, 0.60 after 255, 0.67 after 500 and more


@dataclass(frozen=True, repr=False)
class TrainResult(Result):
    """A finished run. student: its .keras file; best: the student of the best epoch; history: a CSV file of one row an epoch; report: an HTML page.

    seconds: of training, interrupted parts included; last: the last row of the history; left_out: images that could not be read, by reason;
    best_epoch: the epoch of `best` in the last stage; None for a run of an earlier version.
    """

    SHOWN: ClassVar[tuple[str, ...]] = ("run", "parameters", "epochs", "steps", "seconds", "held_out", "student", "report")
    run: str
    student: str
    best: str
    history: str
    report: str
    parameters: int
    epochs: int
    steps: int
    seconds: float
    last: Mapping[str, float]
    left_out: Mapping[str, int] = field(default_factory=dict)
    best_epoch: int | None = None

    @property
    def held_out(self) -> dict[str, float]:
        """The figures of held-out rows after the last epoch; {} where none were held out. agreement: the mean cosine similarity to the teacher's
        embeddings; accuracy: the share of labels predicted correctly; loss, and its terms by their names ("cosine" is the cosine distance, 1 - agreement)."""
        return {name.removeprefix("held_out_"): value for name, value in self.last.items() if name.startswith("held_out_")}

    def as_dict(self) -> dict[str, Any]:
        found = asdict(self)
        return found if self.left_out else {name: value for name, value in found.items() if name != "left_out"}

    def in_words(self) -> str:
        found = self.held_out or self.last  # the terms of the loss are left to history.csv
        figures = {name: found[name] for name in ("agreement", "accuracy", "loss") if name in found}
        where = "on held-out rows" if self.held_out else "on its training rows"
        words = ", ".join(f"{'cosine distance' if name == 'cosine' else name} {value:.4g}" for name, value in figures.items())
        first = (
            f"{self.run}: {self.parameters:,} parameters, {many(self.epochs, 'epochs')}, {many(self.steps, 'steps')} in {self.seconds:.0f} s; {where}: {words}"
        )
        lines = [first, f"run file: {self.run}/run.toml", f"student: {self.student}", f"report: {self.report}"]
        if self.held_out and self.best_epoch not in (None, self.last.get("epoch")):
            lines.insert(3, f"lowest loss on held-out rows: after epoch {self.best_epoch}; that student is {self.best}, which every verb takes")
        if self.held_out.get("agreement", 1.0) < LOW_AGREEMENT:
            lines.append(f"low: an agreement of {self.held_out['agreement']:.2f} on held-out rows is far from the teacher. {self._way_out()}")
        return "\n".join(lines)

    def _way_out(self) -> str:
        """Returns what helps against a low agreement: more images where the student has memorised its own, else more steps."""
        known = self.last.get("agreement", 0.0)
        if known - self.held_out["agreement"] > MEMORISED:
            return (
                f"On the images it was trained on it is {known:.2f}, so more steps will not help: more images will, "
                "or more views of these (distill embed SOURCE OUT --teacher TEACHER --views 8 --recipe face)."
            )
        return (
            f"Train longer in another run folder (these were {self.steps:,} steps; --steps {max(2000, 4 * self.steps)}, or more epochs in the run file), "
            "or embed more images or views."
        )
