"""Signals that ask a process to end: each ends it with a word, and none is lost."""

import signal
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

AGAIN = 5.0  # seconds after which a signal that something swallowed is said again
_stopped_by = 0  # the last signal that asked this process to end
_heard = threading.Event()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C does not reach this thread, nor the processes and threads that it starts meanwhile: it is for whoever watches them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # the first process that multiprocessing starts would bring this one along, which lets Ctrl-C through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Stopped(KeyboardInterrupt):
    """Ctrl-C, or another signal that asks the process to end."""


def stop_on_signals() -> None:
    """SIGTERM and SIGHUP end a program as Ctrl-C does, unless whoever started it has them ignored. For a program at its start.

    Python raises a signal wherever the main thread is. In a callback of C, or while an object is thrown away, that is printed and forgotten;
    so it is said again until it ends the program.
    """
    for name, usual in (("SIGINT", signal.default_int_handler), ("SIGTERM", signal.SIG_DFL), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == usual:
            signal.signal(number, _stop)


def signal_words() -> str:
    """How a person is told of it: "Interrupted", or "Ended by SIGTERM"."""
    return f"Ended by {signal.Signals(_stopped_by).name}" if _stopped_by not in (0, signal.SIGINT) else "Interrupted"


def signal_code() -> int:
    """The exit code of a process that was asked to end, and heard it: 130 after Ctrl-C, 143 after SIGTERM."""
    _heard.set()
    return 128 + (_stopped_by or signal.SIGINT)


def _stop(number: int, frame: FrameType | None) -> None:
    global _stopped_by
    _stopped_by = number
    main = threading.main_thread().ident or 0
    tell = (lambda number: signal.pthread_kill(main, number)) if hasattr(signal, "pthread_kill") else signal.raise_signal
    stopped = Stopped()
    watched = weakref.ref(stopped)

    def again() -> None:
        """Say it again when it is gone, and nothing that came of it is on its way, but the program goes on."""
        while not _heard.wait(AGAIN):
            if watched() is None:
                tell(number)
                return

    threading.Thread(target=again, name="signal", daemon=True).start()
    try:
        raise stopped
    finally:
        del stopped  # its traceback holds this frame
