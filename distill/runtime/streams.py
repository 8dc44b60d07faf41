"""Streams of a program that take every letter and never end its work."""

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import Any


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
