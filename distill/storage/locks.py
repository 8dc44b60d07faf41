"""One launcher for one OUT, one trainer for one run: who works in a folder holds it, and another one is refused by name.

On a disk the system's own lock does it, which ends with the process. An object store has none, nor have some file systems, and pyarrow cannot
write "only where nothing lies" there; both stores, and file systems, show a file to every listing that begins when it is written. So who wants a
folder writes a claim of its own, OUT/.launcher/<name of its own> (on a disk OUT/.launcher.claims/), and lists the claims then: who sees a living
one withdraws. Of two, the one who wrote later sees the other, whenever they came; where both see each other, both withdraw and try again after
pauses that differ.

A claim lives as long as its holder writes it again, each BEAT seconds. It is dead LEASE seconds after the last time, by the store's clock,
and at once where its process ran on this machine and is gone. A holder that could not write for SAFE seconds (a machine that slept, a store
that was away) has to claim anew as anybody has.
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
from distill.storage.files import host_name, lives, parse_json, process_space, started, write_json
from distill.storage.path import StoragePath

LEASE, SAFE, BEAT = 120.0, 60.0, 15.0  # seconds; between SAFE and LEASE the slowest write ends
CLOCKS = 5.0  # seconds by which the clock of a file server may be behind
TRIES = 4  # to claim, where another one claims at the same time
NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}  # how systems say that they have none, or none to spare
CLAIM = re.compile(r"[A-Za-z0-9_-]+\.\d+\.-?\d+-[0-9a-f]+\.json")  # the name of a claim: host, process, when that started, and any letters

log = logging.getLogger("distill")
_CLOCK = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", 0))  # goes on while the machine sleeps


@contextmanager
def only_process(folder: StoragePath, name: str) -> Iterator[Callable[[], None]]:
    """Hold `folder` for this process as its only `name` ("launcher", "trainer"), until the block or the process ends, however it ends.

    DistillError where another one holds it. What is yielded raises Unfinished when the hold was lost, which can only happen where claims are used.
    """
    with _locked_by(folder, name) if isinstance(folder, Path) else _claimed(folder / f".{name}", folder, name) as check:
        yield check


def holder(folder: StoragePath, name: str) -> str | None:
    """Who holds `folder` now as its only `name`, such as "process 12 on host"; "" where nobody does, None where the system cannot tell."""
    if not isinstance(folder, Path):
        return _claimant(folder / f".{name}")
    try:
        with open(folder / f".{name}") as file:
            got = _locked(file, exclusive=False)
            if got is False:
                return file.read().strip() or "unknown"
            if got is not True and (who := _names(file)):
                return who
    except OSError as error:
        if error.errno != errno.ENOENT:
            return None
    return _claimant(_claims_beside(folder, name))


def _claimant(claims: StoragePath) -> str:
    now = time.time_ns()  # near enough for who only asks
    return next((str(claim) for _, claim in _living(_claims(claims), now)), "")


# ---------------------------------------------------------------------------------------------------------------------------- on a disk


@contextmanager
def _locked_by(folder: Path, name: str) -> Iterator[Callable[[], None]]:
    with open(folder / f".{name}", "a+") as file:
        got = _locked(file)
        for _ in range(3 if got is not True else 0):
            time.sleep(0.1)  # it may have been somebody who only asked, or a system that had no room for one more lock
            if (got := _locked(file)) is True:
                break
        claims = _claims_beside(folder, name)
        if isinstance(got, OSError):
            if who := _names(file):  # which got the lock that this one was not given
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
        if not _is_named(file, folder / f".{name}"):  # its holder was refused, and has taken its folder away
            raise _refusal(folder, name, "one that is just ending")
        if who := _claimant(claims):  # of a machine on which this file system has no locks
            raise _refusal(folder, name, who, FORGOTTEN)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        try:
            yield _stays
        finally:
            with suppress(OSError):  # a name that stays says nothing but for as long as its process lives
                file.truncate(0)


def _names(file: IO[str]) -> str:
    """The living process of this machine that wrote its name into an open file and has not taken it out again, else ""."""
    import psutil

    file.seek(0)
    said = file.read().strip()
    named = re.fullmatch(r"process (\d{1,9}) on (.*)", said)
    if not named or named[2] != socket.gethostname():
        return ""
    try:
        process = psutil.Process(int(named[1]))
        begun, ended = process.create_time(), process.status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return ""
    return said if not ended and begun <= os.fstat(file.fileno()).st_mtime + CLOCKS else ""  # else another one, which has its number by now


def _claims_beside(folder: Path, name: str) -> Path:
    return folder / f".{name}.claims"


def _is_named(file: IO[str], path: Path) -> bool:
    """Whether an open file is still the one of this name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _locked(file: IO[str], exclusive: bool = True) -> bool | OSError:
    """Lock an open file until it is closed. Returns False where another process has it, what the system answered where it gives no locks."""
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


def _stays() -> None:
    """A lock of the system's is never lost."""


FORGOTTEN = f" One that died is forgotten {LEASE:.0f} seconds after its last sign of life."


def _refusal(folder: StoragePath, name: str, who: str, way_out: str = "") -> DistillError:
    return DistillError(f"{folder} is being worked on by another {name} ({who}). Wait for it or stop it, or use another folder.{way_out}")


# ------------------------------------------------------------------------------------------ in object stores, and on disks without locks


@dataclass(frozen=True)
class Claim:
    """What a claim says. started: ticks since the boot, as in `distill.storage.files`; space: where process ids are told from each other, "" if
    nobody knows; since: for people."""

    host: str
    pid: int
    started: int
    space: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"

    def is_gone(self) -> bool:
        """Whether it is known that its process is no more: only on the machine and among the processes where it ran."""
        return bool(self.space) and self.space == process_space() and not lives(self.pid, self.started)


class _Hold:
    """The claim of this process in a folder, and the thread that writes it again."""

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
                time.sleep(0.2 + 2 * zlib.crc32(f"{self.path} {attempt}".encode()) / 2**32)  # another pause than the other one's
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
        with suppress(DistillError):  # it dies by itself
            self.path.unlink(missing_ok=True)

    def _claim(self) -> str:
        """Write the claim, remove the dead ones; who else claims, and when it was heard of, "" if nobody does."""
        written = _clock()
        write_json(self.path, asdict(self.claim))
        now = self.path.stat().st_mtime_ns
        others = [(path, seen, claim) for path, seen, claim in _claims(self.claims) if path != self.path]
        alive = dict(_living(others, now))
        for path, _, _ in others:
            if path not in alive and CLAIM.fullmatch(path.name):
                path.unlink(missing_ok=True)
        self._written = written
        said = [f"{claim}, heard of {max(0, now - seen) / 1e9:.0f} s ago" for path, seen, claim in others if path in alive]
        return "; ".join(said)

    def _beat(self) -> None:
        while not self._over.wait(BEAT) and not self.lost:
            with suppress(DistillError, OSError):  # the store is away: the next time, or whoever works finds it too
                if _clock() - self._written > SAFE:
                    self.lost = self._claim()
                else:
                    written = _clock()
                    write_json(self.path, asdict(self.claim))
                    self._written = written
                if self._over.is_set():  # released while that was on its way
                    self.path.unlink(missing_ok=True)


@contextmanager
def _claimed(claims: StoragePath, folder: StoragePath, name: str) -> Iterator[Callable[[], None]]:
    hold = _Hold(claims, folder, name)
    try:
        hold.take()
        yield hold.check
    finally:
        hold.release()


def _claims(folder: StoragePath) -> list[tuple[StoragePath, int, Claim]]:
    """(path, when it was written by the store's clock in nanoseconds, claim) of each claim."""
    found = list[tuple[StoragePath, int, Claim]]()
    try:
        paths = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except FileNotFoundError:
        return found
    for path in paths:
        try:
            found.append((path, path.stat().st_mtime_ns, _read(path)))
        except (FileNotFoundError, StoreError):
            if path.exists():  # not withdrawn meanwhile, which pyarrow calls a failure where it happens between its two requests
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
