"""insightface data sets: rows, labels and bytes of what an independent writer wrote, and a clear word on everything that is wrong.

The writer follows the description of the format (dmlc-core's recordio, MXNet's image records, insightface's header) and shares nothing
with the reader.
"""

import hashlib
import json
import os
import struct
import threading
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill import DistillError
from distill.data.archives import archive, recordio
from distill.data.archives.reader import read_bytes
from distill.data.chunks import read_chunk, read_classes, write_chunks
from distill.data.lists.image_list import open_list
from distill.data.shards import open_shards
from distill.data.sources import ImageSource
from distill.images.codec import MAX_BYTES, BadImage
from tests.conftest import inside

MARK = b"\x0a\x23\xd7\xce"  # 0xced7230a


def framed(payload: bytes, mark=MARK, part=0, length=None) -> bytes:
    """A record or a part of one: mark, kind and length, bytes, zeros up to a multiple of 4."""
    length = len(payload) if length is None else length
    return mark + struct.pack("<I", part << 29 | length) + payload + b"\0" * (-len(payload) % 4)


def split(payload: bytes) -> bytes:
    """A record as dmlc-core writes it: cut at each word that is the mark, which is left out."""
    parts = [[]]
    for at in range(0, len(payload), 4):
        word = payload[at : at + 4]
        if word == MARK:
            parts.append([])
        else:
            parts[-1].append(word)
    last = len(parts) - 1
    kinds = [1] + [2] * (last - 1) + [3] if last else [0]
    return b"".join(framed(b"".join(part), part=kind) for kind, part in zip(kinds, parts, strict=True))


def joined(content: bytes, at: int) -> bytes:
    """The record at a place as dmlc-core's reader puts it together, which does not look at the order of the parts."""
    record = b""
    while True:
        _, frame = struct.unpack_from("<4sI", content, at)
        record += content[at + 8 : at + 8 + frame % 2**29]
        at += 8 + (frame % 2**29 + 3) // 4 * 4
        if frame >> 29 in (0, 3):
            return record
        record += MARK


def image(label, data: bytes, number=0) -> bytes:
    """MXNet's image record: one label in the header, or several behind it, whose number is the flag."""
    if isinstance(label, (int, float)):
        return struct.pack("<IfQQ", 0, label, number, 0) + data
    return struct.pack("<IfQQ", len(label), 0, number, 0) + struct.pack(f"<{len(label)}f", *label) + data


def write(folder, numbered, name="train"):
    """numbered: (id, bytes of the record, or the whole framed record as a bytearray) in the order of the file."""
    folder.mkdir(parents=True, exist_ok=True)
    lines, at = [], 0
    with open(folder / f"{name}.rec", "wb") as file:
        for number, payload in numbered:
            whole = bytes(payload) if isinstance(payload, bytearray) else split(payload)
            lines.append(f"{number}\t{at}\n")
            at += file.write(whole)
    (folder / f"{name}.idx").write_text("".join(lines))
    return folder / f"{name}.rec"


def insightface(folder, pictures, several=False, last=False):
    """A data set as insightface makes it: header, images by identity, then the range of ids of each identity. last: the header at the end."""
    images = [(number, image([label, 0.0] if several else label, data, number)) for number, (label, data) in enumerate(pictures, 1)]
    labels = [label for label, _ in pictures]
    end = len(pictures) + 1
    people = []
    for place, label in enumerate(sorted(set(labels))):
        ids = [number for number, found in enumerate(labels, 1) if found == label]
        people.append((end + place, image([min(ids), max(ids) + 1], b"", end + place)))
    header = [(0, image([end, end + len(people)], b""))]
    path = write(folder, images + people + header if last else header + images + people)
    (folder / "property").write_text(f"{max(labels) + 1},112,112\n")
    return path


PICTURES = [(label, bytes([65 + number]) * (number * 7 + 1)) for number, label in enumerate([0, 0, 1, 1, 1, 3])]


def rows_of(images, batch=4):
    rows = [row for keys, labels in images.batches(batch) for row in zip(keys, labels.tolist(), strict=True)]
    assert len(rows) == images.rows
    return rows


def error(source) -> str:
    with pytest.raises(DistillError) as caught:
        rows_of(open_list(source))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def reason(path, key) -> str:
    with pytest.raises(BadImage) as caught:
        read_bytes(str(path), key)
    assert str(path) not in str(caught.value)
    return str(caught.value)


def patch(path, at, data):
    """Other bytes at a place of a file; the time changes for certain."""
    content = bytearray(path.read_bytes())
    content[at : at + len(data)] = data
    path.write_bytes(content)
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    return path


# ---------------------------------------------------------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("last", [False, True])
def test_rows_labels_and_bytes(tmp_path, several, last):
    path = insightface(tmp_path, PICTURES, several, last)
    images = open_list(path)
    assert rows_of(images) == [("rec:1", 0), ("rec:2", 0), ("rec:3", 1), ("rec:4", 1), ("rec:5", 1), ("rec:6", 3)]
    assert images.classes == ["0", "1", "2", "3"] and images.root == path
    assert images.skipped == {"records without an image": 4}
    assert [labels.dtype for _, labels in images.batches(99)] == [np.int32]
    assert [read_bytes(str(path), f"rec:{number}") for number in range(1, 7)] == [data for _, data in PICTURES]


def test_records_without_a_header_and_in_any_order(tmp_path):
    path = write(tmp_path, [(7, image(2, b"seven")), (0, image(1, b"zero")), (300, image([0, 9, 9], b"three hundred"))])
    images = open_list(path)
    assert rows_of(images, 1) == [("rec:0", 1), ("rec:7", 2), ("rec:300", 0)] and images.skipped == {}
    assert [read_bytes(str(path), key) for key in ("rec:0", "rec:7", "rec:300")] == [b"zero", b"seven", b"three hundred"]
    both = write(tmp_path / "several", [(0, image([5, 6], b"an image, since it has bytes")), (1, image(0, b"x"))])
    assert rows_of(open_list(both)) == [("rec:0", 5), ("rec:1", 0)]


ID = 0xCED7230A_CED7230A  # of an image whose header holds the mark


@pytest.mark.parametrize(
    "data, marks",
    [
        (MARK, 2),
        (MARK * 3, 4),
        (MARK * 3 + b"x", 4),
        (b"1234" + MARK + b"5678" + MARK + b"90", 3),
        (b"1" + MARK + b"234", 1 + 1),
        (b"12" + MARK * 2 + b"34", 1 + 2),
        (b"123" + MARK + b"1" + MARK + b"12" + MARK[:3], 2 + 1),
        (b"x" * 5000 + MARK + b"y" * 70_001, 2),
    ],
)
@pytest.mark.parametrize("number, more", [(5, 0), (ID, 2)])
def test_split_records_are_joined(tmp_path, monkeypatch, data, marks, number, more):
    """marks: how many the written record has, one a part and those that stand at no multiple of 4."""
    written = split(image(2, data, number))
    assert written.count(MARK) == marks + more and joined(written, 0) == image(2, data, number)
    numbered = [(0, image(0, b"a")), (3, image(1, data, number)), (4, image([2, 9, 9], data, number)), (7, image(3, b"the last", number))]
    path = write(tmp_path, numbered)
    for block in (recordio.BLOCK, 1, 3):
        monkeypatch.setattr(recordio, "BLOCK", block)
        assert rows_of(open_list(path)) == [("rec:0", 0), ("rec:3", 1), ("rec:4", 2), ("rec:7", 3)]
    assert [read_bytes(str(path), key) for key in ("rec:0", "rec:3", "rec:4", "rec:7")] == [b"a", data, data, b"the last"]


def test_a_split_record_by_hand(tmp_path):
    words = "0a23d7ce 18000020 00000000 0000803f 0100000000000000 0000000000000000 0a23d7ce 00000040 0a23d7ce 05000060 6162636465000000"
    assert bytes.fromhex(words) == split(image(1, MARK * 2 + b"abcde", 1))
    path = write(tmp_path, [(1, bytearray.fromhex(words))])
    assert rows_of(open_list(path)) == [("rec:1", 1)] and read_bytes(str(path), "rec:1") == MARK * 2 + b"abcde"


def test_a_header_may_be_split(tmp_path):
    images = [(1, image(0, MARK)), (2, image(1, b"x"))]
    path = write(tmp_path, [(0, image([3, 5], b"", ID)), *images, (3, image([1, 2], b"")), (4, image([2, 3], b""))])
    assert rows_of(open_list(path)) == [("rec:1", 0), ("rec:2", 1)]
    assert reason(path, "rec:0") == "the record holds no image"


def test_an_index_may_leave_records_out(tmp_path):
    path = write(tmp_path, [(number, image(number, b"%d" % number)) for number in range(4)])
    lines = (tmp_path / "train.idx").read_text().splitlines()
    (tmp_path / "train.idx").write_text("\r\n".join(lines[1::2]))
    assert rows_of(open_list(path)) == [("rec:1", 1), ("rec:3", 3)]


def test_blocks_make_no_difference(tmp_path, monkeypatch):
    path = insightface(tmp_path, [(number % 5, b"x" * number) for number in range(60)], last=True)
    expected = rows_of(open_list(path))
    monkeypatch.setattr(recordio, "BLOCK", 3)
    assert rows_of(open_list(path)) == expected


@pytest.fixture(scope="module")
def pictures(faces):
    """(label, bytes) of the drawn faces in the order of their folders."""
    labels = {folder.name: number for number, folder in enumerate(sorted(faces.glob("id*")))}
    files = sorted(faces.rglob("*.jpg"), key=lambda file: file.relative_to(faces).as_posix())
    return [(labels[file.parent.name], file.read_bytes()) for file in files]


def test_chunks_and_sources_are_those_of_the_same_files_in_folders(faces, pictures, tmp_path):
    path = insightface(tmp_path / "set", pictures)
    made = write_chunks(path, tmp_path / "chunks", 50)
    folders = write_chunks(faces, tmp_path / "folders", 50)
    assert made.rows == folders.rows == 120 and read_classes(made.folder) == [str(number) for number in range(12)]
    for one, other in zip(made.chunks, folders.chunks, strict=True):
        left, right = read_chunk(one), read_chunk(other)
        assert left.labels.tolist() == right.labels.tolist()
        assert [read_bytes(str(path), key) for key in left.keys] == [read_bytes(str(faces), key) for key in right.keys]
    one = ImageSource(path, size=(32, 32), batch=32, seed=3)
    other = ImageSource(faces, size=(32, 32), batch=32, seed=3)
    for (images, fields), (expected, labels) in zip(one.epoch(1), other.epoch(1), strict=True):
        assert np.array_equal(images, expected) and np.array_equal(fields["label"], labels["label"])
    from_chunks = ImageSource(made.folder, size=(32, 32), batch=32, seed=3, root=str(path))
    assert np.array_equal(next(from_chunks.epoch(0))[0], next(other.epoch(0))[0])


def test_embedding_is_that_of_the_same_files_in_folders(faces, pictures, teacher, tmp_path):
    path = insightface(tmp_path / "set", pictures)
    for source, out in ((path, "records"), (faces, "folders")):
        done = inside("embed", source, tmp_path / out, "--teacher", teacher, "--rows", 50, "--batch", 8)
        assert done.returncode == 0, done.stderr
    left, right = open_shards(tmp_path / "records"), open_shards(tmp_path / "folders")
    assert left.rows == right.rows == 120 and list(left.classes) == [str(number) for number in range(12)]
    number = 0
    for shard in range(3):
        for one, other in zip(left.read(shard), right.read(shard), strict=True):
            for row in range(len(one.keys)):
                number += 1
                assert one.keys[row] == f"rec:{number}" and one.labels[row] == other.labels[row]
                assert one.images[row] == other.images[row] and np.array_equal(one.embeddings[row], other.embeddings[row])
    assert number == 120
    assert "120 rows in 3 chunks" in inside("embed", path, tmp_path / "dry", "--teacher", teacher, "--rows", 50, "--dry-run").stderr
    assert "rows: 120" in inside("inspect", path).stdout


def test_a_record_that_turned_bad_is_a_reject(pictures, teacher, tmp_path):
    path = insightface(tmp_path / "set", pictures)
    offsets = dict(map(int, line.split()) for line in (tmp_path / "set" / "train.idx").read_text().splitlines())
    assert inside("chunk", path, tmp_path / "chunks", "--rows", 60).returncode == 0
    patch(path, offsets[7], b"none")
    patch(path, offsets[70] + 32, b"no JPEG")
    words = ("--teacher", teacher, "--root", path, "--max-rejects", 0.05)
    done = inside("embed", tmp_path / "chunks", tmp_path / "out", *words)
    assert done.returncode == 0, done.stderr
    shards = open_shards(tmp_path / "out")
    ledger = [json.loads(line) for record in shards.records for line in (shards.folder / record.ledger).read_text().splitlines()]
    assert [reject["key"] for reject in ledger] == ["rec:7", "rec:70"] and shards.rows == 118
    assert "no record begins" in ledger[0]["reason"] and ledger[0]["sha256"] is None
    assert ledger[1]["sha256"] == hashlib.sha256(read_bytes(str(path), "rec:70")).hexdigest()
    done = inside("embed", tmp_path / "chunks", tmp_path / "other", "--teacher", teacher)
    assert done.returncode == 2 and "'rec:1' for one" in done.stderr and "--root" in done.stderr


# ------------------------------------------------------------------------------------------------------------------------------ refusals


WHOLE = [(number, image(number, b"image %d" % number, number)) for number in range(4)]  # 40 + 4 bytes each: offsets 0, 40, 80, 120


def replaced(row, payload):
    return [payload_or if number != row else (number, payload) for number, payload_or in enumerate(WHOLE)]


def chain(*parts) -> bytearray:
    """(kind, bytes) of parts in a row, in whatever order."""
    return bytearray(b"".join(framed(data, part=kind) for kind, data in parts))


HEAD = image(1, b"", 1)  # 24 bytes


def header(*labels, images=3):
    """Whole records with another header record."""
    return [(0, image(list(labels), b"")), *((number, image(0, b"x")) for number in range(1, images + 1)), (images + 1, image([1, 9], b""))]


WRONG_RECORDS = [
    (replaced(2, bytearray(framed(WHOLE[2][1], mark=b"MARK"))), "record 2 at offset 80: no record begins there: 0x4b52414d"),
    (replaced(2, bytearray(framed(WHOLE[2][1], part=2))), "record 2 at offset 80: damaged: no record begins at offset 80: 0xced7230a of kind 2"),
    (replaced(1, bytearray(framed(WHOLE[1][1], part=3))), "no record begins at offset 40: 0xced7230a of kind 3, expected 0xced7230a of kind 0 or 1"),
    (replaced(1, bytearray(framed(WHOLE[1][1], part=7))), "record 1 at offset 40: damaged: no record begins at offset 40: 0xced7230a of kind 7"),
    (replaced(1, chain((1, HEAD), (1, b"x"), (3, b"x"))), "record 1 at offset 40: damaged: no part follows at offset 72: 0xced7230a of kind 1"),
    (replaced(1, chain((1, HEAD), (2, b"x"))), "no part follows at offset 84: 0xced7230a of kind 0, expected 0xced7230a of kind 2 or 3"),
    (replaced(1, chain((1, HEAD), (2, b"x"), (4, b"x"))), "record 1 at offset 40: damaged: no part follows at offset 84: 0xced7230a of kind 4"),
    (replaced(1, chain((1, HEAD), (2, b"x")) + b"junkjunk"), "damaged: no part follows at offset 84: 0x6b6e756a of kind 3"),
    (replaced(3, chain((1, HEAD), (2, b"x"))), "record 3 at offset 120: truncated: the record file ends before the record or inside it. Fetch"),
    (replaced(3, chain((1, HEAD), (3, b"x"))[:-3]), "record 3 at offset 120: truncated: the record file ends before"),
    (replaced(3, chain((1, HEAD))), "record 3 at offset 120: truncated: the record file ends before"),
    (replaced(1, chain((1, b"x" * 16), (3, b"12"))), "record 1 at offset 40: 22 bytes, expected 24 or more"),
    (replaced(1, chain((1, image([1, 1], b"")[:20]), (3, b"x"))), "record 1 at offset 40: 25 bytes, expected 32 or more: a header of 24 and 2 labels"),
    (replaced(1, chain((1, image(0.5, b"")), (3, b"x"))), "record 1 at offset 40: its label is 0.5"),
    (replaced(3, bytearray(framed(WHOLE[3][1], length=33))), "record 3 at offset 120: truncated: it ends at 164, the file at 160"),
    (replaced(1, bytearray(framed(WHOLE[1][1], length=2**29 - 1))), "record 1 at offset 40: truncated: it ends at 536,870,960, the file at 160"),
    (replaced(1, bytearray(framed(WHOLE[1][1], length=40))), "record 2 at offset 80: the record before it ends at 88 only"),
    (replaced(2, bytearray(framed(WHOLE[2][1], length=23))), "record 2 at offset 80: 23 bytes, expected 24 or more"),
    (replaced(2, struct.pack("<IfQQ", 2**32 - 1, 0, 0, 0) + b"image 2"), "record 2 at offset 80: 31 bytes, expected 17,179,869,204 or more"),
    (replaced(2, b"short"), "record 2 at offset 80: 5 bytes, expected 24 or more"),
    (replaced(3, b"short"), "record 3 at offset 120: the file has 136 bytes, so it ends before the record or inside it"),
    (replaced(2, image(0.5, b"image 2")), "record 2 at offset 80: its label is 0.5. Expected a class number"),
    (replaced(2, image(-1, b"image 2")), "record 2 at offset 80: its label is -1"),
    (replaced(2, image(float("nan"), b"image 2")), "record 2 at offset 80: its label is nan"),
    (replaced(2, image(float("inf"), b"image 2")), "its label is inf"),
    (replaced(2, image(1e7, b"image 2")), "its label is 1e+07. Expected a class number, whole and from 0 to 9,999,999"),
    (replaced(2, image([0.25, 1], b"i")), "its label is 0.25"),
    (header(6, 8), "a header with the labels 6, 8, so images are 1 to 5, but the index lacks 5"),
    (header(4.5, 8), "a header with the labels 4.5, 8. Expected two"),
    (header(1, 8), "labels 1, 8. Expected two"),
    (header(4, 3), "labels 4, 3. Expected two"),
    (header(float("nan"), 3), "labels nan, 3. Expected two"),
    (header(4), "labels 4. Expected two"),
    (header(4, 5, 6), "labels 4, 5. Expected two"),
    (header(2.0**25, 2.0**26), "float32 has gaps above 16,777,216"),
    ([row for row in header(4, 5) if row[0] != 2], "images are 1 to 3, but the index lacks 2"),
]


@pytest.mark.parametrize("numbered, expected", WRONG_RECORDS)
def test_wrong_records(tmp_path, numbered, expected):
    raised = error(write(tmp_path, numbered))
    assert expected in raised and "train.rec, record " in raised


WRONG_INDEXES = [
    (None, "train.idx is not beside it"),
    ("", "is no index of train.rec"),
    ("\n\n", "is "),
    ("0\t0\n1\t40\n1\t80\n", "train.idx: id 1 stands there twice, with the offsets 40 and 80"),
    ("0\t0\n1\t160\n", "record 1 at offset 160: the file has 160 bytes, so it ends before"),
    ("0\t0\n1\t99999999999\n", "record 1 at offset 99999999999: the file has 160 bytes"),
    ("0\t0\n1\t-40\n", "record 1 at offset -40"),
    ("-1\t0\n1\t40\n", "train.idx: id -1. Expected ids from 0"),
    ("0\t0\n1\t44\n", "record 1 at offset 44: no record begins there"),
    ("0\t0\n1\t0\n", "record 1 at offset 0: the record before it ends at 40 only"),
    ("0\t0\n1\tx\n", "train.idx is no index of train.rec: "),
    ("0\t0\n1\t99999999999999999999\n", "train.idx is no index of train.rec: "),
    ("0\t0\n1\n", "train.idx is no index of train.rec: "),
    ("0\t0\n1\t\n", "train.idx is no index of train.rec: "),
    ("0\t0\n1\t40\t7\n", "train.idx is no index of train.rec: "),
    ("0 0\n1 40\n", "train.idx is no index of train.rec: "),
    ("0\t0\n1\tNA\n", "train.idx is no index of train.rec: "),
    (bytes(range(256)) * 9, "train.idx is no index of train.rec: "),
    (b"\0" * 3_000_000, "train.idx is no index of train.rec: "),
]


@pytest.mark.parametrize("index, expected", WRONG_INDEXES)
def test_wrong_indexes(tmp_path, index, expected):
    path = write(tmp_path, WHOLE)
    assert path.stat().st_size == 160
    (tmp_path / "train.idx").unlink()
    if index is not None:
        (tmp_path / "train.idx").write_bytes(index if isinstance(index, bytes) else index.encode())
    assert expected in error(path) and str(tmp_path) in error(path)


WRONG_PROPERTIES = [
    (b"3,112,112\n", "property says 3 classes, the largest label in train.rec is 3"),
    (b"", "property: b''. Expected classes,height,width"),
    (b"85742\n", "Expected classes,height,width"),
    (b"many,112,112", "Expected classes,height,width"),
    (b"-4,112,112", "Expected classes,height,width"),
    (b"\xff" * 10_000, "Expected classes,height,width"),
]


@pytest.mark.parametrize("content, expected", WRONG_PROPERTIES)
def test_a_property_that_does_not_fit(tmp_path, content, expected):
    path = write(tmp_path, WHOLE)
    (tmp_path / "property").write_bytes(content)
    assert expected in error(path)


def test_a_property_that_fits(tmp_path):
    path = write(tmp_path, WHOLE)
    for content in (b"4,112,112", b" 85742 , 112 , 112 \r\n"):
        (tmp_path / "property").write_bytes(content)
        assert open_list(path).classes == ["0", "1", "2", "3"]


def test_an_empty_file(tmp_path):
    path = write(tmp_path, [])
    (tmp_path / "train.idx").write_text("0\t0\n")
    assert "record 0 at offset 0: the file has 0 bytes" in error(path)


# ------------------------------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("key", ["rec:4", "rec:", "rec:01", "rec:-1", "rec:x", "rec:1 ", "rec:999999999999999999", "rec:" + "9" * 40, "rec:1/2"])
def test_keys_that_name_no_record(tmp_path, key):
    assert reason(write(tmp_path, WHOLE), key) == "no such record in the index"


TURNED_BAD = [
    (40, b"MARK", "damaged: no record begins at offset 40: 0x4b52414d of kind 0, expected 0xced7230a of kind 0 or 1"),
    (47, b"\x20", "damaged: no part follows at offset 80: 0xced7230a of kind 0, expected 0xced7230a of kind 2 or 3"),
    (47, b"\x60", "damaged: no record begins at offset 40: 0xced7230a of kind 3, expected 0xced7230a of kind 0 or 1"),
    (44, struct.pack("<I", 20), "damaged: 20 bytes in the record, 24 in its header and labels"),
    (48, struct.pack("<I", 1000), "damaged: 31 bytes in the record, 4,024 in its header and labels"),
    (44, struct.pack("<I", 1000), "truncated: the record file ends before the record or inside it"),
    (44, struct.pack("<I", 24), "the record holds no image"),
    (44, struct.pack("<I", MAX_BYTES + 25), "the record has 268,435,481 bytes or more, 268,435,456 at most are read"),
]


@pytest.mark.parametrize("at, data, expected", TURNED_BAD)
def test_records_that_turned_bad(tmp_path, at, data, expected):
    path = write(tmp_path, WHOLE)
    assert read_bytes(str(path), "rec:1") == b"image 1"
    assert reason(patch(path, at, data), "rec:1") == expected
    assert read_bytes(str(path), "rec:2") == b"image 2"


def test_a_file_that_lost_its_end(tmp_path):
    path = write(tmp_path, WHOLE)
    assert read_bytes(str(path), "rec:3") == b"image 3"
    os.truncate(path, 155)
    assert reason(path, "rec:3").startswith("truncated") and read_bytes(str(path), "rec:2") == b"image 2"
    os.truncate(path, 100)
    assert reason(path, "rec:3").startswith("truncated") and reason(path, "rec:2").startswith("truncated")


def test_a_file_that_is_gone_is_not_the_images_fault(tmp_path):
    path = write(tmp_path, WHOLE)
    read_bytes(str(path), "rec:1")
    (tmp_path / "train.idx").rename(tmp_path / "away")
    with pytest.raises(DistillError, match="train.idx is not beside it"):
        read_bytes(str(path), "rec:1")
    (tmp_path / "away").rename(tmp_path / "train.idx")
    path.unlink()
    with pytest.raises(DistillError, match="--root"):
        read_bytes(str(path), "rec:1")


def test_another_file_of_the_name_is_opened_again_and_few_stay_open(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    for number in range(20):
        path = write(tmp_path, [(0, image(0, b"image %d" % number))])
        os.utime(path, ns=(1, number + 1))
        assert read_bytes(str(path), "rec:0") == b"image %d" % number
        other = write(tmp_path / str(number), [(0, image(0, b"other %d" % number))])
        assert read_bytes(str(other), "rec:0") == b"other %d" % number
    assert len(os.listdir("/proc/self/fd")) <= before + 4


def test_threads_share_a_file_that_changes(tmp_path):
    """Every answer is that of one of the files that stood there, and no descriptor of one is read as that of another."""
    path = write(tmp_path, [(0, image(0, b"a" * 1000))])
    fresh = write(tmp_path / "next", [(0, image(0, b"b" * 1000))])
    seen, stop = set(), threading.Event()

    def read():
        while not stop.is_set():
            seen.add(read_bytes(str(path), "rec:0"))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(200):
        (tmp_path / "copy").write_bytes((fresh if number % 2 else path).read_bytes())
        os.replace(tmp_path / "copy", path)
    stop.set()
    for thread in threads:
        thread.join()
    assert seen <= {b"a" * 1000, b"b" * 1000}


# ------------------------------------------------------------------------------------------------------------------------------- fuzzing


FRAME = st.builds(lambda kind, length: kind << 29 | length, st.integers(0, 7), st.integers(0, 64))
VALUE = st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 300), st.just(0xCED7230A), FRAME)
CHANGE = st.tuples(st.sampled_from(["flip", "word", "cut", "insert", "drop"]), st.integers(0, 2**16), VALUE)
BYTES = st.lists(st.one_of(st.just(MARK), st.binary(max_size=9)), max_size=12).map(b"".join).filter(bool)
LABEL = st.one_of(st.integers(0, 9), st.lists(st.integers(0, 9), min_size=1, max_size=4))
IMAGE = st.tuples(LABEL, BYTES, st.sampled_from([0, 7, ID, ID >> 32]))
SPLIT = [(number, image(number, b"ab" * number + MARK * number + b"12" + MARK, ID * (number % 2))) for number in range(4)]


def changed(data: bytes, changes) -> bytes:
    content = bytearray(data)
    for kind, place, value in changes:
        at = place % (len(content) + 1)
        if kind == "flip" and at < len(content):
            content[at] ^= 1 + value % 255
        elif kind == "word":
            content[at // 4 * 4 : at // 4 * 4 + 4] = struct.pack("<I", value)
        elif kind == "cut":
            del content[at:]
        elif kind == "insert":
            content[at:at] = bytes([value % 256]) * (value % 9)
        elif kind == "drop":
            del content[at : at + value % 50]
    return bytes(content)


@settings(max_examples=300, deadline=2000, derandomize=True)
@given(data=st.lists(CHANGE, max_size=3), index=st.lists(CHANGE, max_size=2), kept=st.sampled_from([None, WHOLE, SPLIT]))
def test_damaged_files_are_rows_or_one_clear_error(tmp_path_factory, data, index, kept):
    folder = tmp_path_factory.getbasetemp() / "fuzz"
    path = write(folder, kept) if kept else insightface(folder, PICTURES, last=True)
    (folder / "property").unlink(missing_ok=True)
    path.write_bytes(changed(path.read_bytes(), data))
    (folder / "train.idx").write_bytes(changed((folder / "train.idx").read_bytes(), index))
    archive._opened.clear()  # equal sizes within one tick of the clock
    tracemalloc.start()
    try:
        keys = [f"rec:{number}" for number in range(8)]
        try:
            images = recordio.open_records(path, 1000)
            keys += [key for key, _ in rows_of(images)]
        except DistillError as raised:
            assert str(folder) in str(raised) and "\n" not in str(raised)
        for key in keys:
            try:
                assert len(read_bytes(str(path), key)) <= path.stat().st_size
            except BadImage as raised:
                assert str(folder) not in str(raised)
            except DistillError as raised:
                assert str(folder) in str(raised)
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


@settings(max_examples=200, deadline=2000, derandomize=True)
@given(images=st.lists(IMAGE, min_size=1, max_size=4), changes=st.lists(CHANGE, max_size=3))
def test_any_bytes_survive_and_damaged_ones_are_never_made_up(tmp_path_factory, images, changes):
    path = write(tmp_path_factory.getbasetemp() / "split", [(number, image(*one)) for number, one in enumerate(images, 1)])
    labels = [label[0] if isinstance(label, list) else label for label, _, _ in images]
    archive._opened.clear()
    assert rows_of(recordio.open_records(path, 10)) == [(f"rec:{number}", label) for number, label in enumerate(labels, 1)]
    assert [read_bytes(str(path), f"rec:{number}") for number in range(1, len(images) + 1)] == [data for _, data, _ in images]
    offsets = [int(line.split()[1]) for line in (path.parent / "train.idx").read_text().splitlines()]
    content = changed(path.read_bytes(), changes)
    path.write_bytes(content)
    archive._opened.clear()
    try:
        recordio.open_records(path, 10)
        opened = True
    except DistillError as raised:
        assert str(path) in str(raised) and "record " in str(raised) and " at offset " in str(raised)
        opened = False
    for number, offset in enumerate(offsets, 1):
        try:
            data = read_bytes(str(path), f"rec:{number}")
        except BadImage as raised:
            assert not opened or "holds no image" in str(raised)
        else:
            record = joined(content, offset)
            assert data == record[24 + 4 * struct.unpack_from("<I", record)[0] :]


def test_a_chain_of_many_parts_is_walked_once_in_little_memory(tmp_path, monkeypatch):
    path = write(tmp_path, [(0, image(1, MARK * 20_000)), (1, image(2, b"x"))])
    assert path.stat().st_size == 32 + 8 * 20_000 + 36
    reads = []
    read = recordio.RecordFile.read
    monkeypatch.setattr(recordio.RecordFile, "read", lambda *words: reads.append(None) or read(*words))
    tracemalloc.start()
    assert rows_of(open_list(path)) == [("rec:0", 1), ("rec:1", 2)]
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    assert len(reads) < 43_000  # the second walk is that of record 0, which may be a header
    assert read_bytes(str(path), "rec:0") == MARK * 20_000
    reads.clear()
    (tmp_path / "train.idx").write_text("".join(f"{number}\t0\n" for number in range(1000)))
    assert "record 1 at offset 0: the record before it ends at 160,032 only" in error(path)
    assert len(reads) < 22_000


def test_a_split_record_of_too_many_bytes_is_not_read(tmp_path):
    path = write(tmp_path, [(0, chain((1, HEAD), (2, b""))), (1, image(0, b"x"))])
    with open(path, "r+b") as file:
        file.seek(36)
        file.write(struct.pack("<I", 2 << 29 | MAX_BYTES - 28))
        file.truncate(2**29)  # a file of holes
        file.seek(40 + MAX_BYTES - 28)
        file.write(framed(b"x", part=3))
    tracemalloc.start()
    assert "record 0 at offset 0: the record has 268,435,461 bytes or more, 268,435,456 at most are read. Fetch" in error(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
    with open(path, "r+b") as file:
        file.seek(36)
        file.write(struct.pack("<I", 2 << 29 | MAX_BYTES))
    os.utime(path, ns=(1, 1))
    tracemalloc.start()
    assert reason(path, "rec:0").startswith("the record has 268,435,484 bytes or more")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_a_huge_record_is_not_read(tmp_path):
    path = write(tmp_path, [(0, image(0, b"x"))])
    with open(path, "r+b") as file:
        file.seek(4)
        file.write(struct.pack("<I", 2**29 - 4))
        file.truncate(2**29 + 100)  # a file of holes
    assert rows_of(open_list(path)) == [("rec:0", 0)]
    tracemalloc.start()
    assert "at most are read" in reason(path, "rec:0")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()
