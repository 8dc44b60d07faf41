"""Object stores: what a path says, whole objects or none, and the same while requests fail in every way that they can."""

import io
import json
import os
import pickle
import random
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from pathlib import Path
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest

import distill.storage.client
from distill import DistillError
from distill.data.chunks import write_chunks
from distill.data.folders import remove_own
from distill.data.kinds import NOTES
from distill.data.lists import listing
from distill.data.lists.image_list import Rule, open_list
from distill.data.lists.listing import LISTING
from distill.data.shards import FORMATS
from distill.data.shards.rows import regrouped
from distill.data.sources import ShardSource
from distill.errors import StoreError
from distill.storage.client import NO_BUCKET, NO_UPLOAD, translated_errors
from distill.storage.files import committed, sha256_file, sweep
from distill.storage.json_files import write_json
from distill.storage.objects import RemotePath
from distill.storage.path import as_path, is_remote, local_copy, readable
from tests.builders import meta, rows, same
from tests.conftest import distill as command_line
from tests.conftest import forget_clients, inside, messages, put, upload_all
from tests.stores import FAULTS, MANY, PAGE

STATE = re.compile(r"state/(estimate|finished|progress-\d{5})\.json")
PART = 10 << 20  # s3:// takes more than this in parts


def hasty(monkeypatch):
    """Clients that give up soon."""
    monkeypatch.setattr(distill.storage.client, "ATTEMPTS", 2)
    monkeypatch.setattr(distill.storage.client, "PATIENCE", timedelta(seconds=1))
    forget_clients()


def names(path) -> list[str]:
    """Of all objects below."""
    return sorted(found.path.removeprefix(f"{path.path}/") for found, is_file in path.entries(recursive=True) if is_file)


# ---------------------------------------------------------------------------------------------------------------------------------- paths


def test_failures_of_a_store_have_a_code():
    said = "When completing multiple part upload for key 'x' in bucket 'b': AWS Error {} during CompleteMultipartUpload operation: gone"
    for name, code in ((NO_UPLOAD, NO_UPLOAD), (NO_BUCKET, NO_BUCKET), ("ACCESS_DENIED", "")):
        with pytest.raises(StoreError, match=f"s3://b/x: the store fails or refuses .*{name}") as caught, translated_errors("s3://b/x"):
            raise OSError(said.format(name))
        assert caught.value.code == code


def test_a_place_is_a_local_path_or_one_in_a_store():
    assert as_path("a/b") == Path("a/b") and as_path(Path("/a")) == Path("/a") and not is_remote("a/b") and not is_remote(Path("a"))
    path = as_path("gs://bucket//a b/ö.tar.gz/")
    assert isinstance(path, RemotePath) and is_remote(path) and is_remote("s3://bucket")
    assert str(path) == "gs://bucket/a b/ö.tar.gz" and as_path(path) is path and as_path(str(path)) == path
    assert (path.name, path.suffix, str(path.parent)) == ("ö.tar.gz", ".gz", "gs://bucket/a b")
    assert str(as_path("s3://bucket") / "x" / "y/z") == "s3://bucket/x/y/z" and as_path("s3://bucket").parent == as_path("s3://bucket")
    assert pickle.loads(pickle.dumps(path)) == path and sorted([path / "b", path / "a"]) == [path / "a", path / "b"]
    assert readable(Path("a")) == Path("a").absolute() and path.resolve() == path
    assert [str(above) for above in (path / "x").parents] == [str(path), "gs://bucket/a b", "gs://bucket"] and as_path("s3://bucket").parents == ()
    with pytest.raises(TypeError, match="5 is no path"):
        as_path(5)


@pytest.mark.parametrize("path", ["ftp://host/a", "http://host/a", "file:///a"])
def test_another_scheme_is_refused(path):
    with pytest.raises(DistillError, match="is no place that distill reads.*gs://BUCKET/NAME"):
        as_path(path)
    done = inside("inspect", path)
    assert done.returncode == 2 and "Traceback" not in done.stderr


ODD = ["a b/ö/deep/er/photo 1.jpg", "a b/100% #1?&+=~'.jpg", "a b.txt", "a/日本語.jpg", "a/x", "ab/x", "a.b"]


def test_what_a_path_says(folder):
    assert not folder.exists() and not folder.is_dir() and not folder.is_file() and folder.entries() == [] and names(folder) == []
    started = time.time()
    for number, name in enumerate(ODD):
        put(folder / name, name.encode() * number)
    assert names(folder) == sorted(ODD)
    assert sorted(path.name for path in folder.iterdir()) == ["a", "a b", "a b.txt", "a.b", "ab"]
    assert sorted((path.name, is_file) for path, is_file in (folder / "a b").entries()) == [("100% #1?&+=~'.jpg", True), ("ö", False)]
    assert [str(path) for path in folder.glob("*.txt")] == [f"{folder}/a b.txt"]
    assert folder.exists() and folder.is_dir() and not folder.is_file() and (folder / "a b" / "ö").is_dir() and folder.parent.is_dir()
    for number, name in enumerate(ODD):
        path = folder / name
        assert path.exists() and path.is_file() and not path.is_dir() and path.read_text() == name * number
        assert path.stat().st_size == len(name.encode()) * number and abs(path.stat().st_mtime_ns / 1e9 - started) < 60
    assert not (folder / "a b/o").exists() and not (folder / "b").is_dir()
    with pytest.raises(FileNotFoundError, match="No such object"):
        (folder / "a").stat()


@pytest.mark.parametrize("suffix", ["zst", "gz"])
def test_packed_objects_stay_packed(folder, suffix):
    import pyarrow as pa

    data = pa.compress(b"x" * 1000, {"zst": "zstd", "gz": "gzip"}[suffix], asbytes=True)
    path = put(folder / f"a.{suffix}", data)
    assert path.read_bytes() == data == local_copy(str(path)).read_bytes()


def test_what_is_not_there(folder):
    path = folder / "a"
    for ask in (path.stat, path.read_bytes, path.open, path.unlink, lambda: sha256_file(path), lambda: local_copy(str(path / "b")) and 1 / 0):
        with pytest.raises((FileNotFoundError, ZeroDivisionError)):
            ask()
    path.unlink(missing_ok=True)
    path.mkdir(parents=True, exist_ok=True)
    remove_own(path, NOTES)
    assert not folder.exists() and sweep(folder) == []
    with pytest.raises(ValueError, match="written in one go"):
        path.open("wb")


def test_removing_takes_what_is_called_as_ours_and_nothing_below_or_beside(folder):
    theirs = [*ODD, "state/thesis.txt", "state/error.json/deeper", "state/failed-1.json", "state/prod/error.json", "error.json"]
    for name in (*theirs, "state/estimate.json", "state/progress-00017.json"):
        put(folder / name, b"x")
    (folder / "a b.txt").unlink()
    remove_own(folder / "state", NOTES)
    assert names(folder) == sorted(set(theirs) - {"a b.txt"})


def test_a_bucket_that_is_not_there_is_one_message(store, folder, tmp_path):
    path = as_path(f"{store.scheme}://no-such-bucket/a/b")
    (tmp_path / "x").write_bytes(b"x")
    asked = (path.exists, path.is_dir, path.stat, path.entries, lambda: path.entries(recursive=True), path.read_bytes, path.open)
    for ask in (*asked, lambda: path.upload(tmp_path / "x"), path.parent.parent.is_dir):
        with pytest.raises(DistillError, match="there is no bucket no-such-bucket"):
            ask()
    done = inside("inspect", path)
    assert done.returncode == 2 and "there is no bucket" in done.stderr and "Traceback" not in done.stderr


def test_a_note_in_a_store_is_told_by_the_set_that_it_is_of(folder):
    """As on a disk, where the folders above a path are asked for by number."""
    put(folder / "out" / "plan.json", b"{}")
    done = inside("inspect", put(folder / "out" / "state" / "finished.json", b"{}"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["kind"] == "note that a run of distill embed has ended" and json.loads(done.stdout)["part_of"] == str(folder / "out")


# -------------------------------------------------------------------------------------------------------------------------- files, ranges


def test_a_file_reads_the_ranges_it_is_asked_for(store, folder):
    data = random.Random(1).randbytes(300_000)
    path = put(folder / "a", data)
    with path.open() as file:
        assert file.size() == len(data) and file.readable() and file.seekable() and file.read(10) == data[:10] and file.tell() == 10
        assert file.seek(-10, os.SEEK_END) == len(data) - 10 and file.read() == data[-10:] and file.read() == file.read(5) == b""
        assert file.seek(-20, os.SEEK_CUR) == len(data) - 20 and file.read(100) == data[-20:]
        assert file.seek(400_000) == 400_000 and file.read(1) == b""
        draw = random.Random(2)
        for _ in range(60):
            start, size = draw.randrange(300_000), draw.choice([1, 7, 500, 70_000, 200_000])
            file.seek(start)
            assert file.read(size) == data[start : start + size]
        buffer = bytearray(1000)
        file.seek(299_500)
        assert file.readinto(buffer) == 500 and buffer[:500] == data[-500:]
        file.seek(0)
        assert file.read() == data
    assert path.read_bytes() == data and len(path.read_bytes(most=5)) > 5 and sha256_file(path)
    assert io.BufferedReader(path.open()).read() == data and put(folder / "b", b"").open().read() == b"" == (folder / "b").read_bytes()
    store.faults(0.0)
    with path.open() as file:
        for start in range(0, 4000, 8):  # 500 small reads are one request
            file.seek(start)
            file.read(8)
    assert store.counts()["fine"] <= 3


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_a_shard_is_read_as_from_disk(folder, tmp_path, format):
    FORMATS[format].write(tmp_path / "shard", meta(rows=2500, dimension=64), regrouped([rows(2500, dimension=64)]))
    (folder / "shard").upload(tmp_path / "shard")
    assert FORMATS[format].read_meta(folder / "shard") == FORMATS[format].read_meta(tmp_path / "shard")
    for near, far in zip(FORMATS[format].read(tmp_path / "shard"), FORMATS[format].read(folder / "shard"), strict=True):
        assert same(near, far)


def test_a_slow_answer_does_not_stop_other_threads(store, folder):
    path = put(folder / "a", bytes(200_000))
    list(folder.iterdir())  # the clients are there
    store.faults(1.0, kinds=("slow",))
    longest, done = 0.0, threading.Event()

    def tick():
        nonlocal longest
        last = time.perf_counter()
        while not done.wait(0.002):
            longest, last = max(longest, time.perf_counter() - last), time.perf_counter()

    ticking = threading.Thread(target=tick)
    ticking.start()
    with path.open() as file:
        file.seek(1000)
        assert file.read(100_000) == bytes(100_000)
    done.set()
    ticking.join()
    assert store.counts()["slow"] >= 2 and longest < 0.2


# ------------------------------------------------------------------------------------------------------------------------------- writing


def test_an_object_appears_when_the_block_ends(folder):
    path = folder / "x" / "index.json"
    with committed(path) as temporary:
        temporary.write_text("new")
        assert not path.exists() and temporary.name == "index.json" and not is_remote(temporary)
    assert path.read_text() == "new" and names(folder) == ["x/index.json"] and not temporary.parent.exists()
    write_json(path, {"ä": 1})
    assert path.read_bytes() == '{\n  "ä": 1\n}\n'.encode()
    big = random.Random(3).randbytes(2 * PART + 1)
    assert put(path, big).read_bytes() == big and sha256_file(path) and names(folder) == ["x/index.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_raises_leaves_what_was_there(folder, error):
    put(folder / "a", b"old")
    for name in ("a", "b"):
        with pytest.raises(error), committed(folder / name) as temporary:
            temporary.write_bytes(b"half")
            raise error
    with pytest.raises(FileNotFoundError), committed(folder / "a"):
        pass
    assert names(folder) == ["a"] and (folder / "a").read_bytes() == b"old"


def uploads_that_fail(folder, store, monkeypatch, size, kinds, requests):
    """From one request of an upload on, a few or all requests fail. There must be the old object or all of the new one."""
    hasty(monkeypatch)
    old, new = b"old", random.Random(4).randbytes(size)
    for kind in kinds:
        for first in requests:
            for most in (2, 1000):
                put(folder / "a", old)
                store.faults(1.0, kinds=(kind,), first=first, most=most)
                try:
                    put(folder / "a", new)
                    done = True
                except StoreError as error:
                    done = False
                    assert str(folder / "a") in str(error) and len(str(error)) < 900
                store.faults(0.0)
                time.sleep(0.05)  # what the client may still have on its way
                there = (folder / "a").read_bytes()
                assert there == new or not done and there == old, (kind, first, most, len(there))


def test_an_upload_that_fails_for_good_leaves_no_short_object(folder, store, monkeypatch):
    uploads_that_fail(folder, store, monkeypatch, 3000, ("lost",), [1])
    if store.scheme == "s3":  # in three parts; Google's client takes seconds to give up
        uploads_that_fail(folder, store, monkeypatch, 2 * PART + 9, ("503",), [1, 2, 3])


@pytest.mark.slow
def test_whichever_request_of_an_upload_fails(folder, store, monkeypatch):
    uploads_that_fail(folder, store, monkeypatch, 3000, ("503", "lost", "unanswered", "short"), range(4))
    uploads_that_fail(folder, store, monkeypatch, 4 * PART + 9, ("503", "lost", "unanswered", "short"), range(8))


# ------------------------------------------------------------------------------------------------------------------- many, and with faults


@pytest.fixture
def many(store, folder):
    return as_path(f"{store.scheme}://{MANY[0]}/many")


def whole_listing(many):
    """1,100 folders with an object in each, and 400 objects."""
    entries = sorted(many.entries())
    assert [(path.name, is_file) for path, is_file in entries] == [(f"{number:04d}", number >= 1100) for number in range(1500)]
    assert [f"many/{name}" for name in names(many)] == MANY[1]


def test_listings_of_more_than_a_page_are_complete(folder, store, many):
    store.faults(0.0)
    whole_listing(many)
    assert store.counts()["fine"] >= 4 and len(MANY[1]) > PAGE
    assert len(list(many.glob("12*"))) == 100


@pytest.mark.parametrize("operations", [60, pytest.param(600, marks=pytest.mark.slow)])
def test_with_faults_every_answer_is_right(folder, store, many, tmp_path, operations):
    """From 24 threads, and 15 of 100 requests fail."""
    data = random.Random(5).randbytes(400_000)
    (tmp_path / "parts").write_bytes(random.Random(6).randbytes(PART + 5))
    put(folder / "data", data)
    store.faults(0.15, seed=7)

    def operate(number):
        draw = random.Random(number)
        start, size = draw.randrange(400_000), draw.choice([9, 70_000, 300_000])
        path = folder / f"w{number}"
        kind = number % 10
        if kind < 3:
            assert put(path, data[start : start + size]).read_bytes() == data[start : start + size]
        elif kind < 5:
            assert (folder / "data").read_bytes() == data
        elif kind < 7:
            with (folder / "data").open() as file:
                file.seek(start)
                assert file.read(size) == data[start : start + size]
        elif kind == 7:
            assert (folder / "data").stat().st_size == 400_000 and (folder / "data").is_file() and not (folder / "none").exists()
            assert many.is_dir() and not (folder / "none").is_dir() and not (folder / "data").is_dir()
        elif kind == 8:
            put(path, b"x").unlink()
        elif number % 100 == 9:
            whole_listing(many)
        elif number % 150 == 19:
            path.upload(tmp_path / "parts")
            assert sha256_file(path) == sha256_file(tmp_path / "parts")
            path.unlink()

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(operate, range(operations)))
    counts = store.counts()
    store.faults(0.0)
    assert all(counts[kind] >= 3 for kind in FAULTS) and sum(counts[kind] for kind in FAULTS) > 0.1 * sum(counts.values())
    assert names(folder) == sorted(["data", *(f"w{number}" for number in range(operations) if number % 10 < 3)])


def test_a_store_that_never_answers_is_one_message(store, monkeypatch, folder):
    """Soon, here; with its own patience it takes less than a minute."""
    hasty(monkeypatch)
    path = put(folder / "a", bytes(200_000))
    opened = path.open()
    store.faults(1.0, kinds=("lost",))
    asked = (path.stat, path.is_dir, folder.iterdir, lambda: names(folder), path.read_bytes, lambda: opened.read(100_000), path.unlink)
    with ThreadPoolExecutor(len(asked)) as pool:
        errors = [answer.exception() for answer in [pool.submit(ask) for ask in asked]]
    for error in errors:
        assert isinstance(error, StoreError) and str(error).startswith((f"{path}: the store fails", f"{folder}: the store fails")), error
        assert len(str(error)) < 700 and "\n" not in str(error) and str(pickle.loads(pickle.dumps(error))) == str(error)
    done = inside("inspect", path)
    assert done.returncode == 1 and done.stderr.startswith(f"distill: {path}: the store fails") and len(messages(done)) == 1


@pytest.mark.slow
def test_no_server_at_all_ends_within_a_minute(store, monkeypatch, folder, tmp_path):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    forget_clients()
    (tmp_path / "x").write_bytes(b"x")

    def seconds(ask):
        started = time.monotonic()
        with pytest.raises(StoreError):
            ask()
        return time.monotonic() - started

    asked = (folder.exists, folder.entries, folder.read_bytes, lambda: folder.upload(tmp_path / "x"))
    with ThreadPoolExecutor(len(asked)) as pool:
        took = list(pool.map(seconds, asked))
    print(took)
    assert max(took) < 60


def put_by_hand(folder, name: str, data: bytes) -> None:
    """An object of any name below a folder, as other tools write it."""
    bucket, _, prefix = folder.path.partition("/")
    if folder.scheme == "gs":
        distill.storage.client.google().bucket(bucket).blob(f"{prefix}/{name}").upload_from_string(data)
        return
    url = f"{os.environ['AWS_ENDPOINT_URL']}/{bucket}/{quote(f'{prefix}/{name}')}"
    urlopen(Request(url, data, {"Content-Type": "application/octet-stream"}, method="PUT")).close()


def test_no_name_is_lost(folder):
    """rows + skipped names = objects, also of names that no file can have."""
    rows = ["a/1.jpg", "a/deep/2.JPG", "a/3", "b/4.webp"]
    skipped = ["a//5.jpg", "a/deep//6.jpg", "/7.jpg", "./8.jpg", "a/./9.jpg", "a/sign/", "a/x.txt", "beside.jpg", "lost+found/1.jpg", "a/.x"]
    for name in (*rows, *skipped, "empty/", "a/deep/"):  # the last is the sign of a folder that holds something
        put_by_hand(folder, name, b"x" * 9)
    images = open_list(folder)
    assert [key for keys, _ in images.batches(3) for key in keys] == sorted(rows) and images.classes == ["a", "b"]
    assert images.skipped == {
        "names with an empty part": 3,
        "names with a leading dot": 3,
        "names that end in a slash": 1,
        "files that are no images": 1,
        "files beside the class folders": 1,
        "system folders": 1,
        "class folders without an image": 1,
    }
    assert sum(images.skipped.values()) == len(skipped) + 1
    sized = [row for keys, _, sizes, times in images.sized_batches(2) for row in zip(keys, sizes, times, strict=True)]
    assert [key for key, *_ in sized] == sorted(rows) and {size for _, size, _ in sized} == {9} and all(time > 10**18 for *_, time in sized)
    kept = list(listing.read(write_chunks(folder, folder.parent / "cut", root=str(folder)).folder / LISTING))
    put(folder / "b" / "new.jpg", b"x")
    put(folder / "a" / "3", b"xy")
    changes = listing.compare(kept, listing.found(folder, str(folder), Rule(), kept), lambda row, key: False)
    assert (len(kept), changes.counts, changes.names) == (4, {"added": 1, "of another size": 1}, {"added": ["b/new.jpg"], "of another size": ["a/3"]})


# ------------------------------------------------------------------------------------------------------------------------------ labelling


def embed(source, out, teacher, *words, through=inside):
    return through("embed", source, out, "--teacher", teacher, "--rows", 25, "--batch", 8, *words)


def contents(out) -> dict[str, bytes]:
    """Of the shards and chunks; `out` is a folder of this machine or a store."""
    folders = [as_path(out) / name for name in ("chunks", "shards")]
    files = [path for folder in folders for path in folder.iterdir() if not path.name.startswith(".") and path.name != LISTING]
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def near(tmp_path_factory, faces, teacher):
    """The set made on this machine."""
    out = tmp_path_factory.mktemp("near") / "out"
    done = embed(faces, out, teacher)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def far(folder, faces, teacher):
    """faces/ and teacher/ in a store."""
    upload_all(faces, folder / "faces")
    upload_all(teacher, folder / "teacher")
    return folder


def check_set(out, near, store):
    """What `near` holds lies in the store, byte for byte, and nothing else."""
    store.faults(0.0)
    whole, got = contents(near), contents(out)
    assert sorted(got) == sorted(whole) and not [name for name, data in got.items() if data != whole[name]]
    there = set(names(out))
    assert {name for name in there if name.split("/")[0] not in ("chunks", "shards")} <= {"plan.json", *(name for name in there if STATE.fullmatch(name))}


def check_stream(out, near):
    """Batches from the store are those of this machine."""
    left, right = (ShardSource(path, batch=16, seed=3) for path in (str(out), near))
    count = 0
    for (images, targets), (others, wanted) in zip(left.epoch(0), right.epoch(0), strict=True):
        assert (images == others).all() and all((targets[name] == wanted[name]).all() for name in wanted)
        count += len(images)
    assert count == 120


@pytest.mark.parametrize("store", ["gs", pytest.param("s3", marks=pytest.mark.slow)], indirect=True)
def test_labelling_from_a_store_into_it_gives_the_same_bytes(store, far, near):
    """Folder, teacher, chunks and shards in the store, and one of 100 requests fails."""
    store.faults(0.01, seed=1)
    out = far / "out"
    done = embed(far / "faces", out, far / "teacher")
    assert done.returncode == 0 and "120 rows in 5 shards" in done.stdout, done.stderr
    for words in (("verify", out, "--deep"), ("inspect", out), ("inspect", far / "teacher"), ("inspect", out / "chunks")):
        done = inside(*words)
        assert done.returncode == 0, done.stderr
    check_stream(out, near)
    assert json.loads(embed(far / "faces", out, far / "teacher", "--json").stdout)["made"] == 0
    assert sum(store.counts()[kind] for kind in FAULTS) > 4
    check_set(out, near, store)


@pytest.mark.slow
def test_killed_in_the_middle_and_run_again_with_faults(store, far, near):
    """A process of its own is killed when it has made a shard; what it left is whole, and a second run adds what is missing."""
    store.faults(0.1, seed=2)
    out = far / "out"
    environment = {**os.environ, **store.environment()}
    words = [sys.executable, "-m", "distill.cli", "embed", far / "faces", out, "--teacher", far / "teacher", "--rows", "25", "--batch", "8"]
    running = subprocess.Popen([str(word) for word in words], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(1200):
        if running.poll() is not None or list((out / "shards").glob("*.parquet")):
            break
        time.sleep(0.05)
    running.send_signal(signal.SIGKILL)
    running.wait()
    store.faults(0.0)
    left = contents(out)
    whole = contents(near)
    assert left and "shards/_index.json" not in left and not [name for name, data in left.items() if whole[name] != data]
    store.faults(0.15, seed=3)
    done = embed(far / "faces", out, far / "teacher", "--engine", "processes", "--workers", 2, through=partial(command_line, env=environment))
    assert done.returncode == 0 and "120 rows in 5 shards" in done.stdout and "Traceback" not in done.stderr, done.stderr
    assert inside("verify", out, "--deep").returncode == 0
    check_stream(out, near)
    assert sum(store.counts()[kind] for kind in FAULTS) > 50
    check_set(out, near, store)


@pytest.mark.slow
def test_a_text_list_and_chunks_in_a_store(store, far, near, faces, teacher, tmp_path):
    store.faults(0.05, seed=4)
    lines = sorted(path.relative_to(faces).as_posix() for path in faces.rglob("*.jpg"))
    put(far / "list.txt", "".join(f"{key}\t{key.split('/')[0]}\n" for key in lines).encode())
    done = embed(far / "list.txt", far / "from list", far / "teacher", "--root", far / "faces")
    assert done.returncode == 0, done.stderr
    done = inside("chunk", far / "faces", far / "chunks", "--rows", 25)
    assert done.returncode == 0, done.stderr
    done = embed(far / "chunks", far / "from chunks", teacher, "--root", far / "faces")
    assert done.returncode == 0, done.stderr
    for out in ("from list", "from chunks"):
        check_set(far / out, near, store)
    done = embed(far / "faces", far / "hdf5", teacher, "--format", "hdf5")
    assert done.returncode == 0 and inside("verify", far / "hdf5", "--deep").returncode == 0, done.stderr
    check_stream(far / "hdf5", near)
    done = embed(far / "faces", tmp_path / "to disk", far / "teacher", "--images", "path")
    assert done.returncode == 0 and inside("verify", tmp_path / "to disk", "--deep").returncode == 0, done.stderr
    stream = ShardSource(tmp_path / "to disk", batch=16, seed=3, root=str(far / "faces"))
    assert sum(len(images) for images, _ in stream.epoch(0)) == 120


def test_an_answer_that_the_client_lost_within_itself_is_asked_for_again():
    """As the AWS client says it on a busy machine; any other error is nobody's to repeat."""
    from distill.storage.client import ATTEMPTS, LOST, asked_again

    answers = [OSError(f"AWS Error INTERNAL_FAILURE during GetObject operation: {LOST} (eof: 0, bad: 1)")] * 2 + [b"whole"]

    def read():
        answer = answers.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    assert asked_again(read) == b"whole"
    answers[:] = [OSError("AWS Error ACCESS_DENIED"), b"whole"]
    with pytest.raises(OSError, match="ACCESS_DENIED"):
        asked_again(read)
    answers[:] = [OSError(LOST)] * ATTEMPTS
    with pytest.raises(OSError, match=LOST):
        asked_again(read)
