"""Files on disk. A file appears under its final name only when it is whole; until then it has a unique temporary name.

A temporary name is `.<name>.<space>.<process>.<started>-<random>.tmp`. Temporaries are in the folder of the final file, so that the last step is
one atomic rename. Readers ignore names with a leading dot.

The space is a hash of this boot of this machine and its process ids (a container has its own). Within one space, a process id and its start time
prove that a writer is gone; all other temporaries count as leftovers when nothing was written into them for ABANDONED
seconds, by the clock of the file server. A machine's name proves nothing: containers share it, and process ids too.

For an object store (`distill.storage.path`) the unfinished file is on the local disk and is uploaded in one go: an object appears whole or not at all.
"""

import errno
import hashlib
import os
import re
import secrets
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

from distill.storage.objects import RemotePath
from distill.storage.path import StoragePath, as_path

_TEMPORARY = re.compile(
    r"\..+\.((?P<space>[0-9a-f]{12})\.(?P<pid>\d+)\.(?P<started>\d+)-[0-9a-f]{16}|[A-Za-z0-9_-]+\.\d+\.\d+-\d+)\.(tmp|keras)", re.DOTALL
)  # the second kind is that of early versions, with the name of the host
# A shard's writer writes a row group at a time, which takes the slowest teacher (a row a second) 17 minutes; a suspended laptop sleeps overnight.
ABANDONED = 24 * 3600.0
_NO_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM}
_LIBRARY = {errno.EISDIR, errno.EINVAL, errno.EFAULT, errno.EFBIG, errno.EOVERFLOW}
BLOCK = 4 << 20
ENDED = -2


def temporary_for(path: Path) -> Path:
    """Returns a name for the unfinished `path`, in the same folder, that no other writer uses. Creates nothing."""
    pid = os.getpid()
    space = hashlib.sha256(process_space().encode()).hexdigest()[:12] if process_space() else "0" * 12
    return path.parent / f".{path.name}.{space}.{pid}.{started(pid)}-{secrets.token_hex(8)}.tmp"


def is_temporary(name: str) -> bool:
    """Returns whether a name was made by `temporary_for`."""
    return _TEMPORARY.fullmatch(name) is not None


@contextmanager
def committed(path: str | StoragePath) -> Iterator[Path]:
    """Yields a temporary file for the block to write; it becomes `path` (replacing a file there) when the block ends, and is removed when it raises.

    The bytes are on disk (fsync) before the name changes. The folder must exist; the block must create the file. A `path` in an object
    store is uploaded when the block ends.

    >>> with committed("out/index.json") as temporary:
    ...     temporary.write_text("{}")
    """
    path = as_path(path)
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory(prefix="distill-") as folder:
            yield (temporary := Path(folder) / path.name)
            path.upload(temporary)
        return
    temporary = temporary_for(path)
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Writes the bytes of a file, or the names in a folder, to the disk before it returns. Does nothing for a folder that cannot be synced."""
    if os.name == "nt":
        return  # neither folders nor read-only descriptors can be synced there
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (error.errno in _NO_SYNC and path.is_dir()):  # some network file systems refuse to sync a folder
            raise named(error, path) from error
    finally:
        os.close(descriptor)


def is_there(path: StoragePath) -> bool:
    """Returns whether a file or folder exists. Raises OSError where the system fails: only "no such file" means that it is missing.

    `pathlib.Path.exists` takes a loop of links for a missing file, and from Python 3.14 on any failure.
    """
    if isinstance(path, RemotePath):
        return path.exists()
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def named(error: OSError, path: object) -> OSError:
    """Returns the same OSError with the path where it happened, of the class that belongs to its number."""
    return OSError(error.errno, os.strerror(error.errno or 0), str(path))


def failure(path: StoragePath, error: BaseException) -> OSError | None:
    """Returns the system's failure because of which a library could not read `path`; None where all bytes can be read, so that they are at fault.

    Errors that a library causes itself do not count: HDF5 reads at offsets from a damaged file, and gets EINVAL.
    """
    number = errno.ENOMEM if isinstance(error, MemoryError) else error.errno if isinstance(error, OSError) else None
    if number and number not in _LIBRARY:
        return named(OSError(number, ""), path)
    try:
        for _ in blocks(path):
            pass
    except IsADirectoryError:
        return None  # not a file
    except OSError as failed:
        return failed
    return None


def blocks(path: StoragePath) -> Iterator[bytes]:
    """Yields all bytes of a file, or raises OSError with its path. Python's own error lacks the path, and takes EAGAIN for the end of a file."""
    try:
        with path.open("rb") as file:
            while (block := file.read(BLOCK)) != b"":
                if block is None:
                    raise BlockingIOError(errno.EAGAIN, "")
                yield block
    except OSError as error:
        raise (named(error, path) if error.errno else error) from error


def read_whole(path: StoragePath) -> bytes:
    """Returns all bytes of a file, or raises OSError with its path."""
    return path.read_bytes() if isinstance(path, RemotePath) else b"".join(blocks(path))


def sweep(folder: str | StoragePath) -> list[Path]:
    """Removes what dead writers left directly in `folder`, files and whole folders; returns the paths that were removed, sorted.

    The caller has the folder's lock, where there is one. Only names that `temporary_for` makes are considered. Files of living writers on this machine
    stay, and so do those of any other writer that were written to in the last ABANDONED seconds. A missing folder is empty; an object store has no temporaries.
    """
    removed: list[Path] = []
    here = as_path(folder)
    if not isinstance(here, Path):
        return removed
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(here) as entries:
        for entry in entries:
            match = _TEMPORARY.fullmatch(entry.name)
            if match is None or not (_is_dead(match) or _is_abandoned(Path(entry.path))):
                continue
            with suppress(FileNotFoundError):  # two sweepers may meet
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)
                removed.append(Path(entry.path))
    return sorted(removed)


def _is_dead(match: re.Match[str]) -> bool:
    """Returns whether the writer is known to be gone, which only its own process space can show."""
    space = process_space()
    if not space or match["space"] != hashlib.sha256(space.encode()).hexdigest()[:12]:
        return False
    return not lives(int(match["pid"]), int(match["started"]))


def _is_abandoned(path: Path) -> bool:
    """Returns whether nothing in it was written for ABANDONED seconds, by the clock of its file system."""
    try:
        written = max(os.lstat(one).st_mtime for one in (path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())))
        with tempfile.TemporaryFile(dir=path.parent) as file:
            return os.fstat(file.fileno()).st_mtime - written > ABANDONED
    except OSError:  # it was removed meanwhile, or the folder is read-only
        return False


def sha256_file(path: str | StoragePath) -> str:
    """Returns the SHA-256 of a file's bytes, 64 hex digits, in constant memory."""
    digest = hashlib.sha256()
    for block in blocks(as_path(path)):
        digest.update(block)
    return digest.hexdigest()


def host_name() -> str:
    """Returns the name of this machine in letters that a file name may have."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", socket.gethostname()) or "host"


@lru_cache(maxsize=1)
def process_space() -> str:
    """Returns an id of this boot and this space of process ids; "" where it is unknown or /proc shows the processes of another space."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):
            return ""
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def started(pid: int) -> int:
    """Returns when a process started, in clock ticks since boot; 0 where that is unknown (no /proc), -1 where there is no such process, ENDED
    where it has ended and only its entry is left, which stays for ever in a container without an init."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return -1 if Path("/proc/self/stat").exists() else 0
    except PermissionError:
        return 0
    fields = stat.rpartition(b")")[2].split()  # the name before the last ")" may hold anything; fields 3 and 22 of proc(5)
    return ENDED if fields[0] in (b"Z", b"X") else int(fields[19])


def lives(pid: int, begun: int) -> bool:
    """Returns whether the process that started at `begun` still runs; where start times are unknown, whether any process has this id."""
    now = started(pid)
    if now == ENDED:
        return False
    if now > 0 and begun:
        return now == begun
    if os.name == "nt":
        return True  # os.kill would end the process there; a leftover file does less harm
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
