"""Progress on stderr: the current phase, how far it is, and the time left.

    with shown():                                  # in a verb; without it a library shows no phases
        with phase("importing TensorFlow"):
            ...
        with bar("embedding", "images") as report:  # report(done, of)
            ...

`distill/runtime/display.py` has the forms that it takes in a terminal, a notebook and a log. It is shown even while `quiet_import` keeps back the
output of libraries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from distill.runtime.display import Bar, Display, Phase


class Report(Protocol):
    """The function from `bar`. made: how much of `done` this process did, for the rate; all of it by default."""

    def __call__(self, done: int, of: int, made: int | None = None) -> None: ...


Watcher = Callable[[str], None]
_SILENT = object()
_here: ContextVar[Any] = ContextVar("display", default=None)  # a Display, a _Watched, _SILENT, or None where nothing was chosen


@contextmanager
def shown(on: bool = True) -> Iterator[None]:
    """Shows the progress of the block on stderr, phases too; with on=False shows nothing, not even bars and tables."""
    now = _here.get()
    token = _here.set((now if isinstance(now, Display) else Display()) if on else _SILENT)
    try:
        yield
    finally:
        _here.reset(token)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Passes the phases of the block to a callable instead of showing them; "" when one is over."""
    token = _here.set(_Watched(watcher))
    try:
        yield
    finally:
        _here.reset(token)


@contextmanager
def phase(text: str) -> Iterator[None]:
    """Names the work of the block in two to four words, "importing TensorFlow", for `shown` or `watched`."""
    with phases() as show:
        show(text)
        yield


@contextmanager
def phases() -> Iterator[Watcher]:
    """Yields a callable that shows a phase until it is called with the next one, or with "" for none."""
    found = _here.get()
    if isinstance(found, Display):
        with found.showing(Phase()) as live:
            yield lambda text: found.show_phase(live, text)
    elif isinstance(found, _Watched):
        with found.showing() as show:
            yield show
    else:
        yield lambda text: None


@contextmanager
def bar(label: str, unit: str = "") -> Iterator[Report]:
    """Shows how far the block is: yields a function of (done, of). The rate counts from the first call with work done, so that it includes neither the
    start of TensorFlow nor work of an earlier run. Until then, or while `of` is 0, only the label is shown."""
    display = here()
    live = Bar(label, unit, display.clock() if display else 0.0)
    if display is None:
        yield live.report
        return
    live.clock = display.clock
    with display.showing(live):
        yield live.report


def here() -> Display | None:
    """Returns the display for bars and tables, a new one for a library, None where nothing is to be shown."""
    found = _here.get()
    return Display() if found is None else found if isinstance(found, Display) else None


class _Watched:
    """Passes the innermost current phase to a watcher, "" for none."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher, self._slots, self._last = watcher, list[list[str]](), ""

    @contextmanager
    def showing(self) -> Iterator[Watcher]:
        slot = [""]
        self._slots.append(slot)

        def show(text: str) -> None:
            slot[0] = text
            self._notify()

        try:
            yield show
        finally:
            self._slots = [each for each in self._slots if each is not slot]
            self._notify()

    def _notify(self) -> None:
        text = next((slot[0] for slot in reversed(self._slots) if slot[0]), "")
        if text != self._last:
            self._last = text
            self._watcher(text)
