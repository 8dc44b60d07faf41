"""Every format passes the same tests."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill import DistillError, Unfinished
from distill.shards import FORMATS, GROUP_ROWS, Rows, ShardMeta, commit_shard, find_record, open_shards, write_index
from distill.shards.rows import regrouped
from distill.shards.verify import verify

READING = {"signature": "serving_default", "output": "output", "scale": 1.0, "offset": 0.0, "color": "rgb"}


def meta(**changes) -> ShardMeta:
    base = ShardMeta(
        chunk=0, of=1, chunk_sha256="c" * 64, dimension=3, dtype="float16", teacher="t" * 64, reading=READING,
        image={"height": 2, "width": 2, "resize": "none"}, software={"numpy": "2"},
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def rows(count: int, start: int = 0, dimension: int = 3, dtype="float16", inline: bool = True) -> Rows:
    numbers = range(start, start + count)
    blobs = [bytes([number % 251]) * (number % 7 + 1) for number in numbers]
    return Rows(
        keys=[f"id{number % 5}/ä {number}.jpg" for number in numbers],
        labels=np.array([number % 5 - 1 for number in numbers], np.int32),
        embeddings=np.array([[number % 10, number % 3, 1] + [0] * (dimension - 3) for number in numbers], dtype).reshape(count, dimension),
        images=blobs if inline else None,
        image_sha256=None if inline else [bytes([number % 256]) * 32 for number in numbers],
    )


def same(left: Rows, right: Rows) -> bool:
    return (
        left.keys == right.keys
        and np.array_equal(left.labels, right.labels)
        and left.embeddings.dtype == right.embeddings.dtype
        and np.array_equal(left.embeddings, right.embeddings)
        and left.images == right.images
        and left.image_sha256 == right.image_sha256
    )


@pytest.fixture(params=sorted(FORMATS))
def format(request) -> str:
    return request.param


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("inline", [True, False])
def test_rows_come_back_as_they_went_in(tmp_path, format, dtype, inline):
    given_rows = rows(GROUP_ROWS + 10, dtype=dtype, inline=inline)
    path = tmp_path / "shard"
    done = FORMATS[format].write(path, meta(dtype=dtype, images="inline" if inline else "path"), regrouped([given_rows]))
    assert FORMATS[format].read_meta(path) == done and done.rows == GROUP_ROWS + 10
    assert FORMATS[format].group_rows(path) == [GROUP_ROWS, 10]
    first, second = FORMATS[format].read(path)
    assert same(first, given_rows[:GROUP_ROWS]) and same(second, given_rows[GROUP_ROWS:])
    (only,) = FORMATS[format].read(path, [1], ["label"])
    assert only.keys is None and only.embeddings is None and only.labels.tolist() == given_rows.labels[GROUP_ROWS:].tolist()


def test_mean_norm_by_hand(tmp_path, format):
    """|(3, 4, 0)| = 5 and |(0, 0, 1)| = 1: the mean is 3."""
    part = Rows(["a", "b"], np.array([-1, 0], np.int32), np.array([[3, 4, 0], [0, 0, 1]], "float16"), [b"x", b"y"])
    assert FORMATS[format].write(tmp_path / "s", meta(), [part]).mean_norm == 3.0


def test_bytes_do_not_depend_on_how_rows_arrived(tmp_path, format):
    whole = rows(2500)
    for name, cuts in (("a", [2500]), ("b", [1, 999, 1500]), ("c", [128] * 19 + [68])):
        starts = np.cumsum([0, *cuts])
        FORMATS[format].write(
            tmp_path / name, meta(), regrouped(whole[start : start + cut] for start, cut in zip(starts, cuts, strict=False))
        )
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


KEY = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_rows_survive(tmp_path, format, data):
    count = data.draw(st.integers(0, 20))
    width = data.draw(st.integers(1, 9))
    value = st.floats(-60000, 60000, width=16)
    part = Rows(
        keys=data.draw(st.lists(KEY, min_size=count, max_size=count)),
        labels=np.array(data.draw(st.lists(st.integers(-1, 2**31 - 1), min_size=count, max_size=count)), np.int32),
        embeddings=np.array(
            data.draw(st.lists(st.lists(value, min_size=width, max_size=width), min_size=count, max_size=count)), "float16"
        ).reshape(count, width),
        images=data.draw(st.lists(st.binary(max_size=50), min_size=count, max_size=count)),
    )
    FORMATS[format].write(tmp_path / "s", meta(dimension=width), regrouped([part]))
    back = list(FORMATS[format].read(tmp_path / "s"))
    assert (same(back[0], part) and len(back) == 1) if count else back == []


def make_set(folder: Path, format: str, of: int = 3) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for number in range(of):
        rejects = [{"key": f"bad{number}", "reason": "the file is empty", "sha256": None}] if number == 1 else []
        records.append(
            commit_shard(folder, format, meta(chunk=number, of=of, chunk_sha256=f"{number}" * 64), [rows(40, number * 40)], rejects)
        )
    write_index(folder, format, records, ["a", "b", "c", "d"])


def test_a_set_is_committed_opened_and_verified(tmp_path, format):
    make_set(tmp_path / "out" / "shards", format)
    found = open_shards(tmp_path / "out")
    assert (found.rows, found.rejects, found.dimension, found.classes, found.labelled) == (120, 1, 3, ("a", "b", "c", "d"), False)
    assert [len(group) for number in range(3) for group in found.read(number)] == [40, 40, 40]
    assert {path.name.partition(".")[2] for path in found.folder.glob("00001-of-00003.*")} == {
        "json",
        FORMATS[format].suffix,
        "rejects.jsonl",
    }
    assert verify(tmp_path / "out", deep=True).problems == ()


def test_a_set_with_a_missing_chunk_is_not_committed(tmp_path, format):
    record = commit_shard(tmp_path, format, meta(chunk=1, of=3), [rows(4)], [])
    with pytest.raises(Unfinished, match=r"chunks \[0, 2\] of 3"):
        write_index(tmp_path, format, [record], [])
    assert not (tmp_path / "index.json").exists()


def test_find_record_believes_only_a_whole_shard(tmp_path, format):
    record = commit_shard(tmp_path, format, meta(), [rows(100)], [])
    assert find_record(tmp_path, format, meta()) == record
    assert find_record(tmp_path, format, meta(chunk_sha256="d" * 64)) is None and find_record(tmp_path, format, meta(teacher="u" * 64)) is None
    ledger = tmp_path / record.ledger
    ledger.unlink()
    assert find_record(tmp_path, format, meta()) is None
    ledger.write_text("")
    shard = tmp_path / record.shard
    shard.write_bytes(shard.read_bytes()[:-1])
    assert find_record(tmp_path, format, meta()) is None


def test_deep_verification_finds_flipped_bytes(tmp_path, format):
    make_set(tmp_path, format, of=1)
    shard = open_shards(tmp_path).shards[0]
    good, rng = shard.read_bytes(), np.random.default_rng(0)
    for place in rng.integers(0, len(good), 60).tolist():
        bad = bytearray(good)
        bad[place] ^= 1 << int(rng.integers(8))
        shard.write_bytes(bad)
        assert verify(tmp_path, deep=True).problems, f"byte {place} of {len(good)}"
    shard.write_bytes(good)
    assert not verify(tmp_path, deep=True).problems


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_give_one_message(tmp_path, format, data):
    shards = FORMATS[format]
    source = tmp_path / "good"
    if not source.exists():
        shards.write(source, meta(), [rows(30)])
    damaged = bytearray(source.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged"
    path.write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        found = [len(group) for group in shards.read(path)]
    except DistillError as error:
        assert str(path) in str(error) and "\n" not in str(error).strip()
    else:
        assert found in ([30], [])


def test_index_of_another_version_or_shape_is_refused(tmp_path, format):
    make_set(tmp_path, format, of=1)
    index = tmp_path / "index.json"
    value = json.loads(index.read_text())
    for change, message in (
        ({"version": 9}, "format version 9"),
        ({"format": "csv"}, "csv"),
        ({"records": [{}]}, "record"),
        ({"rows": "x"}, "index"),
    ):
        index.write_text(json.dumps({**value, **change}))
        with pytest.raises(DistillError, match=message):
            open_shards(tmp_path)
    with pytest.raises(DistillError, match="no index.json"):
        open_shards(tmp_path / "elsewhere")


def test_parquet_opens_without_us(tmp_path):
    duckdb, pandas, polars = (pytest.importorskip(name) for name in ("duckdb", "pandas", "polars"))
    make_set(tmp_path, "parquet", of=1)
    path = str(open_shards(tmp_path).shards[0])
    frame = pandas.read_parquet(path)
    assert list(frame.columns) == ["key", "label", "image", "embedding"] and np.asarray(frame.embedding[7]).tolist() == [7.0, 1.0, 1.0]
    assert polars.read_parquet(path)["embedding"][7].to_list() == [7.0, 1.0, 1.0]
    assert duckdb.sql(f"select count(*), sum(label) from '{path}' where label is not null").fetchall() == [(32, 48)]
