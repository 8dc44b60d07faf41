"""One at a time: on a disk by the system's lock, in object stores by claims that live as long as they are written again."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace

import pytest

from distill import DistillError, Unfinished
from distill.storage import locks
from distill.storage.locks import only_process, owner_of
from distill.storage.path import as_path
from tests.conftest import distill as command_line
from tests.conftest import inside, messages, put, upload_all


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    """A tenth of the pauses between attempts, which is enough between threads of one process."""
    monkeypatch.setattr(locks, "PAUSE", 0.2)


# ---------------------------------------------------------------------------------------------------------------------------- on a disk


def test_the_owner_of_a_folder_is_known_without_locking_it(tmp_path):
    assert owner_of(tmp_path, "launcher") == "" and not list(tmp_path.iterdir())
    with only_process(tmp_path, "launcher") as check:
        check()
        assert owner_of(tmp_path, "launcher") == f"process {os.getpid()} on {socket.gethostname()}"
        assert owner_of(tmp_path, "trainer") == ""
        with pytest.raises(DistillError, match=f"another launcher \\(process {os.getpid()} "), only_process(tmp_path, "launcher"):
            pass
    assert owner_of(tmp_path, "launcher") == ""  # what the file says of the last one does not count


def test_who_only_asks_keeps_nobody_from_a_folder(tmp_path):
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / ".launcher").touch()
    with open(tmp_path / ".launcher") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        threading.Thread(target=lambda: (time.sleep(0.03), fcntl.flock(asking, fcntl.LOCK_UN))).start()
        with only_process(tmp_path, "launcher"):
            assert owner_of(tmp_path, "launcher")


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL], ids=errno.errorcode.get)
def no_locks(request, monkeypatch):
    """A file system without locks: Lustre without -o flock, NFS without lockd, some of FUSE."""
    fcntl = pytest.importorskip("fcntl")

    def fails(file, how):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", fails)
    return request.param


def test_an_owner_with_a_lock_is_seen_by_a_process_that_gets_none(tmp_path):
    """As where the table of locks is full for a moment; a name that is left by a dead process, or by one that let go, keeps nobody out."""
    fcntl = pytest.importorskip("fcntl")

    def full(file, how):
        raise OSError(errno.ENOLCK, "")

    with only_process(tmp_path, "launcher"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", full)
        me = f"process {os.getpid()} on {socket.gethostname()}"
        assert owner_of(tmp_path, "launcher") == me
        with pytest.raises(DistillError, match=f"another launcher \\({me}\\)"), only_process(tmp_path, "launcher"):
            pass
    assert (tmp_path / ".launcher").read_bytes() == b""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, "flock", full)
        for left in (
            "",
            f"process {dead.pid} on {socket.gethostname()}\n",
            f"process {os.getpid()} on another\n",
            f"process {os.getpid()} on {socket.gethostname()}\n",
        ):
            (tmp_path / ".launcher").write_text(left)
            os.utime(tmp_path / ".launcher", (5, 5))  # before this process began: the last one is of another that had its number
            assert owner_of(tmp_path, "launcher") == ""
            with only_process(tmp_path, "launcher"):
                pass


def test_without_locks_claims_name_the_owner(tmp_path, no_locks, caplog):
    assert owner_of(tmp_path, "launcher") == "" and not list(tmp_path.iterdir())
    with only_process(tmp_path, "launcher") as check:
        check()
        assert owner_of(tmp_path, "launcher").startswith(f"process {os.getpid()} on {socket.gethostname()} since ")
        assert owner_of(tmp_path, "trainer") == ""
        (said,) = caplog.messages
        assert said.startswith(f"{tmp_path}: the system gives no lock here ({os.strerror(no_locks)}). Who works there is recorded in files in ")
        with pytest.raises(DistillError, match=f"another launcher \\(process {os.getpid()} on .*forgotten 120 seconds"), only_process(tmp_path, "launcher"):
            pass
    assert owner_of(tmp_path, "launcher") == "" and not list((tmp_path / ".launcher.claims").iterdir())


def test_a_claim_counts_where_there_are_locks_too(tmp_path, no_locks):
    """Of two machines one may have been mounted with locks."""
    with only_process(tmp_path, "launcher"), pytest.MonkeyPatch.context() as patch:
        patch.setattr("fcntl.flock", lambda file, how: None)
        assert owner_of(tmp_path, "launcher").startswith(f"process {os.getpid()} on ")
        with pytest.raises(DistillError, match="another launcher"), only_process(tmp_path, "launcher"):
            pass


def test_a_lock_that_fails_otherwise_comes_out_under_its_own_name(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def fails(file, how):
        raise OSError(errno.EIO, "whatever")

    monkeypatch.setattr(fcntl, "flock", fails)
    with pytest.raises(OSError, match="Input/output error: .*launcher"), only_process(tmp_path, "launcher"):
        pass
    assert owner_of(tmp_path, "launcher") is None


# ------------------------------------------------------------------------------------------------------------------------ in object stores

ONE_SLOW = pytest.mark.parametrize("store", ["gs", pytest.param("s3", marks=pytest.mark.slow)], indirect=True)


def claims(folder) -> list[str]:
    return sorted(path.name for path in (folder / ".launcher").iterdir())


def elsewhere(folder, **said):
    """A claim of another machine."""
    claim = locks.Claim("far-away", 17, 1, "another boot", "2026-01-02 03:04:05 UTC")
    return put(folder / ".launcher" / "far-away.17.1-0.json", json.dumps(asdict(replace(claim, **said))).encode())


def test_a_folder_in_a_store_is_held_by_one(store, folder):
    assert owner_of(folder, "launcher") == ""
    with only_process(folder, "launcher") as check:
        check()
        (name,) = claims(folder)
        assert name.startswith(f"{locks.host_name()}.{os.getpid()}.")
        who = f"process {os.getpid()} on {socket.gethostname()} since 20"
        assert owner_of(folder, "launcher").startswith(who) and owner_of(folder, "trainer") == ""
        with pytest.raises(DistillError) as caught, only_process(folder, "launcher"):
            pass
        assert str(caught.value).startswith(f"{folder} is being worked on by another launcher ({who}")
        assert "s ago). Wait for it or stop it, or use another folder. One that died is forgotten 120 seconds" in str(caught.value)
        assert claims(folder) == [name]
        with only_process(folder / "other", "launcher"), only_process(folder, "trainer"):
            pass
    assert claims(folder) == [] and owner_of(folder, "launcher") == ""
    with pytest.raises(KeyError), only_process(folder, "launcher"):
        raise KeyError
    assert claims(folder) == []


def test_of_many_that_come_at_once_one_works_at_a_time(store, folder, monkeypatch):
    monkeypatch.setattr(locks, "PAUSE", 2.0)  # as it is: each works for longer than a short one
    lock, inside_now, most, entered = threading.Lock(), 0, 0, 0

    def work(_):
        nonlocal inside_now, most, entered
        try:
            with only_process(folder, "launcher"):
                with lock:
                    inside_now, entered = inside_now + 1, entered + 1
                    most = max(most, inside_now)
                time.sleep(0.3)
                with lock:
                    inside_now -= 1
        except DistillError as error:
            assert "another launcher" in str(error)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(12)))
    assert most == 1 and entered >= 2 and claims(folder) == []


DYING = """
import sys, time
from distill.storage.locks import only_process
from distill.storage.path import as_path
with only_process(as_path(sys.argv[1]), "launcher"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_dead_one_of_this_machine_is_forgotten_at_once(store, folder):
    process = subprocess.Popen([sys.executable, "-c", DYING, str(folder)], env={**os.environ, **store.environment()}, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with pytest.raises(DistillError, match=f"another launcher \\(process {process.pid} on "), only_process(folder, "launcher"):
        pass
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(claims(folder)) == 1 and owner_of(folder, "launcher") == ""
    with only_process(folder, "launcher"):
        assert [name.split(".")[1] for name in claims(folder)] == [str(os.getpid())]


@ONE_SLOW
def test_a_dead_one_of_another_machine_is_forgotten_after_a_while(store, folder, monkeypatch):
    monkeypatch.setattr(locks, "LEASE", 6.0)
    elsewhere(folder)
    started = time.monotonic()
    with pytest.raises(DistillError, match="process 17 on far-away since 2026-01-02 03:04:05 UTC, heard of [0-6] s ago"), only_process(folder, "launcher"):
        pass
    assert owner_of(folder, "launcher") == "process 17 on far-away since 2026-01-02 03:04:05 UTC"
    time.sleep(max(0, 7.5 - (time.monotonic() - started)))  # s3:// gives whole seconds
    with only_process(folder, "launcher"):
        assert len(claims(folder)) == 1 and "far-away" not in claims(folder)[0]


def test_what_is_no_claim_counts_for_as_long(store, folder, monkeypatch):
    monkeypatch.setattr(locks, "TRIES", 1)
    put(folder / ".launcher" / "note.txt", b"mine")
    with pytest.raises(DistillError, match="on an unknown machine since an unknown time"), only_process(folder, "launcher"):
        pass


@ONE_SLOW
def test_an_owner_rewrites_its_claim(store, folder, monkeypatch):
    monkeypatch.setattr(locks, "BEAT", 0.1)
    monkeypatch.setattr(locks, "LEASE", 5.0)
    with only_process(folder, "launcher") as check:
        store.faults(0.1, seed=1)
        time.sleep(6.5)
        store.faults(0.0)
        check()
        monkeypatch.setattr(locks, "TRIES", 1)
        with pytest.raises(DistillError, match="heard of [0-2] s ago"), only_process(folder, "launcher"):
            pass
        check()
    count = sum(store.counts().values())
    time.sleep(0.3)
    assert sum(store.counts().values()) == count  # it is still after the end


def test_one_that_slept_gives_way_to_another(store, folder, monkeypatch):
    monkeypatch.setattr(locks, "BEAT", 0.1)
    with only_process(folder, "launcher") as check:
        other = elsewhere(folder)
        time.sleep(0.5)
        check()  # who holds a folder does not mind one that asks
        monkeypatch.setattr(locks, "SAFE", -1.0)
        until = time.monotonic() + 20
        while check.__self__.lost == "" and time.monotonic() < until:  # its next beat, on however busy a machine
            time.sleep(0.1)
        with pytest.raises(Unfinished, match="this launcher was not heard of .* another one works there \\(process 17 on far-away"):
            check()
    assert claims(folder) == [other.name]


def test_one_that_slept_goes_on_where_nobody_came(store, folder, monkeypatch):
    monkeypatch.setattr(locks, "BEAT", 0.1)
    monkeypatch.setattr(locks, "SAFE", -1.0)
    with only_process(folder, "launcher") as check:
        time.sleep(0.5)
        check()
        assert len(claims(folder)) == 1


@ONE_SLOW
def test_holding_with_faults(store, folder, monkeypatch):
    monkeypatch.setattr(locks, "TRIES", 2)
    store.faults(0.1, seed=2)
    for _ in range(2):
        with only_process(folder, "launcher"), pytest.raises(DistillError), only_process(folder, "launcher"):
            pass


def test_a_second_launcher_is_refused_and_inspect_tells_of_the_first(store, folder, faces, teacher):
    with only_process(folder / "out", "launcher"):
        done = inside("embed", faces, folder / "out", "--teacher", teacher)
        assert done.returncode == 2 and f"another launcher (process {os.getpid()} on " in done.stderr and len(messages(done)) == 1
        inspected = inside("inspect", folder / "out")
        assert inspected.returncode == 0 and f"launcher: process {os.getpid()} on " in inspected.stdout, inspected.stderr
    assert not claims(folder / "out") and not (folder / "out" / "state").exists()


@pytest.mark.slow
def test_two_launchers_at_once_and_one_that_was_killed(store, folder, faces, teacher):
    upload_all(faces, folder / "faces")
    words = [str(word) for word in ("embed", folder / "faces", folder / "out", "--teacher", teacher, "--rows", 25, "--batch", 8)]
    environment = {**os.environ, **store.environment()}
    killed = subprocess.Popen([sys.executable, "-m", "distill.cli", *words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not claims(folder / "out") and killed.poll() is None:
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(claims(folder / "out")) == 1
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: command_line(*words, env=environment), range(2)))
    codes = sorted(one.returncode for one in done)
    assert codes in ([0, 2], [0, 0]), [one.stderr for one in done]  # the second may have come when the first was done
    assert all("another launcher" in one.stderr for one in done if one.returncode == 2)
    assert inside("verify", as_path(str(folder / "out")), "--deep").returncode == 0 and not claims(folder / "out")
