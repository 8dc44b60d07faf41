"""Files of many images in object stores: the rows, bytes and refusals of the same files on disk, in few requests, and never those of a
file that lies there no more."""

import random
import struct
import time

import pytest

from distill import DistillError, Unfinished
from distill.data.archives import archive
from distill.data.archives.reader import read_bytes
from distill.data.lists.image_list import open_list
from distill.errors import StoreError
from distill.images.codec import MAX_BYTES, BadImage
from distill.storage.files import sha256_file
from tests.conftest import inside, put, upload_all
from tests.data.archives import test_recordio, test_tar
from tests.data.archives.test_recordio import MARK, PICTURES, chain, image, insightface, write
from tests.stores import FAULTS

KILO, MEGA = 1 << 10, 1 << 20
ONE_SLOW = pytest.mark.parametrize("store", ["gs", pytest.param("s3", marks=pytest.mark.slow)], indirect=True)
OTHER_SLOW = pytest.mark.parametrize("store", [pytest.param("gs", marks=pytest.mark.slow), "s3"], indirect=True)


def both(local, folder, name="set"):
    """The file on this machine and its copy far away, with all that lies beside it."""
    upload_all(local.parent, folder / name)
    archive._opened.clear()
    return local, folder / name / local.name


def requests(store, ask) -> int:
    """How many it takes."""
    store.faults(0.0)
    ask()
    return sum(store.counts().values())


def answer(ask, *roots) -> str:
    """The rows of an answer, or what is said instead, without the names of the roots."""
    try:
        text = str(ask())
    except (DistillError, BadImage) as error:
        text = f"{type(error).__name__}: {error}"
    for root in roots:
        text = text.replace(str(root), "ROOT")
    return text


def equal(local, remote, rows_of, keys=()):
    """What the list is and what each key gives are the same here and there; it is returned."""
    asked = [lambda path: rows_of(open_list(path)), *(lambda path, key=key: read_bytes(str(path), key) for key in keys)]
    here, there = ([answer(lambda ask=ask, path=path: ask(path), path.parent) for ask in asked] for path in (local, remote))
    assert here == there
    return here[0]


# -------------------------------------------------------------------------------------------------------------------------- record files


@pytest.mark.parametrize("several", [False, True])
def test_rows_and_bytes_of_a_record_file(store, folder, tmp_path, several):
    local, remote = both(insightface(tmp_path / "local", PICTURES, several, last=several), folder)
    rows = equal(local, remote, test_recordio.rows_of, [f"rec:{number}" for number in range(12)])
    assert rows == str([("rec:1", 0), ("rec:2", 0), ("rec:3", 1), ("rec:4", 1), ("rec:5", 1), ("rec:6", 3)])
    images = open_list(remote)
    assert images.root == remote and images.classes == ["0", "1", "2", "3"] and images.skipped == {"records without an image": 4}
    assert [read_bytes(str(remote), f"rec:{number}") for number in range(1, 7)] == [data for _, data in PICTURES]
    done = inside("inspect", remote)
    assert done.returncode == 0 and "rows: 6" in done.stdout, done.stderr


def test_an_image_is_one_request_and_a_list_few(store, folder, tmp_path):
    """1,000 records of 2 KiB, 40 of 200 KiB each 1 MiB apart in holes, one of 3 MiB."""
    pictures = [image(0, bytes([number % 256]) * 2 * KILO) for number in range(1000)]
    sparse = [bytearray(framed_with_hole(number)) for number in range(40)]
    large = image(1, random.Random(1).randbytes(3 * MEGA))
    local, remote = both(write(tmp_path / "local", [*enumerate([*pictures, *sparse, large])]), folder)
    assert read_bytes(str(remote), "rec:0") == bytes(2 * KILO)  # stamps, index
    for number, wanted in ((7, 1), (999, 1), (1003, 1), (1040, 2)):
        data = read_bytes(str(local), f"rec:{number}")
        assert requests(store, lambda key=f"rec:{number}", data=data: read_bytes(str(remote), key) == data or 1 / 0) in (wanted, wanted + 2), number
    listed = requests(store, lambda: open_list(remote))
    assert 40 + 1 + 1 <= listed < 40 + 1 + 1 + 20 and test_recordio.rows_of(open_list(remote)) == test_recordio.rows_of(open_list(local))


def framed_with_hole(number):
    """A record of 200 KiB, and as many zeros as make 1 MiB."""
    record = test_recordio.framed(image(2, bytes([number]) * 200 * KILO))
    return record + bytes(MEGA - len(record))


@ONE_SLOW
def test_wrong_record_files_are_refused_in_the_same_words(store, folder, tmp_path):
    keys = [f"rec:{number}" for number in (0, 1, 3, 9)]
    for number, (numbered, expected) in enumerate(test_recordio.WRONG_RECORDS):
        local, remote = both(write(tmp_path / f"record{number}", numbered), folder, f"record{number}")
        assert expected in equal(local, remote, test_recordio.rows_of, keys)
    for number, (index, expected) in enumerate(test_recordio.WRONG_INDEXES):
        local = write(tmp_path / f"index{number}", test_recordio.WHOLE)
        (local.parent / "train.idx").unlink()
        if index is not None:
            (local.parent / "train.idx").write_bytes(index if isinstance(index, bytes) else index.encode())
        assert expected in equal(*both(local, folder, f"index{number}"), test_recordio.rows_of, keys)
    for number, (content, expected) in enumerate(test_recordio.WRONG_PROPERTIES):
        local = write(tmp_path / f"property{number}", test_recordio.WHOLE)
        (local.parent / "property").write_bytes(content)
        assert expected in equal(*both(local, folder, f"property{number}"), test_recordio.rows_of)


def test_records_that_turned_bad_give_the_same_reasons(store, folder, tmp_path):
    for number, (at, data, expected) in enumerate(test_recordio.TURNED_BAD):
        local, remote = both(test_recordio.patch(write(tmp_path / str(number), test_recordio.WHOLE), at, data), folder, str(number))
        equal(local, remote, test_recordio.rows_of, ["rec:0", "rec:1", "rec:2", "rec:3"])
        assert expected in answer(lambda remote=remote: read_bytes(str(remote), "rec:1"))


def test_split_records_are_joined_from_a_store(store, folder, tmp_path):
    """One of three parts by hand, one whose parts lie beyond the first request, and one of 20,000 parts."""
    parts = [random.Random(number).randbytes(700 * KILO) for number in range(3)]
    long = chain((1, image(1, b"", 1) + parts[0]), (2, parts[1]), (3, parts[2]))
    numbered = [(1, image(0, MARK * 2 + b"abcde")), (2, long), (3, image(1, MARK * 20_000)), (4, image(1, b"x"))]
    local, remote = both(write(tmp_path / "local", numbered), folder)
    equal(local, remote, test_recordio.rows_of, [f"rec:{number}" for number in range(1, 5)])
    assert read_bytes(str(remote), "rec:1") == MARK * 2 + b"abcde" and read_bytes(str(remote), "rec:2") == MARK.join(parts)
    assert requests(store, lambda: read_bytes(str(remote), "rec:3")) <= 3


def test_a_huge_remote_record_is_not_read(store, folder, tmp_path):
    local = write(tmp_path / "local", [(0, image(0, b"x"))])
    local.write_bytes(local.read_bytes()[:4] + struct.pack("<I", MAX_BYTES + 25) + local.read_bytes()[8:])
    assert "at most are read" in answer(lambda: read_bytes(str(both(local, folder)[1]), "rec:0"))


# ---------------------------------------------------------------------------------------------------------------------------------- tars


def test_rows_and_bytes_of_a_tar(store, folder, tmp_path):
    long = test_tar.LONG
    files = [("n/2.jpg", b"two"), ("n/2.cls", b"7\n"), ("1.cls", b"0"), ("1.side.PNG", b"one" * 999), (long, b"long"), (long[:-4] + ".cls", b"3")]
    (tmp_path / "local").mkdir()
    local, remote = both(test_tar.write(tmp_path / "local" / "a.tar", [*files, ("../3.json", b"{}")]), folder)
    keys = ["tar:n/2.jpg", "tar:1.side.PNG", "tar:" + long, "tar:none.jpg", "tar:"]
    assert equal(local, remote, test_tar.rows_of, keys) == str([("tar:n/2.jpg", 7), ("tar:1.side.PNG", 0), ("tar:" + long, 3)])
    assert read_bytes(str(remote), "tar:n/2.jpg") == b"two"


def test_a_file_of_a_tar_is_one_request_and_a_list_few(store, folder, tmp_path):
    """1,000 images of 2 KiB with labels are 4 MB; 20 of 3 MiB lie behind them."""
    small = [(f"{number:04d}.{kind}", data) for number in range(1000) for kind, data in (("jpg", bytes(2 * KILO)), ("cls", b"%d" % (number % 7)))]
    large = [(f"x{number:02d}.{kind}", data) for number in range(20) for kind, data in (("cls", b"7"), ("jpg", bytes([number]) * 3 * MEGA))]
    (tmp_path / "local").mkdir()
    local, remote = both(test_tar.write(tmp_path / "local" / "a.tar", small + large), folder)
    listed = requests(store, lambda: open_list(remote))
    assert 20 < listed < 20 + 20
    for key in ("tar:0007.jpg", "tar:x11.jpg"):
        data = read_bytes(str(local), key)
        assert requests(store, lambda key=key, data=data: read_bytes(str(remote), key) == data or 1 / 0) in (1, 2)
    assert test_tar.rows_of(open_list(remote)) == test_tar.rows_of(open_list(local))


def test_wrong_tars_are_refused_in_the_same_words(store, folder, tmp_path):
    whole = test_tar.write(tmp_path / "whole.tar", [("1.jpg", b"1" * 3000), ("2.jpg", b"2" * 3000)]).read_bytes()
    cases = [(lambda path, files=files: test_tar.write(path, files), expected) for files, expected in test_tar.WRONG_TARS]
    cases += [(lambda path, content=content: path.write_bytes(content), expected) for content, expected in test_tar.broken(whole)]
    for number, (make, expected) in enumerate(cases):
        local = tmp_path / str(number) / "a.tar"
        local.parent.mkdir()
        make(local)
        assert expected in equal(*both(local, folder, str(number)), test_tar.rows_of, ["tar:1.jpg", "tar:2.jpg"])


# ---------------------------------------------------------------------------------------------------------- what lies there and what fails


def test_another_object_of_the_name_is_noticed(store, folder, tmp_path, monkeypatch):
    local, remote = both(write(tmp_path / "local", [(0, image(0, b"old" * 9)), (1, image(1, b"1"))]), folder)
    assert read_bytes(str(remote), "rec:0") == b"old" * 9
    other = write(tmp_path / "other", [(0, image(0, b"new" * 9)), (1, image(1, b"1"))])
    remote.upload(other)
    if store.scheme == "gs":  # not one byte of it, not even within the second
        with pytest.raises(Unfinished, match="train.rec: replaced or removed while it was read"):
            read_bytes(str(remote), "rec:0")
    else:
        time.sleep(archive.LOOK)
    assert read_bytes(str(remote), "rec:0") == b"new" * 9
    put(remote.with_suffix(".idx"), b"0\t60\n1\t0\n")
    time.sleep(archive.LOOK)
    assert read_bytes(str(remote), "rec:1") == b"new" * 9
    monkeypatch.setattr(archive, "LOOK", 0.0)
    remote.with_suffix(".idx").unlink()
    assert answer(lambda: read_bytes(str(remote), "rec:1")) == (
        f"DistillError: {remote}: its train.idx is not beside it, so no image can be read. Put it back, or name the file that holds the images with --root."
    )
    remote.unlink()
    assert "no such file, so no image can be read" in answer(lambda: read_bytes(str(remote), "rec:1"))


def test_an_object_that_lost_its_end_is_noticed(store, folder, tmp_path):
    local, remote = both(write(tmp_path / "local", test_recordio.WHOLE), folder)
    assert read_bytes(str(remote), "rec:3") == b"image 3"
    rows = archive.unchanged(str(remote), iter([1, 2]))
    assert next(rows) == 1
    put(remote, local.read_bytes()[:130])
    if store.scheme == "gs":
        with pytest.raises(Unfinished):
            read_bytes(str(remote), "rec:3")
    assert next(rows) == 2
    with pytest.raises(DistillError, match="changed while it was read. Run the same"):
        next(rows)
    time.sleep(archive.LOOK)
    assert answer(lambda: read_bytes(str(remote), "rec:3")) == "BadImage: truncated: the record file ends before the record or inside it"
    assert read_bytes(str(remote), "rec:2") == b"image 2" and list(archive.unchanged(str(remote), [1])) == [1] == list(archive.unchanged(str(folder), [1]))


def test_while_a_second_lasts_a_file_is_looked_at_once(store, folder, tmp_path):
    local, remote = both(insightface(tmp_path / "local", PICTURES), folder)
    read_bytes(str(remote), "rec:1")
    started = time.monotonic()
    count = requests(store, lambda: [read_bytes(str(remote), f"rec:{1 + number % 6}") for number in range(60)])
    looks = 2 * (1 + int((time.monotonic() - started) / archive.LOOK))
    assert 60 <= count <= 60 + looks


@OTHER_SLOW
def test_with_faults_every_list_and_image_is_right_or_the_store_is_named(store, folder, tmp_path):
    pictures = [(number % 5, random.Random(number).randbytes(300 + 40 * number)) for number in range(100)]
    local, remote = both(insightface(tmp_path / "local", pictures), folder)
    store.faults(0.15, seed=11)
    try:
        assert test_recordio.rows_of(open_list(remote)) == [(f"rec:{number + 1}", number % 5) for number in range(100)]
        for number in range(0, 100, 4):
            assert read_bytes(str(remote), f"rec:{number + 1}") == pictures[number][1]
    except StoreError as error:
        assert str(remote.parent) in str(error)
    assert sum(store.counts().get(kind, 0) for kind in FAULTS) > 2


# -------------------------------------------------------------------------------------------------------------------------- labelling them


def as_tar(path, pictures):
    """The pictures as 00001.jpg and their labels as 00001.cls."""
    path.parent.mkdir()
    return test_tar.write(
        path, [one for number, (label, data) in enumerate(pictures, 1) for one in ((f"{number:05d}.cls", b"%d" % label), (f"{number:05d}.jpg", data))]
    )


@pytest.fixture(scope="module")
def pictures(faces):
    """(label, bytes) of the drawn faces in the order of their folders, and one that is no image."""
    files = sorted(faces.rglob("*.jpg"), key=lambda file: file.relative_to(faces).as_posix())
    return [(number // 10, file.read_bytes()) for number, file in enumerate(files)] + [(0, b"no image")]


@pytest.fixture(scope="module")
def sets(tmp_path_factory, pictures, teacher):
    """kind: (file, set made of it on this machine)."""
    root = tmp_path_factory.mktemp("archives")
    files = {"rec": insightface(root / "rec", pictures), "tar": as_tar(root / "tar" / "faces.tar", pictures)}
    for kind, path in files.items():
        done = embed(path, root / f"out-{kind}", teacher)
        assert done.returncode == 0, done.stderr
    return {kind: (path, root / f"out-{kind}") for kind, path in files.items()}


def embed(source, out, teacher, *words):
    return inside("embed", source, out, "--teacher", teacher, "--rows", 25, "--batch", 8, "--max-rejects", 0.1, *words)


@pytest.mark.parametrize(
    "store, kind",
    [("gs", "rec"), ("s3", "tar"), pytest.param("gs", "tar", marks=pytest.mark.slow), pytest.param("s3", "rec", marks=pytest.mark.slow)],
    indirect=["store"],
)
def test_shards_are_those_of_the_same_file_on_disk(store, folder, sets, teacher, tmp_path, kind):
    """Three of 100 requests fail. 121 rows in 5 chunks, of which one is a reject."""
    path, whole = sets[kind]
    remote = both(path, folder)[1]
    store.faults(0.03, seed=5)
    done = embed(remote, tmp_path / "out", teacher)
    assert done.returncode == 0 and "120 rows in 5 shards" in done.stdout and "1 reject " in done.stdout, done.stderr
    faults = sum(store.counts().get(one, 0) for one in FAULTS)
    store.faults(0.0)
    for name in ("chunks", "shards"):
        here, there = (
            {one.name: sha256_file(one) for one in (out / name).iterdir() if not one.name.startswith((".", "listing"))} for out in (whole, tmp_path / "out")
        )
        assert here == there and len(here) in (6, 17)
    assert faults >= 2 and embed(remote, tmp_path / "out", teacher, "--json").stdout.count('"made": 0') == 1
    (tmp_path / "out" / "shards" / "_index.json").unlink()
    assert f"where that is the same list at another place, give {tmp_path / 'out' / 'chunks'} as SOURCE" in embed(path, tmp_path / "out", teacher).stderr


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rec", "tar"])
def test_from_a_store_into_it_with_the_root_named(store, folder, sets, teacher, kind):
    path, whole = sets[kind]
    remote = both(path, folder)[1]
    assert inside("chunk", remote, folder / "chunks", "--rows", 25).returncode == 0
    store.faults(0.05, seed=6)
    done = embed(folder / "chunks", folder / "out", teacher, "--root", remote)
    assert done.returncode == 0, done.stderr
    store.faults(0.0)
    assert inside("verify", folder / "out", "--deep").returncode == 0
    for one in (whole / "shards").iterdir():
        if not one.name.startswith("."):
            assert (folder / "out" / "shards" / one.name).read_bytes() == one.read_bytes()
