"""What a person sees on stderr while work goes on: what is being done, how far it is, and how long it still takes.

    with shown():                                  # of a verb; without it a library says nothing of its phases
        with phase("importing TensorFlow"):
            ...
        with bar("embedding", "images") as tell:   # tell(done, of)
            ...

In a terminal it is one line that changes; in a notebook one output of a verb, which holds the lines that stay and the one that changes below them;
elsewhere (a log) a line for each phase of some seconds and one every half a minute. It is heard also while `quiet_import` keeps back what libraries
say. What other code prints comes above the line.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, Protocol, TextIO, TypeVar

from distill.runtime.lines import FANCY, PLAIN, Reach, bar_line, phase_line, plain_line
from distill.runtime.quiet import say

EVERY = 30.0  # seconds between lines in a log
LASTING = 2.0  # seconds from which on a log names a phase
TURN = {"terminal": 0.1, "notebook": 0.5, "log": 0.2}  # seconds between two looks
PAGE_PACE = 100_000  # letters of its output a second that a notebook is sent at most: Jupyter drops what is more than ten times that
NARROW = 40  # letters that any terminal is taken to have
LOG_WIDTH = 80


class Tell(Protocol):
    """What `bar` gives. made: how much of `done` this process did, for the rate; all of it where it is not said."""

    def __call__(self, done: int, of: int, made: int | None = None) -> None: ...


Watcher = Callable[[str], None]
_SILENT = object()
_here: ContextVar[Any] = ContextVar("screen", default=None)  # a Display, a _Watched, _SILENT, or None where nobody has said anything


@contextmanager
def shown(on: bool = True) -> Iterator[None]:
    """Progress of the block is shown on stderr, phases too; with on=False nothing of it is, not even bars and tables."""
    now = _here.get()
    token = _here.set((now if isinstance(now, Display) else Display()) if on else _SILENT)
    try:
        yield
    finally:
        _here.reset(token)


@contextmanager
def watched(watcher: Watcher) -> Iterator[None]:
    """Phases of the block are told to a callable and not shown; "" when one is over."""
    token = _here.set(_Watched(watcher))
    try:
        yield
    finally:
        _here.reset(token)


@contextmanager
def phase(text: str) -> Iterator[None]:
    """What is done in the block, in two to four words: "importing TensorFlow". Shown if anybody watches."""
    with phases() as show:
        show(text)
        yield


@contextmanager
def phases() -> Iterator[Watcher]:
    """Gives a callable that shows a phase until it is called with the next one, or with "" for none."""
    found = _here.get()
    if isinstance(found, Display):
        with found.showing(_Phase()) as live:
            yield lambda text: found.say_phase(live, text)
    elif isinstance(found, _Watched):
        with found.showing() as show:
            yield show
    else:
        yield lambda text: None


@contextmanager
def bar(label: str, unit: str = "") -> Iterator[Tell]:
    """How far the block is: call what this gives with (done, of). The rate counts from the first call with work done, so that neither the start of
    TensorFlow nor what an earlier run did is in it. Until then, or while `of` is 0, only the label is shown."""
    display = here()
    live = _Bar(label, unit, display.clock() if display else 0.0)
    if display is None:
        yield live.tell
        return
    live.clock = display.clock
    with display.showing(live):
        yield live.tell


def here() -> Display | None:
    """Where bars and tables go; a library that asks for one gets it, unless somebody has said that nothing is to be shown."""
    found = _here.get()
    return Display() if found is None else found if isinstance(found, Display) else None


class _Watched:
    """Who is told of phases: the innermost that goes on, "" where none does."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher, self._slots, self._told = watcher, list[list[str]](), ""

    @contextmanager
    def showing(self) -> Iterator[Watcher]:
        slot = [""]
        self._slots.append(slot)

        def show(text: str) -> None:
            slot[0] = text
            self._tell()

        try:
            yield show
        finally:
            self._slots = [each for each in self._slots if each is not slot]
            self._tell()

    def _tell(self) -> None:
        text = next((slot[0] for slot in reversed(self._slots) if slot[0]), "")
        if text != self._told:
            self._told = text
            self._watcher(text)


class _Live(Protocol):
    def text(self, now: float, width: int, turn: int, letters: tuple[str, str, str]) -> str:
        """The line as it is now; "" where there is nothing to show."""

    def due(self, now: float) -> str:
        """What a log is to be told now, once; "" for nothing."""


L = TypeVar("L", bound=_Live)


class _Phase:
    def __init__(self) -> None:
        self.name, self.since, self.told = "", 0.0, False

    def text(self, now: float, width: int, turn: int, letters: tuple[str, str, str]) -> str:
        return phase_line(self.name, now - self.since, width, turn, letters) if self.name else ""

    def due(self, now: float) -> str:
        if not self.name or self.told or now - self.since < LASTING:
            return ""
        self.told = True
        return f"{self.name} ..."


class _Bar:
    def __init__(self, label: str, unit: str, now: float) -> None:
        self.label, self.unit, self.clock = label, unit, time.monotonic
        self.began = self.logged = now
        self.done = self.of = 0
        self.first: tuple[int, float] | None = None
        self.made, self.at = 0, now

    def tell(self, done: int, of: int, made: int | None = None) -> None:
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
    """The one place that progress goes to. The innermost of what goes on is shown, as long as it has something to show.

    clock: seconds. beat: whether a thread of its own looks every so often; without it somebody has to call `look`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, beat: bool = True) -> None:
        self.clock, self.beat = clock, beat
        self.kind = "notebook" if _notebook() else "terminal" if _terminal() else "log"
        self.lock, self._live, self._over = threading.RLock(), list[_Live](), threading.Event()
        self._drawn, self._turn = "", 0
        self._page, self._said, self._shown = None, list[str](), ""  # of a notebook: the output, the lines that stay, and all that it shows now
        self.writing = False  # what is written now is the display's own
        self._above: list[_Above] = []

    @contextmanager
    def showing(self, live: L) -> Iterator[L]:
        """Until the block ends."""
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

    def say_phase(self, live: _Phase, text: str) -> None:
        with self.lock:
            if text != live.name:
                live.name, live.since, live.told = text, self.clock(), False
                if self.kind == "terminal":  # a notebook keeps an output for good, so a phase that is over at once makes none
                    self.look()

    def line(self, text: str) -> None:
        """A line that stays, above the one that changes."""
        with self.lock:
            if self.kind == "notebook":
                self._said.append(text)
                self._draw(self._drawn)
            else:
                self.erase()
                self._write(f"{text}\n")

    def look(self) -> None:
        """Show how things stand now."""
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
            self._drawn, whole = text, "\n".join([*self._said, text] if text else self._said)
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
            threading.Thread(target=self._beat, args=(self._over,), name="screen", daemon=True).start()

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
    """A stream of this process while a line changes below it: what is written to it takes the place of the line, which comes again behind it."""

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
        if name == "stream":  # of a copy that was not made by __init__
            raise AttributeError(name)
        return getattr(self.stream, name)


def _terminal() -> bool:
    with suppress(AttributeError, ValueError, OSError):  # closed, or something that only looks like a stream
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
    """Whether this is a kernel of Jupyter, whose front end can change what it has shown."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython and hasattr(ipython, "get_ipython") else None
    return getattr(shell, "kernel", None) is not None


def _show_page(page: Any, text: str) -> Any:
    from IPython.display import display

    if page is None:
        return display({"text/plain": text}, raw=True, display_id=True)
    page.update({"text/plain": text}, raw=True)
    return page
