"""Imports of libraries that talk before they can be asked not to. TensorFlow's C++ writes to stderr while it loads, whatever is set."""

import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_import() -> Iterator[None]:
    """What is written to stderr meanwhile is kept back, and shown only if the block raises. With --debug nothing is kept back."""
    if os.environ.get("DISTILL_DEBUG") == "1":
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what matters comes as a Python exception
    root, level = logging.getLogger(), logging.getLogger().level
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as kept:
        os.dup2(kept.fileno(), 2)
        root.setLevel(logging.ERROR)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(screen, kept.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(screen, 2)
            os.close(screen)
            root.setLevel(level)
