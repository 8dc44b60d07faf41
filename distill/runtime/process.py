"""Memory of a process: what it frees is kept, and a GPU's grows as it is needed.

glibc gives large blocks back to the system at once, so that every step of a network takes its memory anew: 75,000 page faults a step were
measured on the demo's teacher, 2.6 times the time of the step. It does so in another way in each thread's own arena, whose heaps hold 64 MB:
38,000 page faults a call of 128 images were measured on a MobileNetV2, 1.4 times the CPU time. So all threads share one arena.
"""

import ctypes
import os
from collections.abc import Mapping

from distill.runtime.quiet import quiet_import

# mallopt(3): parameter numbers of glibc's malloc.h, and bytes
TRIM_THRESHOLD, TOP_PAD, MMAP_THRESHOLD, ARENA_MAX = -1, -2, -3, -8
SETTINGS = {MMAP_THRESHOLD: 1 << 30, TRIM_THRESHOLD: (1 << 31) - 1, TOP_PAD: 64 << 20, ARENA_MAX: 1}

LOOPBACK = ("localhost", "127.0.0.1", "::1")

_keeps_memory = False


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
