"""One flipped byte anywhere in a set is found, and the chunk it lies in is named; what has changed is not opened."""

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from distill import DistillError
from distill.data.chunks import read_chunk, read_classes, write_chunks
from distill.data.layout import PLAIN, UNDERSCORE, Layout, layout_in
from distill.data.shards import FORMATS, Record, Rows, ShardMeta, commit_shard, find_record, open_shards, write_index
from distill.data.shards.verify import verify
from distill.images.codec import encode_jpeg
from distill.images.preprocessing import Preprocessing
from distill.images.spec import ImageSpec

CHUNKS, ROWS, SIZE = 4, 50, 8
SETS = {**{format: (format, UNDERSCORE) for format in sorted(FORMATS)}, "parquet-plain": ("parquet", PLAIN)}


def meta(number: int, chunk_sha256: str) -> ShardMeta:
    return ShardMeta(
        chunk=number,
        of=CHUNKS,
        chunk_sha256=chunk_sha256,
        dimension=16,
        dtype="float16",
        teacher="t" * 64,
        reading=Preprocessing(signature="serving_default"),
        image=ImageSpec(SIZE, SIZE),
        software={"numpy": "2"},
    )


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> Path:
    """A folder with a set of each of SETS: 4 chunks of 50 rows; the first row of chunk 2 is a reject."""
    folder, rng = tmp_path_factory.mktemp("sets"), np.random.default_rng(0)
    (folder / "list.txt").write_text("".join(f"id{row // 20:02d}/ü {row}.jpg\tid{row // 20:02d}\n" for row in range(CHUNKS * ROWS)))
    chunks = [read_chunk(path) for path in write_chunks(folder / "list.txt", folder / "chunks", ROWS).chunks]
    encoded = [encode_jpeg(rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)) for _ in range(ROWS)]
    embeddings = rng.normal(size=(ROWS, 16)).astype(np.float16)
    for name, (format, layout) in SETS.items():
        shards = folder / name / "shards"
        shards.mkdir(parents=True)
        shutil.copytree(folder / "chunks", folder / name / "chunks")
        records = []
        for chunk in chunks:
            first = int(chunk.number == 2)
            rejects = [{"key": chunk.keys[0], "reason": "the file is empty", "sha256": None}] * first
            rows = Rows(chunk.keys[first:], chunk.labels[first:], embeddings[first:], encoded[first:])
            records.append(commit_shard(shards, format, meta(chunk.number, chunk.sha256), [rows], rejects, layout=layout))
        write_index(shards, format, records, read_classes(folder / "chunks"), layout=layout)
    return folder


@pytest.fixture(params=SETS)
def out(originals, request, tmp_path) -> Path:
    return shutil.copytree(originals / request.param, tmp_path / "out")


@pytest.fixture
def layout(out) -> Layout:
    return layout_in(out / "shards")


def flips(paths: list[Path], number: int, seed: int) -> Iterator[tuple[Path, int]]:
    """Flip some bits of one random byte of one of the files, again and again; it is put back when the next one is asked for.

    Every byte of all files together is as likely as any other.
    """
    rng, ends = np.random.default_rng(seed), np.cumsum([path.stat().st_size for path in paths])
    for place in rng.integers(0, ends[-1], number).tolist():
        which = int(np.searchsorted(ends, place, side="right"))
        at = place - int(ends[which - 1]) if which else place
        with paths[which].open("r+b") as file:
            file.seek(at)
            good = file.read(1)
            file.seek(at)
            file.write(bytes([good[0] ^ int(rng.integers(1, 256))]))
            file.flush()
            yield paths[which], at
            file.seek(at)
            file.write(good)


def found_in_shards(out: Path, number: int, seed: int) -> int:
    """How many of `number` flipped bytes the deep verification found, naming the chunk and no other one."""
    found = 0
    shards = list(open_shards(out).shards)
    for path, at in flips(shards, number, seed):
        named = {chunk for chunk, _ in verify(out, deep=True).problems}
        assert named == {shards.index(path)}, f"byte {at} of {path.name}: {named}"
        found += 1
    assert not verify(out, deep=True).problems
    return found


def test_a_set_without_a_flipped_byte_is_right(out):
    for deep in (False, True):
        verdict = verify(out, deep=deep)
        assert verdict.problems == () and (verdict.rows, verdict.rejects, verdict.shards) == (CHUNKS * ROWS - 1, 1, CHUNKS)


def test_one_flipped_byte_in_any_shard_is_found(out):
    assert found_in_shards(out, 60, seed=0) == 60


@pytest.mark.slow
def test_a_thousand_flipped_bytes_over_both_formats_are_found(originals, tmp_path):
    found = sum(found_in_shards(shutil.copytree(originals / format, tmp_path / format), 500, seed=1) for format in FORMATS)
    assert found == 1000


def test_one_flipped_byte_in_a_ledger_is_found(out):
    for path, at in flips(sorted(out.glob("shards/*.rejects.jsonl")), 40, seed=2):
        assert {chunk for chunk, _ in verify(out, deep=True).problems} == {2}, f"byte {at} of {path.name}"
    assert not verify(out, deep=True).problems


def test_one_flipped_byte_in_the_class_table_is_found_by_whoever_opens_the_set(out, layout):
    for _ in flips([out / "shards" / layout.classes], 20, seed=3):
        with pytest.raises(DistillError, match=r"classes\.txt is missing or not the table of this set"):
            open_shards(out)


def test_one_flipped_byte_in_the_index_is_found_or_changes_nothing_that_is_read(out, layout):
    before, harmless = open_shards(out), 0
    for _, at in flips([out / "shards" / layout.index], 150, seed=4):
        try:
            problems = verify(out, deep=True).problems
        except DistillError as error:
            assert "\n" not in str(error)
            continue
        if not problems:  # the last bits of base64, or another line end: the same values
            harmless += 1
            assert open_shards(out) == before, f"byte {at}"
    assert harmless < 5


def test_one_flipped_byte_in_a_record_is_found_by_verify_and_mostly_by_a_run_that_goes_on(out):
    """A record is read when a run goes on, to know what is done; verify compares all of it with the index."""
    shards = open_shards(out)
    format, believed = shards.format, 0
    for path, at in flips(sorted(out.glob("shards/*-of-*.json")), 60, seed=5):
        number = int(path.stem.lstrip("_")[:5])
        named = {chunk for chunk, _ in verify(out).problems}
        assert named == {number} or Record.load(path) == shards.records[number], f"byte {at} of {path.name}"  # a space is as good as a tab
        expected = meta(number, read_chunk(out / "chunks" / f"{path.stem.lstrip('_')}.parquet").sha256)
        believed += find_record(out / "shards", format, expected, shards.layout) is not None
    assert believed < 20  # resuming does not hash: with a wrong hash in its record a shard is believed, and the deep verification tells


def test_a_lost_record_or_ledger_is_found(out, layout):
    for name in (layout.record(1, 4), layout.ledger(1, 4)):
        (out / "shards" / name).rename(out / "aside")
        assert [chunk for chunk, _ in verify(out).problems] == [1]
        (out / "aside").rename(out / "shards" / name)


def test_what_has_changed_is_not_opened(out, monkeypatch):
    """HDF5's own library ends the process on some damaged files, so a file is hashed first."""
    shards = open_shards(out)
    opened = []
    real = type(FORMATS[shards.format]).read_meta
    monkeypatch.setattr(type(FORMATS[shards.format]), "read_meta", lambda self, path: opened.append(path) or real(self, path))
    with shards.shards[1].open("r+b") as file:
        file.write(b"x")
    assert [chunk for chunk, _ in verify(out, deep=True).problems] == [1]
    assert shards.shards[1] not in opened and shards.shards[2] in opened


@pytest.mark.parametrize(
    "change, says",
    [
        ({"teacher": "u" * 64}, "was made with teacher"),
        ({"image": {"height": SIZE, "width": 9, "resize": "none"}}, "was made with image"),
        ({"dtype": "float32"}, "was made with dtype"),
        ({"reading": {"signature": "other"}}, "was made with reading"),
    ],
)
def test_an_index_that_says_otherwise_than_its_shards(out, layout, change, says):
    index = out / "shards" / layout.index
    value = json.loads(index.read_text())
    value["meta"] |= change
    index.write_text(json.dumps(value))
    problems = verify(out).problems
    assert {chunk for chunk, problem in problems if says in problem} == set(range(CHUNKS))


def test_a_golden_row_that_is_not_its_shards(out, layout):
    index = out / "shards" / layout.index
    value = json.loads(index.read_text())
    value["golden"][1]["embedding"][3] += 0.5
    index.write_text(json.dumps(value))
    ((chunk, problem),) = verify(out, deep=True).problems
    assert chunk == -1 and "golden row 'id00/ü 1.jpg'" in problem


def test_labels_are_counted(out, layout):
    index = out / "shards" / layout.index
    record = out / "shards" / layout.record(3, 4)
    value = json.loads(index.read_text())
    value["records"][3]["labelled"] = 7
    index.write_text(json.dumps(value))
    record.write_text(json.dumps(value["records"][3]))
    assert verify(out, deep=True).problems == ((3, "50 rows have a label, the record says 7"),)
    assert dataclasses.asdict(open_shards(out).records[3])["labelled"] == 7
