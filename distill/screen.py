"""What a person sees while work goes on: a progress bar in a terminal, elsewhere a line every so often."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

EVERY = 60.0  # seconds between lines inside an epoch where there is no progress bar
OFTEN = 10.0  # the same for the other verbs


@contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Progress on stderr with rate and time left: call what this gives with (done, of). The rate counts from the first call with work done,
    so that neither the start of TensorFlow nor what an earlier run did is in it."""
    first: tuple[int, float] | None = None
    told = time.monotonic()

    def rate(done: int) -> str:
        nonlocal first
        if first is None and done:
            first = done, time.monotonic()
        passed = time.monotonic() - first[1] if first else 0.0
        return f"{(done - first[0]) / passed:,.0f}/s" if first and passed > 1 else ""

    def line(done: int, of: int) -> None:
        nonlocal told
        speed = rate(done)
        if time.monotonic() - told > OFTEN and done:
            told = time.monotonic()
            print(f"{label}: {done:,} of {of:,} {speed}".rstrip(), file=sys.stderr, flush=True)

    if not sys.stderr.isatty():
        yield line
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, total=None, rate="")
        yield lambda done, of: progress.update(task, completed=done, total=of or None, rate=rate(done))


class Screen:
    """What a person sees: a progress bar in a terminal, else a line an epoch and one a minute."""

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(quiet=quiet, highlight=False, soft_wrap=True)
        self.bar: Any = None
        self.next = 0.0

    def line(self, text: str) -> None:
        self.console.print(text, markup=False)

    def start(self, label: str, steps: int) -> None:
        self.stop()
        self.label, self.steps, self.next = label, steps, time.monotonic() + EVERY
        if self.console.is_terminal and not self.console.quiet:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            told = TextColumn("{task.fields[told]}")
            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), told)
            self.bar, self.next = Progress(*columns, console=self.console, transient=True), 0.0
            self.task = self.bar.add_task(label, total=steps, told="")
            self.bar.start()

    def tick(self, step: int, logs: dict[str, Any]) -> None:
        now = time.monotonic()
        if now < self.next:
            return
        told = "  ".join(f"{name} {value:.4g}" for name, value in logs.items())
        if self.bar:
            self.next = now + 0.2
            self.bar.update(self.task, completed=step, told=told)
        else:
            self.next = now + EVERY
            self.line(f"{self.label}, step {step:,} of {self.steps:,}: {told}")

    def epoch(self, label: str, row: dict[str, Any]) -> None:
        self.stop()
        figures = {name: value for name, value in row.items() if name not in ("stage", "epoch", "seconds", "images_per_second")}
        told = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        self.line(f"{label}: {told}  {row['images_per_second']:,.0f} images/s")

    def stop(self) -> None:
        if self.bar:
            self.bar.stop()
            self.bar = None
