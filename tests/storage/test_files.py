"""Files appear under their names when they are whole, and leftovers of dead writers can be told from those of living ones."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from distill.storage.files import ABANDONED, committed, host_name, sha256_file, sweep, temporary_for
from distill.storage.json_files import write_json


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "a.b.json"
    path.write_text("old")
    with committed(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old" and temporary.parent == tmp_path and temporary.name.startswith(".a.b.json.")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["a.b.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(error), committed(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a"]


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), committed(tmp_path / "a"):
        pass
    assert os.listdir(tmp_path) == []


def test_a_process_that_the_system_hides_lives(monkeypatch):
    """/proc mounted with hidepid shows no process of another user, though kill(2) knows of it."""
    import distill.storage.files as files

    assert files.lives(os.getpid(), files.started(os.getpid()))
    monkeypatch.setattr(files, "started", lambda pid: -1)
    assert files.lives(os.getpid(), 12345) and not files.lives(2**22 + 1, 12345)


def test_two_threads_do_not_share_a_temporary(tmp_path):
    assert temporary_for(tmp_path / "a") != temporary_for(tmp_path / "a")
    threads = [threading.Thread(target=write_json, args=(tmp_path / "a", {"n": n})) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert json.loads((tmp_path / "a").read_text())["n"] in range(8) and os.listdir(tmp_path) == ["a"]


def aged(path, seconds):
    """`path`, last written so long ago."""
    path.touch()
    then = time.time() - seconds
    os.utime(path, (then, then))
    return path


def test_sweep_removes_what_writers_of_this_machine_left_that_are_gone(tmp_path):
    code = "import os, sys\nfrom distill.storage.files import committed\nwith committed(sys.argv[1]) as t: t.write_text('x'); os._exit(9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "out 1.parquet")])
    (dead,) = tmp_path.iterdir()
    mine = temporary_for(tmp_path / "mine")
    space, pid, last = mine.name.split(".")[-4:-1]
    again = tmp_path / f".again.{space}.{pid}.{int(last.partition('-')[0]) + 1}-{'0' * 16}.tmp"  # this process's id, of one that started at another time
    for path in (mine, again, tmp_path / ".hidden", tmp_path / "x.tmp", tmp_path / f".a.{space}.x.1-{'0' * 16}.tmp"):
        path.touch()
    assert sweep(tmp_path) == sorted([dead, again])
    assert {".hidden", "x.tmp", mine.name} <= set(os.listdir(tmp_path))
    assert sweep(tmp_path) == [] == sweep(tmp_path / "missing")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere the system tells no states")
def test_a_process_that_has_ended_and_that_nobody_has_buried_is_gone():
    """As workers of a killed launcher stay in a container without an init."""
    import distill.storage.files as files

    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    begun = files.started(process.pid)
    assert files.lives(process.pid, begun)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert files.started(process.pid) == files.ENDED and not files.lives(process.pid, begun) and not files.lives(process.pid, 0)
    process.communicate()


def test_sweep_believes_no_process_number_from_elsewhere(tmp_path):
    """In another container, or on another machine of the same name, this number is another process: such a temporary has to be a day old."""
    gone = 2**22 + 1  # no process has it here
    names = [f".a.{'0' * 12}.{gone}.5-{'1' * 16}.tmp", f".a.{host_name()}.{gone}.5-0.tmp", f".best.{host_name()}.{gone}.5-0.keras"]
    for name in names:
        aged(tmp_path / name, ABANDONED - 60)
    assert sweep(tmp_path) == [] and sorted(os.listdir(tmp_path)) == sorted(names)
    kept = [aged(tmp_path / name, 10 * ABANDONED) for name in (".mine.tmp", ".a.b.c.tmp", ".mine.keras", "a.host.1.1-0.tmp")]
    old = [aged(tmp_path / name, ABANDONED + 60) for name in names]
    assert sweep(tmp_path) == sorted(old) and sorted(tmp_path.iterdir()) == sorted(kept)


def test_a_writer_in_another_set_of_process_ids_keeps_its_file(tmp_path):
    """A real one: process 1 of a container of its own, while here process 1 is another."""
    code = "import sys\nfrom distill.storage.files import committed\nwith committed(sys.argv[1]) as t: t.write_text('x'); print('writes', flush=True); input()"
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code, str(tmp_path / "out")]
    try:
        writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if writer.stdout.readline() != "writes\n":
        pytest.skip("no process may have process ids of its own here")
    (name,) = os.listdir(tmp_path)
    assert ".1." in name and sweep(tmp_path) == []
    assert writer.communicate("\n") == ("", None) and os.listdir(tmp_path) == ["out"]


def test_sweep_removes_folders_and_no_more_than_the_link_to_one(tmp_path):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "photo").touch()
    mine = temporary_for(tmp_path / "out").name
    dead = mine.replace(f".{os.getpid()}.", f".{os.getpid()}.1", 1)  # a process of this id that started at another time
    (tmp_path / dead / "variables").mkdir(parents=True)
    (tmp_path / dead / "variables" / "data").touch()
    link = tmp_path / f".link{dead}"
    link.symlink_to(kept)
    (tmp_path / mine).mkdir()
    assert sweep(tmp_path) == sorted([tmp_path / dead, link])
    assert sorted(os.listdir(tmp_path)) == sorted([mine, "kept"]) and (kept / "photo").exists()


def test_json_for_people(tmp_path):
    write_json(tmp_path / "a.json", {"z": 1, "a": ["é", 0.5]})
    assert (tmp_path / "a.json").read_bytes() == '{\n  "z": 1,\n  "a": [\n    "é",\n    0.5\n  ]\n}\n'.encode()
    with pytest.raises(ValueError):
        write_json(tmp_path / "b.json", float("nan"))
    assert os.listdir(tmp_path) == ["a.json"]


def test_sha256(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
