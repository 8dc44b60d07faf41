"""Where and when progress is shown. `progress.py` has the functions that others call, `lines.py` the text.

In a terminal it is one changing line; in a notebook one output for each verb, with the lines that stay and the changing one below them; elsewhere
(a log) a line for each phase of some seconds and one every half a minute. What other code prints comes above the changing line.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TextIO, TypeVar

from distill.runtime.lines import FANCY, PLAIN, Reach, bar_line, phase_line, plain_line
from distill.runtime.quiet import say

EVERY = 30.0  # seconds between lines in a log
LASTING = 2.0  # seconds from which on a log names a phase
TURN = {"terminal": 0.1, "notebook": 0.5, "log": 0.2}  # seconds between two updates
PAGE_PACE = 100_000  # most letters of output a second for a notebook: Jupyter drops ten times that
NARROW = 40  # assumed least width of a terminal
LOG_WIDTH = 80


class _Live(Protocol):
    def text(self, now: float, width: int, turn: int, letters: tuple[str, str, str]) -> str:
        """Returns the line as it is now; "" for nothing to show."""

    def due(self, now: float) -> str:
        """Returns what is to be logged now, once; "" for nothing."""


L = TypeVar("L", bound=_Live)


class Phase:
    """What is done now."""

    def __init__(self) -> None:
        self.name, self.since, self.logged_once = "", 0.0, False

    def text(self, now: float, width: int, turn: int, letters: tuple[str, str, str]) -> str:
        return phase_line(self.name, now - self.since, width, turn, letters) if self.name else ""

    def due(self, now: float) -> str:
        if not self.name or self.logged_once or now - self.since < LASTING:
            return ""
        self.logged_once = True
        return f"{self.name} ..."


class Bar:
    """How far something is."""

    def __init__(self, label: str, unit: str, now: float) -> None:
        self.label, self.unit, self.clock = label, unit, time.monotonic
        self.began = self.logged = now
        self.done = self.of = 0
        self.first: tuple[int, float] | None = None
        self.made, self.at = 0, now

    def report(self, done: int, of: int, made: int | None = None) -> None:
        self.done, self.of, self.made, self.at = done, of, done if made is None else made, self.clock()
        if self.first is None and self.made:
            self.first = self.made, self.at

    def reach(self, now: float) -> Reach:
        rate = left = None
        if self.first and self.at - self.first[1] > 1 and self.made > self.first[0]:
            rate = (self.made - self.first[0]) / (self.at - self.first[1])
            left = (self.of - self.done) / rate - (now - self.at) if self.of else None
        return Reach(self.label, self.done, self.of, now - self.began, rate, left, self.unit)

    def text(self, now: float, width: int, turn: int, letters: tuple[str, str, str]) -> str:
        return bar_line(self.reach(now), width, turn, letters)

    def due(self, now: float) -> str:
        if now - self.logged < EVERY or not self.done:
            return ""
        self.logged = now
        return plain_line(self.reach(now))


class Display:
    """Where progress is shown: the innermost phase or bar that has a line.

    clock: seconds. beat: whether a thread updates it regularly; otherwise `look` must be called.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, beat: bool = True) -> None:
        self.clock, self.beat = clock, beat
        self.kind = "notebook" if _notebook() else "terminal" if _terminal() else "log"
        self.lock, self._live, self._over = threading.RLock(), list[_Live](), threading.Event()
        self._drawn, self._turn = "", 0
        self._page, self._lines, self._shown = None, list[str](), ""  # of a notebook: the output, the lines that stay, and its whole text
        self.writing = False  # whether the display itself is writing
        self._above: list[_Above] = []

    @contextmanager
    def showing(self, live: L) -> Iterator[L]:
        """Shows a phase or a bar until the block ends."""
        with self.lock:
            self._live.append(live)
            if len(self._live) == 1:
                self._begin()
        try:
            yield live
        finally:
            with self.lock:
                self._live.remove(live)
                if not self._live:
                    self._end()

    def show_phase(self, live: Phase, text: str) -> None:
        with self.lock:
            if text != live.name:
                live.name, live.since, live.logged_once = text, self.clock(), False
                if self.kind == "terminal":  # a notebook keeps every output, so a very short phase makes none
                    self.look()

    def line(self, text: str) -> None:
        """Writes a line that stays, above the one that changes."""
        with self.lock:
            if self.kind == "notebook":
                self._lines.append(text)
                self._draw(self._drawn)
            else:
                self.erase()
                self._write(f"{text}\n")

    def look(self) -> None:
        """Updates what is shown."""
        with self.lock:
            now, self._turn = self.clock(), self._turn + 1
            if self.kind == "log":
                for due in filter(None, [live.due(now) for live in self._live]):
                    self._write(f"{due}\n")
                return
            letters, width = (_letters(), width_here() - 1) if self.kind == "terminal" else (FANCY, LOG_WIDTH)
            texts = (live.text(now, width, self._turn, letters) for live in reversed(self._live))
            self._draw(next(filter(None, texts), ""))

    def erase(self) -> None:
        with self.lock:
            if self._drawn and self.kind == "terminal":
                self._write("\r\x1b[K")
                self._drawn = ""

    def _draw(self, text: str) -> None:
        if self.kind == "notebook":
            self._drawn, whole = text, "\n".join([*self._lines, text] if text else self._lines)
            if whole != self._shown:
                self._page, self._shown = _show_page(self._page, whole), whole
        elif text and all(above.at_start for above in self._above):
            self._write(f"\r{text}\x1b[K")
            self._drawn = text
        elif not text:
            self.erase()

    def _write(self, text: str) -> None:
        self.writing = True
        try:
            say(text)
        finally:
            self.writing = False

    def _begin(self) -> None:
        self._over = threading.Event()
        if self.kind == "terminal":
            self._above = [_Above(name, self) for name in ("stdout", "stderr") if getattr(sys, name).isatty()]
        if self.beat:
            threading.Thread(target=self._beat, args=(self._over,), name="display", daemon=True).start()

    def _end(self) -> None:
        self._over.set()
        self._draw("")
        for above in self._above:
            above.give_back()
        self._above = []

    def _beat(self, over: threading.Event) -> None:
        while not over.wait(max(TURN[self.kind], len(self._shown) / PAGE_PACE)):
            with self.lock:
                if not over.is_set():
                    self.look()


class _Above:
    """A stream of this process above the changing line: text that is written to it replaces the line, which is drawn again after it."""

    def __init__(self, name: str, display: Display) -> None:
        self.name, self.display, self.at_start = name, display, True
        self.stream: TextIO = getattr(sys, name)
        setattr(sys, name, self)

    def write(self, text: str) -> int:
        with self.display.lock:
            if self.display.writing:
                return self.stream.write(text)
            self.display.erase()
            self.at_start = text.endswith("\n") if text else self.at_start
            return self.stream.write(text)

    def give_back(self) -> None:
        if getattr(sys, self.name) is self:
            setattr(sys, self.name, self.stream)

    def __getattr__(self, name: str) -> Any:
        if name == "stream":  # in a copy that was not made by __init__
            raise AttributeError(name)
        return getattr(self.stream, name)


def _terminal() -> bool:
    with suppress(AttributeError, ValueError, OSError):  # closed, or no real stream
        return sys.stderr.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")
    return False


def width_here() -> int:
    with suppress(ValueError):
        if width := int(os.environ.get("COLUMNS", "")):
            return max(NARROW, width)
    with suppress(OSError, ValueError, AttributeError):
        return max(NARROW, os.get_terminal_size(sys.stderr.fileno()).columns or LOG_WIDTH)
    return LOG_WIDTH


def _letters() -> tuple[str, str, str]:
    try:
        "".join(FANCY).encode(sys.stderr.encoding or "ascii")
    except (UnicodeError, LookupError):
        return PLAIN
    return FANCY


def _notebook() -> bool:
    """Returns whether this is a kernel of Jupyter, whose front end can change its output."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython and hasattr(ipython, "get_ipython") else None
    return getattr(shell, "kernel", None) is not None


def _show_page(page: Any, text: str) -> Any:
    from IPython.display import display

    if page is None:
        return display({"text/plain": text}, raw=True, display_id=True)
    page.update({"text/plain": text}, raw=True)
    return page
