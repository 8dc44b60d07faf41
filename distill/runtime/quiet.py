"""Libraries that stay quiet: stderr is kept back while they load, loggers are silent while they work, and both are as before afterwards.

TensorFlow's C++ writes to stderr while it loads, whatever is set."""

import importlib
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any

QUIET = "TF_CPP_MIN_LOG_LEVEL"  # TensorFlow reads it while it loads; with "3" it is silent: what matters comes as a Python exception
_screen: int | None = None  # where stderr goes, while it is kept back
_kept: IO[bytes] | None = None
_keepers = 0
_keeping = threading.RLock()
_environment = ExitStack()  # what `quiet_import` has set, while it keeps stderr back


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


def import_openvino() -> Any:
    """Returns OpenVINO. Its telemetry is left out: at the import alone it would write an id into the home folder and report to its makers.

    Raises:
        ImportError: it is not installed.
    """
    name = "openvino_telemetry"
    if "openvino" in sys.modules or name in sys.modules:  # somebody else has imported it, as it is
        return importlib.import_module("openvino")
    sys.modules[name] = None  # type: ignore[assignment]  # as if it were not installed, which OpenVINO is made for
    try:
        with quiet_import():
            return importlib.import_module("openvino")
    finally:
        del sys.modules[name]


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


@contextmanager
def silenced(names: tuple[str, ...], speakers: tuple[str, ...]) -> Iterator[None]:
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
