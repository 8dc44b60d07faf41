"""What a person sees of a training: lines at its start, a table with a row an epoch, how far the epoch is, and how long the run still takes.

The table is a pure function of the figures and of the width; a figure that has no room stands in history.csv alone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from distill.config.losses import TERMS
from distill.runtime.display import EVERY, LOG_WIDTH, width_here
from distill.runtime.lines import Reach, bar_line, duration, plain_line
from distill.runtime.progress import here


@dataclass(frozen=True)
class Column:
    """A column of the training table. name: in a row of the history; heading: one or two lines."""

    name: str
    heading: tuple[str, ...]
    width: int


WORDS = {
    "epoch": ("epoch", 7),
    "learning_rate": ("lr", 8),
    "loss": ("loss", 8),
    "agreement": ("agreement", 9),
    "accuracy": ("accuracy", 8),
    "held_out_loss": ("held-out loss", 8),
    "held_out_agreement": ("held-out agreement", 9),
    "held_out_accuracy": ("held-out accuracy", 8),
    **{name: (term.heading, max(8, *map(len, term.heading.rsplit(" ", 1)))) for name, term in TERMS.items()},
    "images_per_second": ("images/s", 8),
    "left": ("left", 8),
}
# what is shown as far as there is room for it, in this order; the terms of the loss behind them
FIRST = ("epoch", "loss", "held_out_loss", "agreement", "held_out_agreement", "left", "accuracy", "held_out_accuracy", "images_per_second", "learning_rate")
GAP = "  "


def table_columns(names: Sequence[str], width: int) -> list[Column]:
    """Returns the columns for rows of these figures in so many letters; those that do not fit stand in history.csv alone. So does a term that is alone:
    the loss says the same."""
    terms = TERMS.keys() & {*names}
    there, used, chosen = {"epoch", "left", *names} - (terms if len(terms) == 1 else set()), -len(GAP), set[str]()
    for name in dict.fromkeys((*FIRST, *WORDS)):
        if name in there and used + len(GAP) + WORDS[name][1] <= width:
            used += len(GAP) + WORDS[name][1]
            chosen.add(name)
    return [Column(name, tuple(text.rsplit(" ", 1)), size) for name, (text, size) in WORDS.items() if name in chosen]


def table_heading(columns: Sequence[Column]) -> list[str]:
    """Returns one or two lines: long headings stand on two."""
    tall = max(len(column.heading) for column in columns)
    lines = [("",) * (tall - len(column.heading)) + column.heading for column in columns]
    return [GAP.join(f"{words[at]:>{column.width}}" for words, column in zip(lines, columns, strict=True)).rstrip() for at in range(tall)]


def table_row(columns: Sequence[Column], row: Mapping[str, object]) -> str:
    """Returns the figures of an epoch below their headings; a figure that it lacks is "-". Texts stand as they are."""
    return GAP.join(f"{_cell(column.name, row.get(column.name)):>{column.width}}" for column in columns)


def _cell(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, (int, float)):
        return "-"
    if name == "left":
        return duration(value)
    if name == "images_per_second":
        return f"{value:,.0f}"
    if name == "learning_rate":
        return f"{value:.3g}"
    return figure(float(value))


def figure(value: float) -> str:
    """(0.98765) -> "0.9877"; large ones with fewer decimals, so that a column is not left."""
    size = abs(value)
    return f"{value:.4f}" if size < 100 else f"{value:.1f}" if size < 100_000 else f"{value:.2e}"


# ----------------------------------------------------------------------------------------------------------------- how long it takes


@dataclass(frozen=True)
class Extent:
    """What a stage has to do. after: batches that go through the student after the steps of each epoch, for averages and held-out rows."""

    epochs: int
    steps: int
    batch: int
    after: int = 0


class Pace:
    """How fast a training goes and how long all of it will still take: of this stage and of those behind it.

    A step takes what the steps of this stage took, without the first two, in which the step is compiled. What lies between two epochs (held-out
    rows, averages, the checkpoint) takes what it took after the epoch before. After the first epoch that is compiled too, so until the second is over
    no batch of it is taken to cost more than a step. Times are seconds of any clock.
    """

    WARM = 2

    def __init__(self, stages: Sequence[Extent]) -> None:
        self.stages, self.stage, self.epoch, self.step = stages, 0, 0, 0
        self._warm, self._steps, self._seconds, self._between, self.last = 0, 0, 0.0, 0.0, 0.0
        self._compiled = False  # what lies between two epochs
        self._before = 0, 0.0  # steps and seconds before this epoch

    def begin(self, stage: int, epoch: int, now: float) -> None:
        """An epoch begins; both numbers count from 0."""
        if stage != self.stage:
            self._warm, self._steps, self._seconds, self._between, self._compiled = 0, 0, 0.0, 0.0, False
        self.stage, self.epoch, self.step, self.last = stage, epoch, 0, now
        self._before = self._steps, self._seconds

    def at(self, step: int, now: float) -> None:
        """So many steps of the epoch are done."""
        new = step - self.step
        if self._warm < self.WARM:
            self._warm += new
        else:
            self._steps, self._seconds = self._steps + new, self._seconds + now - self.last
        self.step, self.last = step, now

    def end(self, now: float) -> None:
        """The epoch is over, with all that comes after its steps."""
        self._between = now - self.last
        if not self._compiled and self._steps:
            self._between = min(self._between, self.stages[self.stage].after * self._seconds / self._steps)
        self._compiled, self.epoch, self.step = True, self.epoch + 1, 0

    def name(self, stage: int, epoch: int) -> str:
        """An epoch in the table, where there are several stages with the stage before it; both numbers count from 1."""
        return (f"{stage}: " if len(self.stages) > 1 else "") + f"{epoch}/{self.stages[stage - 1].epochs}"

    @property
    def images_per_second(self) -> float | None:
        """Of this epoch; None during the warm-up."""
        steps, seconds = self._steps - self._before[0], self._seconds - self._before[1]
        return self.stages[self.stage].batch * steps / seconds if steps and seconds > 0 else None

    @property
    def left(self) -> float | None:
        """Seconds until the last stage ends; None during the warm-up."""
        if not self._steps:
            return None
        here, later = self.stages[self.stage], self.stages[self.stage + 1 :]
        steps = here.steps * (here.epochs - self.epoch) - self.step + sum(each.steps * each.epochs * each.batch / here.batch for each in later)
        ends = here.epochs - self.epoch + sum(each.epochs for each in later)
        return steps * self._seconds / self._steps + ends * self._between


# ------------------------------------------------------------------------------------------------------------------ on the screen

SHOWN = ("loss", "agreement", "accuracy")  # beside the bar of an epoch


class TrainingDisplay:
    """What is shown of a training. It is mute with quiet=True, and where `shown(False)` says so."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = None if quiet else here()
        self.clock = self.console.clock if self.console else time.monotonic
        self.pace, self.began = Pace(()), 0.0
        self._columns: list[Column] = []
        self._live = ExitStack()
        self._epoch: _Epoch | None = None

    def line(self, text: str) -> None:
        """A line that stays."""
        if self.console:
            self.console.line(text)

    def plan(self, stages: Sequence[Extent]) -> None:
        """All that the run has to do, said before the first `start`."""
        self.pace, self.began = Pace(stages), self.clock()

    def start(self, stage: int, epoch: int) -> None:
        """An epoch begins; both numbers count from 0."""
        self.stop()
        if stage != self.pace.stage:
            self._columns = []
        self.pace.begin(stage, epoch, self.clock())
        if self.console:
            self._epoch = self._live.enter_context(self.console.showing(_Epoch(self, self.pace, self.clock())))

    def tick(self, step: int, logs: Mapping[str, Any]) -> None:
        """So many steps of the epoch are done."""
        self.pace.at(step, self.clock())
        if self._epoch:
            self._epoch.logs, self._epoch.doing = dict(logs), ""

    def doing(self, what: str) -> None:
        """What is done between two steps, beside the name of the epoch."""
        if self._epoch:
            self._epoch.doing = what

    def epoch(self, row: Mapping[str, Any]) -> None:
        """The epoch is over: its row of the history."""
        self.pace.end(self.clock())
        self.stop()
        if not self.console:
            return
        if not self._columns:
            self._columns = table_columns(list(row), width_here() if self.console.kind == "terminal" else LOG_WIDTH)
            for line in table_heading(self._columns):
                self.line(line)
        told = {"epoch": self.pace.name(row["stage"], row["epoch"]), "left": self.pace.left, "images_per_second": self.pace.images_per_second}
        self.line(table_row(self._columns, {**row, **{name: value for name, value in told.items() if value is not None}}))

    def stop(self) -> None:
        """Nothing is trained any more."""
        self._live.close()
        self._epoch = None


class _Epoch:
    """The line of an epoch."""

    def __init__(self, shown: TrainingDisplay, pace: Pace, now: float) -> None:
        self.shown, self.pace, self.logged = shown, pace, now
        self.logs, self.doing = dict[str, Any](), "" if pace.left else "compiling"

    def reach(self, now: float) -> Reach:
        pace, logs = self.pace, self.logs
        said = "  ".join(f"{name} {figure(float(logs[name]))}" for name in SHOWN if name in logs)
        left = pace.left
        label = f"epoch {pace.name(pace.stage + 1, pace.epoch + 1)}" + (f", {self.doing}" if self.doing else "")
        steps = pace.stages[pace.stage].steps
        return Reach(label, pace.step, steps, now - self.shown.began, pace.images_per_second, left and left - (now - pace.last), "images", said)

    def text(self, now: float, width: int, turn: int, letters: tuple[str, str, str]) -> str:
        return bar_line(self.reach(now), width, turn, letters)

    def due(self, now: float) -> str:
        if now - self.logged < EVERY or not self.pace.step:
            return ""
        self.logged = now
        return plain_line(self.reach(now))
