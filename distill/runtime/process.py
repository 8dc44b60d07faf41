"""What a process needs before it computes, and how it is left: libraries that stay quiet while they load, memory that is kept, GPU memory that
grows, streams that take every letter and never end the work, signals that end it with a word, and everything as it was found.

TensorFlow's C++ writes to stderr while it loads, whatever is set. And glibc gives large blocks back to the system at once, so that every
step of a network takes its memory anew: 75,000 page faults a step were measured on the demo's teacher, 2.6 times the time of the step. It
does so in another way in each thread's own arena, whose heaps hold 64 MB: 38,000 page faults a call of 128 images were measured on a
MobileNetV2, 1.4 times the CPU time. So all threads share one arena.
"""

import ctypes
import errno
import io
import logging
import os
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import IO, Any

# mallopt(3): parameter numbers of glibc's malloc.h, and bytes
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8
SETTINGS = {MMAP_THRESHOLD: 1 << 30, TRIM_THRESHOLD: (1 << 31) - 1, TOP_PAD: 64 << 20, ARENA_MAX: 1}

QUIET = "TF_CPP_MIN_LOG_LEVEL"  # TensorFlow reads it while it loads; with "3" it is silent: what matters comes as a Python exception
LOOPBACK = ("localhost", "127.0.0.1", "::1")
AGAIN = 5.0  # seconds after which a signal that something swallowed is said again

_screen: int | None = None  # where stderr goes, while it is kept back
_kept: IO[bytes] | None = None
_keepers = 0
_keeping = threading.RLock()
_environment = ExitStack()  # what `quiet_import` has set, while it keeps stderr back
_keeps_memory = False
_stopped_by = 0  # the last signal that asked this process to end
_heard = threading.Event()


def keep_memory() -> bool:
    """Lets this process keep what it frees, for its next step. False where the C library has no such setting; nothing is changed then.

    What a process holds does not grow beyond its peak; it only does not shrink between steps. It is for a program at its start, before there are
    other threads, which keep the arena that they have: the command line calls it, worker processes of a pipeline do, and a program in Python may; no other
    function of this library does. Processes that this one starts share one arena from their beginning.
    """
    global _keeps_memory
    _keeps_memory = True
    os.environ.setdefault("MALLOC_ARENA_MAX", str(SETTINGS[ARENA_MAX]))
    return _set_malloc()


def keep_memory_again() -> None:
    """Repeats `keep_memory`, which TensorFlow takes back; does nothing in a process that has not called it."""
    if _keeps_memory:
        _set_malloc()


def _set_malloc() -> bool:
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return False
    return all(mallopt(parameter, size) for parameter, size in SETTINGS.items())


def grow_gpu_memory() -> bool:
    """Let TensorFlow take GPU memory as it needs it, where it would take all at its start. False where it computes already: nothing changes.

    Imports TensorFlow, quietly: for who computes with it.
    """
    with quiet_import():
        import tensorflow as tf

        devices = tf.config.list_physical_devices("GPU")
    try:
        for device in devices:
            tf.config.experimental.set_memory_growth(device, True)
    except (RuntimeError, ValueError):  # running, or cut into virtual devices by somebody else
        return False
    return True


@contextmanager
def quiet_import() -> Iterator[None]:
    """What is written to stderr meanwhile is kept back, and shown only if the block raises. With --debug nothing is kept back.

    Blocks in several threads may overlap: the last to end lets stderr go where it went before the first.
    """
    if os.environ.get("DISTILL_DEBUG") == "1":
        yield
        return
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    _keep_back()
    root.setLevel(logging.ERROR)
    try:
        yield
    except BaseException as error:
        _let_go(show=not isinstance(error, KeyboardInterrupt))  # nobody asks why it failed then
        raise
    else:
        _let_go(show=False)
    finally:
        root.setLevel(level)
        root.handlers[:] = handlers  # a library that logs while it loads gives the root one


def _keep_back() -> None:
    global _screen, _kept, _keepers
    with _keeping:
        _keepers += 1
        if _keepers > 1:
            return
        _environment.enter_context(environment({QUIET: os.environ.get(QUIET, "3")}))
        _flush()
        try:
            _screen = os.dup(2)
        except OSError:  # closed: nothing can be said anyway
            return
        _kept = _nameless()
        os.dup2(_kept.fileno(), 2)


def _let_go(show: bool) -> None:
    global _screen, _kept, _keepers
    with _keeping:
        _keepers -= 1
        if not _keepers:
            _environment.close()
        if _screen is None or _kept is None:
            return
        _flush()
        if show:
            _kept.seek(0)
            os.write(_screen, _kept.read())
        if not _keepers:
            os.dup2(_screen, 2)
            os.close(_screen)
            _kept.close()
            _screen = _kept = None


def _nameless() -> IO[bytes]:
    """A file in memory where the system has such, so that no temporary folder has to be there."""
    if hasattr(os, "memfd_create"):
        with suppress(OSError):
            return open(os.memfd_create("distill"), "w+b")
    import tempfile

    return tempfile.TemporaryFile()


def _flush() -> None:
    with suppress(OSError, ValueError, AttributeError):
        sys.stderr.flush()


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


def speak() -> None:
    """Show again what is written to stderr: for a last word while another thread is still in `quiet_import`."""
    with _keeping:
        if _screen is not None:
            _flush()
            os.dup2(_screen, 2)


def say(text: str) -> None:
    """Write to stderr, also while it is kept back: what a person is told of a library that loads. What cannot be written is left out."""
    with _keeping, suppress(OSError, ValueError, AttributeError):
        if _screen is not None and sys.stderr.fileno() == 2:
            os.write(_screen, text.encode(sys.stderr.encoding or "ascii", "backslashreplace"))
        else:
            sys.stderr.write(text)
            sys.stderr.flush()


# --------------------------------------------------------------------------------------------------------------- as it was found


@contextmanager
def environment(values: Mapping[str, str], *others: str) -> Iterator[None]:
    """os.environ with these values, for this process and those that it starts meanwhile; afterwards these names are as they were, and so are
    `others`, which somebody else sets in the block."""
    before = {name: os.environ.get(name) for name in (*values, *others)}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def without_proxy(there: Mapping[str, str]) -> dict[str, str]:
    """Returns what to add to an environment so that this machine's own addresses go through no proxy; {} where it names none.

    gRPC, by which Beam speaks to its workers, prefers no_grpc_proxy to no_proxy.

    >>> without_proxy({"http_proxy": "http://proxy:3128", "no_proxy": "a.example"})["no_proxy"]
    'a.example,localhost,127.0.0.1,::1'
    """
    if not any(there.get(name) or there.get(name.upper()) for name in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")):
        return {}
    own = there.get("no_proxy") or there.get("NO_PROXY", "")
    said = {"no_proxy": own, "NO_PROXY": there.get("NO_PROXY") or own, "no_grpc_proxy": there.get("no_grpc_proxy") or own}

    def with_loopback(hosts: str) -> str:
        return ",".join([*filter(None, [hosts]), *(host for host in LOOPBACK if host not in hosts.split(","))])

    # Python's clients know the star only alone
    return {name: hosts if hosts == "*" and name != "no_grpc_proxy" else with_loopback(hosts) for name, hosts in said.items()}


@contextmanager
def hushed(names: tuple[str, ...], speakers: tuple[str, ...]) -> Iterator[None]:
    """The loggers of these names, and all below them, say nothing, nor does Python of an exception in a thread of one of the packages
    `speakers`. Afterwards they are as they were, with the root logger's handlers and the filters of warnings."""
    root, filters = logging.getLogger(), warnings.filters[:]
    loggers = [root, *map(logging.getLogger, names)]
    before = [(logger.disabled, logger.level, logger.propagate, logger.handlers[:]) for logger in loggers]
    hook = threading.excepthook

    def heard(ended: threading.ExceptHookArgs) -> None:
        at, files = ended.exc_traceback, list[str]()
        while at:
            files, at = [*files, at.tb_frame.f_code.co_filename], at.tb_next
        if not any(f"{os.sep}{package}{os.sep}" in file for file in files for package in speakers):
            hook(ended)

    threading.excepthook = heard
    for logger in loggers[1:]:
        logger.disabled = True  # some of them set their level themselves
        logger.addHandler(logging.NullHandler())
        logger.propagate = False  # what the loggers below it say ends here
    try:
        yield
    finally:
        for logger, (disabled, level, propagate, handlers) in zip(loggers, before, strict=True):
            logger.disabled, logger.propagate, logger.handlers[:] = disabled, propagate, handlers
            logger.setLevel(level)
        if threading.excepthook is heard:
            threading.excepthook = hook
        warnings.filters[:] = filters  # type: ignore[index]
        warnings._filters_mutated()  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------------------ streams and signals


class _Lasting(io.RawIOBase):
    """Where a process prints to. Neither a reader that went away nor a full disk ends the work; what was wrong is kept in `error`."""

    def __init__(self, descriptor: int, name: str) -> None:
        self.descriptor, self.name, self.error = descriptor, name, None

    error: OSError | None

    def write(self, data: bytes) -> int:  # type: ignore[override]
        try:
            return os.write(self.descriptor, data)
        except BlockingIOError:  # a pipe that somebody set so: wait for its reader
            import select

            select.select([], [self.descriptor], [])
            return 0
        except OSError as error:
            if error.errno != errno.EPIPE:
                self.error = error
            return len(data)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.descriptor

    def isatty(self) -> bool:
        return os.isatty(self.descriptor)


def open_streams() -> Callable[[], OSError | None]:
    """Give this process streams that take every letter and last as long as it does, closed ones included. For a program at its start.

    Letters that the terminal lacks are written as \\xfc. Returns what tells at the end why something could not be printed, else None: that
    nobody reads on (`| head -1`) is no reason.
    """
    for descriptor in (0, 1, 2):  # each takes the lowest free number
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(os.devnull)  # noqa: SIM115 - for as long as the process lives
    made = []
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        before = getattr(sys, name)
        raw = _Lasting(descriptor, f"<{name}>")
        encoding = before.encoding if before is not None else "utf-8"
        buffer: Any = io.BufferedWriter(raw, 1 << 13)  # type: ignore[type-var]
        stream = io.TextIOWrapper(buffer, encoding, "backslashreplace", line_buffering=name == "stderr" or raw.isatty())
        setattr(sys, name, stream)
        made.append((stream, raw))

    def unprinted() -> OSError | None:
        for stream, _ in made:
            stream.flush()
        return made[0][1].error

    return unprinted


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
