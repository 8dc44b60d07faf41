"""A disk that fills up: one clear message, nothing half-named, nothing done is lost, and the same command finishes when room is made.

The disk is a tmpfs of some MB, which only root may mount: `unshare -rm python -m pytest tests/test_full_disk.py` is root enough.
"""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distill.data.shards import open_shards
from distill.data.shards.verify import verify
from distill.synthetic.folder import draw_folder
from tests.conftest import distill, inside
from tests.warm import warm

MIB = 2**20
CHUNKS, ROWS = 8, 40
NEEDED = {"parquet": 320_000, "hdf5": 1_200_000}  # bytes of all shards, a little less than they are


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """An empty disk of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if shutil.which("mount") is None:
        pytest.skip("there is no mount here")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here ({mounted.stderr.strip()}); `unshare -rm python -m pytest {Path(__file__).name}` may do")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("people") / "root"
    draw_folder(root, identities=CHUNKS, images=ROWS, size=32)
    return root


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, people, teacher) -> Callable[[str], dict[str, bytes]]:
    """What lies in OUT/shards of a run with room enough, by format."""
    known: dict[str, dict[str, bytes]] = {}

    def run(format: str) -> dict[str, bytes]:
        if format not in known:
            out = tmp_path_factory.mktemp("undisturbed") / "out"
            done = embed(people, out, teacher, format, through=inside)
            assert done.returncode == 0, done.stderr
            known[format] = contents(out)
            assert sum(map(len, known[format].values())) > NEEDED[format]
        return known[format]

    return run


def embed(people: Path, out: Path, teacher: Path, format: str, through: Callable = inside) -> subprocess.CompletedProcess:
    return through("embed", people, out, "--teacher", teacher, "--rows", ROWS, "--batch", 16, "--workers", 1, "--format", format)


def contents(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "shards").iterdir())}


def free(disk: Path) -> int:
    return shutil.disk_usage(disk).free


def fill(disk: Path, room: int = 0) -> None:
    """Leave `room` bytes."""
    with (disk / "ballast").open("ab", buffering=0) as file:
        try:
            while free(disk) > room:
                file.write(bytes(min(free(disk) - room, MIB)))
        except OSError:
            pass  # full


@contextmanager
def filled(disk: Path, when: Path, room: int, again: bool) -> Iterator[None]:
    """Somebody else fills the disk as soon as the file `when` is there; with `again` whatever becomes free is taken at once."""
    over = threading.Event()

    def watch() -> None:
        while not when.exists() and not over.is_set():
            time.sleep(0.001)
        fill(disk, room)
        while again and not over.wait(0.001):
            fill(disk, room)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def is_one_message(done: subprocess.CompletedProcess) -> None:
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr and done.stderr.count("distill: ") == 1
    message = next(line for line in done.stderr.splitlines() if line.startswith("distill: "))
    assert "No space left on device" in message or "disk is full" in message or "disk full" in message
    assert "run the same command again" in message


def no_half_names(folder: Path) -> None:
    assert not [path for path in folder.rglob(".*") if path.name != ".launcher"]


COMMIT = """
import sys
from pathlib import Path
import numpy as np
from distill.data.shards import FORMATS, Rows, commit_shard
from tests.test_full_disk import fill
from tests.builders import meta

disk, rng = Path(sys.argv[1]), np.random.default_rng(0)
images = [rng.bytes(int(size)) for size in rng.integers(100, 1000, 3000)]
rows = Rows([f"id/{row}.jpg" for row in range(3000)], np.arange(3000, dtype=np.int32), rng.normal(size=(3000, 3)).astype("float16"), images)
rooms = {format: [*range(0, 64 << 10, 4 << 10), *range(64 << 10, 2200 << 10, 56 << 10)] for format in FORMATS}
for format in FORMATS:
    for room in rooms[format]:
        fill(disk, room)
        try:
            commit_shard(disk, format, meta(), [rows], [])
        except OSError as error:
            assert error.errno == 28 and "No space left on device" in str(error), error
            assert not list(disk.glob(f"*.{FORMATS[format].suffix}"))
        else:
            assert room > 1 << 20
        assert not list(disk.glob(".*"))
        for path in disk.iterdir():
            path.unlink()
"""


def test_a_shard_for_which_there_is_no_room_is_an_error_wherever_it_stops(disk):
    """In a process of its own: HDF5 ends the process when it cannot write what it holds."""
    done = subprocess.run([sys.executable, "-c", COMMIT, str(disk)], cwd=Path(__file__).parent.parent, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize("format, keeps_filling", [("parquet", False), ("hdf5", False), ("parquet", True)])
def test_embed_on_a_disk_that_fills_up(format, keeps_filling, disk, people, teacher, undisturbed):
    """The disk fills when the estimate was made, with room for some shards; or it stays so full that not even a note can be written."""
    expected, out = undisturbed(format), disk / "out"
    room = 0 if keeps_filling else NEEDED[format] // 3
    when = out / "shards" / f"_00000-of-{CHUNKS:05d}.json" if keeps_filling else out / "state" / "estimate.json"
    with filled(disk, when, room, again=keeps_filling):
        done = embed(people, out, teacher, format, through=warm if (format, keeps_filling) == ("parquet", False) else inside)
    is_one_message(done)
    there = contents(out)
    assert 1 <= len(there) < len(expected) and "_index.json" not in there
    assert all(expected[name] == data for name, data in there.items())
    no_half_names(out)
    (disk / "ballast").unlink()
    done = embed(people, out, teacher, format, through=inside)
    assert done.returncode == 0, done.stderr
    assert contents(out) == expected and open_shards(out).rows == CHUNKS * ROWS
    assert not verify(out, deep=True).problems
    no_half_names(out)


def test_embed_on_a_disk_that_is_full(disk, people, teacher):
    fill(disk)
    done = embed(people, disk / "out", teacher, "parquet", through=inside)
    is_one_message(done)


def test_chunk_on_a_disk_that_fills_up(disk, tmp_path):
    source, elsewhere, out = tmp_path / "list.txt", tmp_path / "chunks", disk / "chunks"
    source.write_text("".join(f"faces/some person {row // 70}/{row:06d}.jpg\t{row // 70}\n" for row in range(60_000)))
    assert inside("chunk", source, elsewhere, "--rows", 10_000).returncode == 0
    expected = {path.name: path.read_bytes() for path in elsewhere.iterdir()}
    fill(disk, sum(map(len, expected.values())) // 2)
    is_one_message(distill("chunk", source, out, "--rows", 10_000))
    assert os.listdir(out) == []
    (disk / "ballast").unlink()
    assert distill("chunk", source, out, "--rows", 10_000).returncode == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == expected
