"""Chunks: numbered files that hold the list's rows, prove themselves, and get their names when all are written."""

import hashlib
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill import DistillError
from distill.data.chunks import Chunk, list_chunks, read_chunk, read_classes, rows_sha256, write_chunks
from distill.data.kinds import is_chunk_folder
from distill.data.lists.image_list import open_list


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("".join(f"id {number // 3}/写 {number}.jpg\tid {number // 3}\n" for number in range(10)))
    return path


def error(call, *arguments) -> str:
    with pytest.raises(DistillError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names(folder):
    return sorted(os.listdir(folder))


def test_ten_rows_in_chunks_of_four(source, tmp_path):
    seen = []
    made = write_chunks(source, tmp_path / "out", 4, lambda done, rows: seen.append((done, rows)))
    assert names(tmp_path / "out") == ["00000-of-00003.parquet", "00001-of-00003.parquet", "00002-of-00003.parquet", "classes.txt"]
    assert (made.folder, made.rows, made.written, made.skipped) == (tmp_path / "out", 10, 3, {})
    assert made.classes == ["id 0", "id 1", "id 2", "id 3"] == read_classes(tmp_path / "out")
    assert list(made.chunks) == list_chunks(tmp_path / "out")
    assert seen == [(4, 10), (8, 10), (10, 10)]
    chunks = [read_chunk(path) for path in made.chunks]
    assert [(chunk.number, chunk.of, len(chunk.keys)) for chunk in chunks] == [(0, 3, 4), (1, 3, 4), (2, 3, 2)]
    assert chunks[1].keys == ["id 1/写 4.jpg", "id 1/写 5.jpg", "id 2/写 6.jpg", "id 2/写 7.jpg"]
    assert chunks[1].labels.tolist() == [1, 1, 2, 2] and chunks[1].labels.dtype == np.int32


def test_the_hash_is_that_of_a_text_list(tmp_path):
    (tmp_path / "list.txt").write_text("a.jpg\t7\nb ü.jpg\t0\n")
    chunk = read_chunk(write_chunks(tmp_path / "list.txt", tmp_path / "out").chunks[0])
    assert chunk.sha256 == hashlib.sha256("a.jpg\t7\nb ü.jpg\t0\n".encode()).hexdigest()
    assert chunk.classes == hashlib.sha256(b"0\n1\n2\n3\n4\n5\n6\n7\n").hexdigest() == hashlib.sha256((tmp_path / "out/classes.txt").read_bytes()).hexdigest()
    (tmp_path / "plain.txt").write_text("a.jpg\nb.jpg\n")
    chunk = read_chunk(write_chunks(tmp_path / "plain.txt", tmp_path / "plain").chunks[0])
    assert chunk.sha256 == hashlib.sha256(b"a.jpg\nb.jpg\n").hexdigest()
    assert chunk.labels.tolist() == [-1, -1]
    assert read_classes(tmp_path / "plain") == [] and (tmp_path / "plain/classes.txt").read_bytes() == b""


def test_the_hash_of_rows_class_by_class_and_shuffled():
    for labels in ([0, 0, 0, 0, 12, 12, 12, 12, 12], [3, 0, 12, 3, 0, 12, 3, 0, 12], [-1] * 9, [-1, 4] * 4 + [-1]):
        keys = [f"ü {row}.jpg" for row in range(len(labels))]
        lines = "".join(f"{key}\n" if label < 0 else f"{key}\t{label}\n" for key, label in zip(keys, labels, strict=True))
        assert rows_sha256(keys, np.array(labels, np.int32)) == hashlib.sha256(lines.encode()).hexdigest()


def test_chunks_open_without_us(source, tmp_path):
    made = write_chunks(source, tmp_path / "out", 4)
    table = pq.read_table(made.chunks[2])
    assert table.to_pydict() == {"key": ["id 2/写 8.jpg", "id 3/写 9.jpg"], "label": [2, 3]}
    assert table.schema.field("label").type == pa.int32() and table.schema.field("key").type == pa.string()
    assert table.schema.metadata[b"chunk"] == b"2" and table.schema.metadata[b"of"] == b"3"
    (tmp_path / "plain.txt").write_text("a.jpg\n")
    assert pq.read_table(write_chunks(tmp_path / "plain.txt", tmp_path / "plain").chunks[0])["label"].to_pylist() == [None]


def test_folder_and_list_give_equal_bytes(source, tmp_path):
    for key, _ in (row for keys, labels in open_list(source).batches(99) for row in zip(keys, labels, strict=True)):
        (tmp_path / "root" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / key).touch()
    one, other = write_chunks(source, tmp_path / "1", 3), write_chunks(tmp_path / "root", tmp_path / "2", 3)
    assert names(one.folder) == names(other.folder)
    for name in names(one.folder):
        assert (one.folder / name).read_bytes() == (other.folder / name).read_bytes()


def test_the_same_set_again_changes_nothing(source, tmp_path):
    first = write_chunks(source, tmp_path / "out", 4)
    times = [path.stat().st_mtime_ns for path in sorted(first.folder.iterdir())]
    again = write_chunks(source, tmp_path / "out", 4)
    assert again.written == 0 and again.rows == 10 and again.chunks == first.chunks
    assert times == [path.stat().st_mtime_ns for path in sorted(first.folder.iterdir())]


def test_another_set_is_refused(source, tmp_path):
    out = write_chunks(source, tmp_path / "out", 4).folder
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert "holds another set" in error(write_chunks, source, out, 5)
    other = tmp_path / "other.txt"
    other.write_text(source.read_text().replace("写 9", "写 10"))
    assert "00002-of-00003.parquet has rows of sha256" in error(write_chunks, other, out, 4)
    other.write_text(source.read_text().replace("\tid 3", "\tid 4"))
    assert "classes.txt is not the class table" in error(write_chunks, other, out, 4)
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}


def test_a_cut_that_was_interrupted_between_names_goes_on(source, tmp_path):
    whole = write_chunks(source, tmp_path / "whole", 4).folder
    part = tmp_path / "part"
    part.mkdir()
    shutil.copy(whole / "00001-of-00003.parquet", part)
    assert is_chunk_folder(part)
    assert "00000-of-00003.parquet, 00002-of-00003.parquet missing (1 of 3 are there)" in error(list_chunks, part)
    assert write_chunks(source, part, 4).written == 2
    for name in names(whole):
        assert (whole / name).read_bytes() == (part / name).read_bytes()


def test_nothing_has_a_name_before_all_is_written(source, tmp_path):
    out = tmp_path / "out"
    seen = []
    write_chunks(source, out, 4, lambda done, rows: seen.append([name for name in names(out) if not name.startswith(".")]))
    assert seen == [[], [], []]

    def stop(done, rows):
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_chunks(source, tmp_path / "stopped", 4, stop)
    assert names(tmp_path / "stopped") == []


def test_leftovers_of_a_killed_writer_are_swept(source, tmp_path):
    out = tmp_path / "out"
    code = (
        "import os, signal, sys\nfrom distill.data.chunks import write_chunks\n"
        "write_chunks(sys.argv[1], sys.argv[2], 4, lambda done, rows: os.kill(os.getpid(), signal.SIGKILL) if done == 8 else None)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(source), str(out)])
    assert done.returncode == -signal.SIGKILL
    assert len(names(out)) == 3 and all(name.startswith(".") for name in names(out))
    assert write_chunks(source, out, 4).written == 3
    assert not any(name.startswith(".") for name in names(out))


def test_a_wrong_list_leaves_nothing_behind(tmp_path):
    (tmp_path / "list.txt").write_text("a\na\n")
    assert "lines 1 and 2" in error(write_chunks, tmp_path / "list.txt", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "expected at least 1 row" in error(write_chunks, tmp_path / "list.txt", tmp_path / "out", 0)


def test_chunks_are_no_image_list(source, tmp_path):
    out = write_chunks(source, tmp_path / "out", 4).folder
    assert "holds chunks already" in error(write_chunks, out, tmp_path / "again")
    assert is_chunk_folder(out) and not is_chunk_folder(tmp_path) and not is_chunk_folder(source) and not is_chunk_folder(tmp_path / "none")
    shards = tmp_path / "shards"
    shards.mkdir()
    (shards / "classes.txt").touch()
    pq.write_table(pa.table({"key": ["a"], "label": [1]}), shards / "00000-of-00001.parquet")
    assert not is_chunk_folder(shards)


def test_a_set_that_is_not_whole(source, tmp_path):
    out = write_chunks(source, tmp_path / "out", 1).folder
    for number in range(3, 10):
        (out / f"{number:05d}-of-00010.parquet").unlink()
    assert "00003-of-00010.parquet, 00004-of-00010.parquet" in error(list_chunks, out)
    assert "... missing (3 of 10 are there)" in error(list_chunks, out)
    out = write_chunks(source, tmp_path / "two", 5).folder
    (out / "classes.txt").rename(tmp_path / "classes.txt")
    assert "classes.txt missing" in error(list_chunks, out)
    (tmp_path / "classes.txt").rename(out / "classes.txt")
    shutil.copy(out / "00001-of-00002.parquet", out / "00002-of-00002.parquet")
    assert "00002-of-00002.parquet does not belong to a set of 2" in error(list_chunks, out)
    (out / "00002-of-00002.parquet").rename(out / "00000-of-00003.parquet")
    assert "several sets: of 2, 3 chunks" in error(list_chunks, out)
    (tmp_path / "empty").mkdir()
    assert "no chunks" in error(list_chunks, tmp_path / "empty")
    (tmp_path / "far").mkdir()
    (tmp_path / "far/00000-of-99999999999.parquet").touch()  # a count that nobody should try to allocate
    assert "1 of 99999999999 are there" in error(list_chunks, tmp_path / "far")


def test_the_class_table_belongs_to_its_chunks(source, tmp_path):
    out = write_chunks(source, tmp_path / "out", 4).folder
    (out / "classes.txt").write_text("id 0\nid 1\nid 3\nid 2\n")
    assert "Put the old table back" in error(read_classes, out)


def test_odd_class_names_keep_their_lines(tmp_path):
    odd = ["\u2028", " x ", "a\u0085b", "x,y", "日本"]
    (tmp_path / "list.txt").write_bytes("".join(f"{place}\t{name}\n" for place, name in enumerate(odd)).encode())
    odd = [name.strip(" ") for name in odd]  # spaces around a label are none of it
    assert sorted(odd, key=str.encode) == read_classes(write_chunks(tmp_path / "list.txt", tmp_path / "out").folder)


def test_foreign_files(source, tmp_path):
    chunk = write_chunks(source, tmp_path / "out", 4).chunks[1]
    assert "no such chunk" in error(read_chunk, tmp_path / "00000-of-00001.parquet")
    moved = tmp_path / "00002-of-00003.parquet"
    shutil.copy(chunk, moved)
    assert "is chunk 1 of 3 by its metadata" in error(read_chunk, moved)
    moved.write_text("not Parquet")
    assert "damaged or no chunk" in error(read_chunk, moved)
    moved.write_bytes(b"")
    assert "damaged or no chunk" in error(read_chunk, moved)
    pq.write_table(pa.table({"image": [b"x"]}), moved)
    assert "is no chunk: format None, image binary" in error(read_chunk, moved)
    folder = tmp_path / "00001-of-00003.parquet"
    folder.mkdir()
    assert "damaged or no chunk" in error(read_chunk, folder)


def test_changed_rows_are_noticed(source, tmp_path):
    chunk = write_chunks(source, tmp_path / "out", 4).chunks[1]
    table = pq.read_table(chunk)
    for changed in (
        table.slice(1),
        table.take([1, 0, 2, 3]),
        table.set_column(1, table.schema.field(1), [pa.array([1, 1, 2, None], pa.int32())]),
        table.set_column(0, table.schema.field(0), [pa.array(["", *table["key"].to_pylist()[1:]])]),
    ):
        pq.write_table(changed, chunk)
        assert "its rows have sha256" in error(read_chunk, chunk)
    pq.write_table(table, chunk)  # the same rows, written by somebody else, are the same chunk
    assert read_chunk(chunk).keys == table["key"].to_pylist()


def test_a_row_count_that_cannot_be(tmp_path):
    """100 MB of equal keys pack into a small file; ours are never packed, so a reader need not believe the count."""
    (tmp_path / "list.txt").write_text("a\n")
    real = pq.read_schema(write_chunks(tmp_path / "list.txt", tmp_path / "out").chunks[0])
    many = 100_000
    table = pa.table([pa.DictionaryArray.from_arrays(np.zeros(many, np.int8), ["x" * 1000]).cast(pa.string()), pa.nulls(many, pa.int32())], schema=real)
    path = tmp_path / "00000-of-00001.parquet"
    pq.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 100_000
    assert "100,000 rows cannot be in" in error(read_chunk, path)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "list.txt").write_text("".join(f"id {number}/{number}.jpg\t{number}\n" for number in range(50)))
    path = write_chunks(folder / "list.txt", folder / "out").chunks[0]
    return path, path.read_bytes(), read_chunk(path)


@settings(max_examples=600, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4), cut=st.none() | st.integers(0, 10**6), tail=st.booleans()
)
def test_damaged_files_are_the_same_rows_or_one_clear_error(original, changes, cut, tail):
    path, data, chunk = original
    damaged = bytearray(data)
    footer = int.from_bytes(data[-8:-4], "little") + 8
    for place, value in changes:  # half of them in the footer, where sizes and counts are
        damaged[-1 - place % footer if tail else place % len(data)] = value
    path.write_bytes(damaged if cut is None else damaged[: cut % len(data)])
    try:
        read = read_chunk(path)
    except DistillError as caught:
        assert path.name in str(caught) and "\n" not in str(caught)
    else:
        assert read.keys == chunk.keys and (read.labels == chunk.labels).all()
        assert (read.number, read.of, read.sha256) == (chunk.number, chunk.of, chunk.sha256)


KEYS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), min_size=1, max_size=10).filter(
    lambda key: not key.startswith(("/", "\ufeff")) and ".." not in key and key.strip()  # a line of blanks is a blank line
)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(keys=st.lists(KEYS, min_size=1, max_size=40, unique=True), labelled=st.booleans(), rows=st.integers(1, 45))
def test_any_list_comes_back(tmp_path_factory, keys, labelled, rows):
    folder = tmp_path_factory.mktemp("any")
    labels = [(7 * place) % 5 for place in range(len(keys))] if labelled else [-1] * len(keys)
    lines = [f"{key}\t{label}" if labelled else key for key, label in zip(keys, labels, strict=True)]
    (folder / "list").write_bytes("\n".join(lines).encode())
    made = write_chunks(folder / "list", folder / "out", rows)
    chunks = [read_chunk(path) for path in list_chunks(made.folder)]
    assert [key for chunk in chunks for key in chunk.keys] == keys
    assert np.concatenate([chunk.labels for chunk in chunks]).tolist() == labels
    assert {len(chunk.keys) for chunk in chunks[:-1]} <= {rows} and 1 <= len(chunks[-1].keys) <= rows
    assert [chunk.sha256 for chunk in chunks] == [rows_sha256(chunk.keys, chunk.labels) for chunk in chunks]
    assert all(isinstance(chunk, Chunk) for chunk in chunks)
