"""One launcher for one OUT, one trainer for one run: a process locks the folder it works in, and another one is refused with the owner's name.

On a disk this is a lock of the operating system, which ends with the process. Object stores and some file systems have no locks, and pyarrow has no
create-only write for stores; but stores and file systems show a file in every listing that begins after it was written. So a process that wants
the folder writes a claim under a name of its own, OUT/.launcher/<name> (on a disk OUT/.launcher.claims/<name>), then lists all claims, and withdraws
where it sees another living one. Of two processes the later writer always sees the other; where both see each other, both withdraw and try again
after different pauses.

A claim lives as long as its owner rewrites it, every BEAT seconds. It is dead LEASE seconds after the last time, by the store's clock,
and at once where its process ran on this machine and is gone. An owner that could not write for SAFE seconds (the machine slept, the store
failed) has to claim anew.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import secrets
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from distill.errors import DistillError, StoreError, Unfinished
from distill.storage.files import host_name, lives, process_space, started
from distill.storage.json_files import parse_json, write_json
from distill.storage.path import StoragePath

LEASE, SAFE, BEAT = 120.0, 60.0, 15.0  # seconds; the slowest write must end between SAFE and LEASE
PAUSE = 2.0  # seconds, about the longest pause before a claim is tried again
CLOCKS = 5.0  # seconds that the clock of a file server may be behind
FORGOTTEN = f" One that died is forgotten {LEASE:.0f} seconds after its last sign of life."
TRIES = 4  # attempts to claim while another process claims too
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}  # codes of systems that have no locks, or none left
CLAIM = re.compile(r"[A-Za-z0-9_-]+\.\d+\.-?\d+-[0-9a-f]+\.json")  # host, process, its start time, random letters

log = logging.getLogger("distill")
_CLOCK = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", 0))  # goes on while the machine sleeps


@contextmanager
def only_process(folder: StoragePath, name: str) -> Iterator[Callable[[], None]]:
    """Locks `folder` for this process as its only `name` ("launcher", "trainer") until the block or the process ends.

    Yields a function that raises Unfinished when the lock was lost, which can only happen to claims. Raises DistillError where another process has
    the lock.
    """
    with _locked_by(folder, name) if isinstance(folder, Path) else _claimed(folder / f".{name}", folder, name) as check:
        yield check


def owner_of(folder: StoragePath, name: str) -> str | None:
    """Returns the process that has locked `folder` as its only `name`, such as "process 12 on host"; "" for none, None where it is unknown."""
    if not isinstance(folder, Path):
        return _claimant(folder / f".{name}")
    try:
        with open(folder / f".{name}") as file:
            got = _locked(file, exclusive=False)
            if got is False:
                return file.read().strip() or "unknown"
            if got is not True and (who := _named_owner(file)):
                return who
    except OSError as error:
        if error.errno != errno.ENOENT:
            return None
    return _claimant(_claims_beside(folder, name))


def _claimant(claims: StoragePath) -> str:
    now = time.time_ns()  # exact enough, as nothing is decided by it
    return next((str(claim) for _, claim in _living(_claims(claims), now)), "")


# ---------------------------------------------------------------------------------------------------------------------------- on a disk


@contextmanager
def _locked_by(folder: Path, name: str) -> Iterator[Callable[[], None]]:
    with open(folder / f".{name}", "a+") as file:
        got = _locked(file)
        for _ in range(3 if got is not True else 0):
            time.sleep(0.1)  # another process may just have asked for the owner, or the table of locks was full
            if (got := _locked(file)) is True:
                break
        claims = _claims_beside(folder, name)
        if isinstance(got, OSError):
            if who := _named_owner(file):  # it did get the lock
                raise _refusal(folder, name, who)
            log.warning(
                "%s: the system gives no lock here (%s). Who works there is recorded in files in %s that are rewritten every %.0f seconds; "
                "one that died is forgotten after %.0f.",
                folder,
                got.strerror,
                claims,
                BEAT,
                LEASE,
            )
            claims.mkdir(exist_ok=True)
            with _claimed(claims, folder, name) as check:
                yield check
            return
        if got is False:
            file.seek(0)
            raise _refusal(folder, name, file.read().strip() or "unknown")
        if not _is_named(file, folder / f".{name}"):  # its owner was refused, and has removed its folder
            raise _refusal(folder, name, "one that is just ending")
        if who := _claimant(claims):  # on a machine where this file system has no locks
            raise _refusal(folder, name, who, FORGOTTEN)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield lambda: None  # a lock of the operating system is never lost
        finally:
            with suppress(OSError):  # a name left behind counts only while its process lives
                file.truncate(0)


def _named_owner(file: IO[str]) -> str:
    """Returns the living process of this machine whose name is in an open lock file, else ""."""
    import psutil

    file.seek(0)
    text = file.read().strip()
    named = re.fullmatch(r"process (\d{1,9}) on (.*)", text)
    if not named or named[2] != socket.gethostname():
        return ""
    try:
        process = psutil.Process(int(named[1]))
        begun, ended = process.create_time(), process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return ""
    return text if not ended and begun <= os.fstat(file.fileno()).st_mtime + CLOCKS else ""  # else the id was given to a later process


def _claims_beside(folder: Path, name: str) -> Path:
    return folder / f".{name}.claims"


def _is_named(file: IO[str], path: Path) -> bool:
    """Returns whether an open file is still the one at `path`."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _locked(file: IO[str], exclusive: bool = True) -> bool | OSError:
    """Locks an open file until it is closed. Returns False where another process has the lock, an OSError where the system has no locks."""
    try:
        import fcntl
    except ImportError:
        return OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    try:
        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in NO_LOCKS:
            return OSError(error.errno, os.strerror(error.errno))
        raise OSError(error.errno, os.strerror(error.errno or 0), file.name) from error
    return True


def _refusal(folder: StoragePath, name: str, who: str, way_out: str = "") -> DistillError:
    return DistillError(f"{folder} is being worked on by another {name} ({who}). Wait for it or stop it, or use another folder.{way_out}")


# ------------------------------------------------------------------------------------------ in object stores, and on disks without locks


@dataclass(frozen=True)
class Claim:
    """The content of a claim. started: ticks since boot; space: of process ids (both as in `distill.storage.files`); since: for people."""

    host: str
    pid: int
    started: int
    space: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"

    def is_gone(self) -> bool:
        """Returns whether its process is known to be gone, which only its own process space can show."""
        return bool(self.space) and self.space == process_space() and not lives(self.pid, self.started)


class _Lease:
    """The claim of this process to a folder, and the thread that rewrites it."""

    def __init__(self, claims: StoragePath, folder: StoragePath, name: str) -> None:
        pid = os.getpid()
        self.claims, self.folder, self.name = claims, folder, name
        self.claim = Claim(socket.gethostname(), pid, started(pid), process_space(), time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()))
        self.path = claims / f"{host_name()}.{pid}.{self.claim.started}-{secrets.token_hex(4)}.json"
        self.lost = ""
        self._written, self._over = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"claim of a {name}", daemon=True)

    def take(self) -> None:
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE * (0.1 + zlib.crc32(f"{self.path} {attempt}".encode()) / 2**32))  # a different pause in each process
            other = self._claim()
            if not other:
                self._thread.start()
                return
            self.path.unlink(missing_ok=True)
        raise _refusal(self.folder, self.name, other, FORGOTTEN)

    def check(self) -> None:
        if self.lost:
            raise Unfinished(
                f"{self.folder}: this {self.name} was not heard of for {SAFE:.0f} seconds or more, and now another one works there ({self.lost}). "
                "What is done stays; let the other one go on."
            )

    def release(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(5)
        with suppress(DistillError):  # the claim expires by itself
            self.path.unlink(missing_ok=True)

    def _claim(self) -> str:
        """Writes the claim and removes dead ones. Returns the other owners and when each last wrote, "" for none."""
        written = _clock()
        write_json(self.path, asdict(self.claim))
        now = self.path.stat().st_mtime_ns
        others = [(path, seen, claim) for path, seen, claim in _claims(self.claims) if path != self.path]
        alive = dict(_living(others, now))
        for path, _, _ in others:
            if path not in alive and CLAIM.fullmatch(path.name):
                path.unlink(missing_ok=True)
        self._written = written
        return "; ".join(f"{claim}, heard of {max(0, now - seen) / 1e9:.0f} s ago" for path, seen, claim in others if path in alive)

    def _beat(self) -> None:
        while not self._over.wait(BEAT) and not self.lost:
            with suppress(DistillError, OSError):  # the store fails: next time, or the work itself finds out
                if _clock() - self._written > SAFE:
                    self.lost = self._claim()
                else:
                    written = _clock()
                    write_json(self.path, asdict(self.claim))
                    self._written = written
                if self._over.is_set():  # released meanwhile
                    self.path.unlink(missing_ok=True)


@contextmanager
def _claimed(claims: StoragePath, folder: StoragePath, name: str) -> Iterator[Callable[[], None]]:
    lease = _Lease(claims, folder, name)
    try:
        lease.take()
        yield lease.check
    finally:
        lease.release()


def _claims(folder: StoragePath) -> list[tuple[StoragePath, int, Claim]]:
    """Returns (path, nanoseconds of its last write by the store's clock, claim) of each claim."""
    found = list[tuple[StoragePath, int, Claim]]()
    try:
        paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except FileNotFoundError:
        return found
    for path in paths:
        try:
            found.append((path, path.stat().st_mtime_ns, _read(path)))
        except (FileNotFoundError, StoreError):
            if path.exists():  # else it was withdrawn between the two requests of pyarrow, which is then a failure to it
                raise
    return found


def _living(claims: list[tuple[StoragePath, int, Claim]], now: int) -> list[tuple[StoragePath, Claim]]:
    return [(path, claim) for path, seen, claim in claims if now - seen <= LEASE * 1e9 and not claim.is_gone()]


def _read(path: StoragePath) -> Claim:
    try:
        return parse_json(path.read_bytes(), Claim)
    except ValueError:
        return Claim("an unknown machine", 0, 0, "", "an unknown time")


def _clock() -> float:
    return time.clock_gettime(_CLOCK)
