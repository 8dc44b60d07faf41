"""What a process needs before it computes: libraries that stay quiet while they load, memory that is kept, GPU memory that grows.

TensorFlow's C++ writes to stderr while it loads, whatever is set. And glibc gives large blocks back to the system at once, so that every
step of a network takes its memory anew: 75,000 page faults a step were measured on the demo's teacher, 2.6 times the time of the step. It
does so in another way in each thread's own arena, whose heaps hold 64 MB: 38,000 page faults a call of 128 images were measured on a
MobileNetV2, 1.4 times the CPU time. So all threads share one arena.
"""

import ctypes
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

# mallopt(3): parameter numbers of glibc's malloc.h, and bytes
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8
SETTINGS = {MMAP_THRESHOLD: 1 << 30, TRIM_THRESHOLD: (1 << 31) - 1, TOP_PAD: 64 << 20, ARENA_MAX: 1}

_screens: list[int] = []  # where stderr went before it was kept back


def keep_memory() -> bool:
    """Let this process keep what it frees, for its next step. False where the C library has no such setting; nothing is changed then.

    What a process holds does not grow beyond its peak; it only does not shrink between steps. To be called before there are other threads,
    which keep the arena that they have. Processes that this one starts share one arena from their beginning.
    """
    os.environ.setdefault("MALLOC_ARENA_MAX", str(SETTINGS[ARENA_MAX]))
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
    """What is written to stderr meanwhile is kept back, and shown only if the block raises. With --debug nothing is kept back."""
    if os.environ.get("DISTILL_DEBUG") == "1":
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # what matters comes as a Python exception
    root, level = logging.getLogger(), logging.getLogger().level
    sys.stderr.flush()
    screen = os.dup(2)
    _screens.append(screen)
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
            _screens.remove(screen)
            os.close(screen)
            root.setLevel(level)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C does not reach this thread, nor the processes and threads that it starts meanwhile: it is for whoever watches them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def speak() -> None:
    """Show again what is written to stderr: for a last word while another thread is still in `quiet_import`."""
    if _screens:
        sys.stderr.flush()
        os.dup2(_screens[0], 2)
