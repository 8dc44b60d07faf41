"""Every format passes the same tests."""

import dataclasses
import errno
import json
import os
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.dataset
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill import Damaged, DistillError, Unfinished
from distill.data.layout import LAYOUTS, UNDERSCORE, Layout, layout_in
from distill.data.shards import (
    FORMATS,
    GROUP_ROWS,
    Record,
    Rows,
    RowsThere,
    ShardMeta,
    commit_shard,
    find_record,
    open_shards,
    rows_there,
    view_column,
    write_index,
)
from distill.data.shards.rows import quantise, regrouped
from distill.data.shards.verify import verify
from distill.images.augmentation import RECIPES
from distill.images.preprocessing import Preprocessing
from distill.images.spec import ImageSpec
from tests.builders import READING, meta, rows, same


@pytest.fixture(params=sorted(FORMATS))
def format(request) -> str:
    return request.param


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("views", [1, 3])
def test_rows_come_back_as_they_went_in(tmp_path, format, dtype, inline, views):
    given_rows = rows(GROUP_ROWS + 10, dimension=3 * views, dtype="float32" if dtype == "int8" else dtype, inline=inline)
    if dtype == "int8":  # 127 is the largest of each row and view, so that the scale is 1 and nothing is rounded
        parts = given_rows.embeddings.reshape(-1, 3)
        given_rows = dataclasses.replace(given_rows, embeddings=np.where(np.arange(3) == 2, 127, parts).astype("float32").reshape(-1, 3 * views))
    path = tmp_path / "shard"
    about = meta(dtype=dtype, images="inline" if inline else "path", views=views, recipe=RECIPES["face" if views > 1 else "none"])
    done = FORMATS[format].write(path, about, regrouped([given_rows]))
    assert FORMATS[format].read_meta(path) == done and done.rows == GROUP_ROWS + 10
    assert FORMATS[format].group_rows(path) == [GROUP_ROWS, 10]
    first, second = FORMATS[format].read(path)
    assert same(first, given_rows[:GROUP_ROWS]) and same(second, given_rows[GROUP_ROWS:])
    (only,) = FORMATS[format].read(path, [1], ["label"])
    assert only.keys is None and only.embeddings is None and only.labels.tolist() == given_rows.labels[GROUP_ROWS:].tolist()
    (last,) = FORMATS[format].read(path, [1], [view_column(views - 1)])
    assert last.keys is None and np.array_equal(last.embeddings, given_rows.embeddings[GROUP_ROWS:, -3:])


def test_int8_by_hand():
    """The largest number becomes 127; a row of zeros stays; what was read is written the same again."""
    numbers, scale = quantise(np.array([[2.0, -1.0, 0.5], [0, 0, 0]], np.float32))
    assert numbers.tolist() == [[127, -63, 32], [0, 0, 0]] and scale[1] == 0 and abs(scale[0] - 2 / 127) < 2 / 127 * 2**-15
    again, same_scale = quantise(numbers * scale[:, None])
    assert np.array_equal(again, numbers) and np.array_equal(same_scale, scale)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=4, max_size=4), min_size=1, max_size=5))
def test_int8_moves_nothing_by_more_than_half_a_step_and_reads_as_it_is_written(values):
    values = np.array(values, np.float32)
    numbers, scale = quantise(values)
    read = numbers * scale[:, None]
    assert np.isfinite(read).all() and (np.abs(read.astype(float) - values) <= np.maximum(scale[:, None] * 0.5001, 2e-28)).all()
    again, same_scale = quantise(read)
    assert np.array_equal(again, numbers) and np.array_equal(same_scale, scale)


def test_mean_norm_by_hand(tmp_path, format):
    """|(3, 4, 0)| = 5 and |(0, 0, 1)| = 1: the mean is 3, also where they are two views of one picture."""
    part = Rows(["a", "b"], np.array([-1, 0], np.int32), np.array([[3, 4, 0], [0, 0, 1]], "float16"), [b"x", b"y"])
    assert FORMATS[format].write(tmp_path / "s", meta(), [part]).mean_norm == 3.0
    two = Rows(["a"], np.array([-1], np.int32), np.array([[3, 4, 0, 0, 0, 1]], "float16"), [b"x"])
    assert FORMATS[format].write(tmp_path / "s", meta(views=2, recipe=RECIPES["face"]), [two]).mean_norm == 3.0


def test_a_set_of_one_view_is_written_as_version_1_had_it():
    """No key more, so that the bytes, and every older reader, stay as they were."""
    written = json.loads(meta().to_json())
    assert written["version"] == 1 and (written["views"], written["recipe"]) == (1, "none") and "view_seed" not in written
    assert ShardMeta.from_json(meta().to_json(), "a") == meta()
    wide = meta(views=2, recipe=RECIPES["photo"], view_seed=3)
    assert json.loads(wide.to_json())["version"] == 2 and ShardMeta.from_json(wide.to_json(), "a") == wide
    assert json.loads(meta(dtype="int8").to_json())["version"] == 2
    for new in (
        {"image": ImageSpec(2, 2, exif="apply")},
        {"reading": Preprocessing(**READING, feed={})},
        {"reading": Preprocessing(**READING, tags=[])},
        {"reading": Preprocessing(**READING, input="photo")},
    ):
        assert meta(**new).version == meta(views=2, recipe=RECIPES["photo"], **new).version == 3
    with pytest.raises(DistillError, match="a is damaged: its metadata cannot be those of a shard"):
        ShardMeta.from_json(wide.to_json().replace('"version": 2', '"version": 1'), "a")


def test_bytes_do_not_depend_on_how_rows_arrived(tmp_path, format):
    whole = rows(2500)
    for name, cuts in (("a", [2500]), ("b", [1, 999, 1500]), ("c", [128] * 19 + [68])):
        starts = np.cumsum([0, *cuts])
        FORMATS[format].write(tmp_path / name, meta(), regrouped(whole[start : start + cut] for start, cut in zip(starts, cuts, strict=False)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()


def sized(*sizes: int, start: int = 0) -> Rows:
    return dataclasses.replace(rows(len(sizes), start), images=[bytes([number % 251]) * size for number, size in enumerate(sizes)])


def test_groups_are_cut_by_bytes_too(tmp_path, monkeypatch, format):
    """100 bytes a group at most: 60 + 40 go together, one of 101 stands alone, empty ones take no room, and 1,024 rows are enough anyway."""
    monkeypatch.setattr("distill.data.shards.rows.GROUP_BYTES", 100)
    given_rows = sized(60, 40, 1, 101, 100, 0, 0, 30, *[0] * 1100)
    sizes = [2, 1, 1, 3, 1024, 77]
    for name, cuts in (("a", [1108]), ("b", [1, 3, 1104]), ("c", [8, 1000, 100])):
        starts = np.cumsum([0, *cuts])
        parts = [given_rows[start : start + cut] for start, cut in zip(starts, cuts, strict=False)]
        done = FORMATS[format].write(tmp_path / name, meta(), regrouped(parts))
        assert (list(done.groups), done.version, done.rows) == (sizes, 3, 1108)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() == (tmp_path / "c").read_bytes()
    assert FORMATS[format].read_meta(tmp_path / "a") == done and FORMATS[format].group_rows(tmp_path / "a") == sizes
    found = list(FORMATS[format].read(tmp_path / "a"))
    assert [len(group) for group in found] == sizes and [key for group in found for key in group.keys] == given_rows.keys
    assert [image for group in found for image in group.images] == given_rows.images
    (fourth,) = FORMATS[format].read(tmp_path / "a", [3])
    assert same(fourth, given_rows[4:7])
    small = FORMATS[format].write(tmp_path / "small", meta(), regrouped([sized(50, 50)]))
    assert (small.groups, small.version) == ((), 1) and "groups" not in small.as_dict()


def test_a_set_with_groups_cut_by_bytes_is_version_3(tmp_path, monkeypatch, format):
    """Its first shard has small images, its second large ones: the index says the groups of both."""
    monkeypatch.setattr("distill.data.shards.rows.GROUP_BYTES", 100)
    parts = [sized(*[0] * 1030), sized(90, 90, 10, start=1030)]
    records = [commit_shard(tmp_path, format, meta(chunk=number, of=2), [part], []) for number, part in enumerate(parts)]
    write_index(tmp_path, format, records, ["a", "b", "c", "d"])
    found = open_shards(tmp_path)
    assert (found.meta.version, found.meta.groups) == (3, (1024, 6, 1, 2)) and [found.group_rows(number) for number in range(2)] == [[1024, 6], [1, 2]]
    assert [FORMATS[format].read_meta(shard).version for shard in found.shards] == [1, 3]
    assert found.meta.unwritten() == dataclasses.replace(meta(), chunk=-1, of=2, chunk_sha256="")
    assert not verify(tmp_path, deep=True).problems
    index = tmp_path / "_index.json"
    whole = index.read_text()
    for groups in ([1024, 5, 2, 2], [1024, 6, 1, 1, 1], [1024, 6, 2, 1], [1025, 5, 1, 2]):
        value = json.loads(whole)
        value["meta"]["groups"] = groups
        index.write_text(json.dumps(value))
        try:
            assert verify(tmp_path).problems
        except DistillError as error:
            assert "is not an index of shards" in str(error)


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
        embeddings=np.array(data.draw(st.lists(st.lists(value, min_size=width, max_size=width), min_size=count, max_size=count)), "float16").reshape(
            count, width
        ),
        images=data.draw(st.lists(st.binary(max_size=50), min_size=count, max_size=count)),
    )
    FORMATS[format].write(tmp_path / "s", meta(dimension=width), regrouped([part]))
    back = list(FORMATS[format].read(tmp_path / "s"))
    assert (same(back[0], part) and len(back) == 1) if count else back == []


def make_set(folder: Path, format: str, of: int = 3, layout: Layout = UNDERSCORE) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    records = []
    for number in range(of):
        rejects = [{"key": f"bad{number}", "reason": "the file is empty", "sha256": None}] if number == 1 else []
        about = meta(chunk=number, of=of, chunk_sha256=f"{number}" * 64)
        records.append(commit_shard(folder, format, about, [rows(40, number * 40)], rejects, layout=layout))
    write_index(folder, format, records, ["a", "b", "c", "d"], layout=layout)


@pytest.fixture(params=LAYOUTS.values(), ids=LAYOUTS)
def layout(request) -> Layout:
    return request.param


def test_a_set_is_committed_opened_and_verified(tmp_path, format, layout):
    make_set(tmp_path / "out" / "shards", format, layout=layout)
    found = open_shards(tmp_path / "out")
    assert (found.rows, found.rejects, found.dimension, found.classes, found.labelled) == (120, 1, 3, ("a", "b", "c", "d"), False)
    assert [len(group) for number in range(3) for group in found.read(number)] == [40, 40, 40]
    prefix = "_" if layout is UNDERSCORE else ""
    beside = {"index.json", "classes.txt", *(f"{number:05d}-of-00003.{end}" for number in range(3) for end in ("json", "rejects.jsonl"))}
    shards = {f"{number:05d}-of-00003.{FORMATS[format].suffix}" for number in range(3)}
    assert {path.name for path in found.folder.iterdir()} == {f"{prefix}{name}" for name in beside} | shards
    assert verify(tmp_path / "out", deep=True).problems == () and (found.layout, layout_in(found.folder)) == (layout, layout)
    version = json.loads((found.folder / layout.index).read_text())["version"]
    assert (version, found.meta.version) == (3 if layout is UNDERSCORE else 1, 1)


def test_shards_have_the_same_bytes_in_both_layouts(tmp_path, format):
    found = []
    for layout in LAYOUTS.values():
        make_set(tmp_path / layout.name, format, layout=layout)
        found.append({path.name.lstrip("_"): path.read_bytes() for path in (tmp_path / layout.name).iterdir()})
    assert {name for name in found[0] if found[0][name] == found[1][name]} == {name for name in found[0] if not name.endswith("json")}
    sets = [open_shards(tmp_path / name) for name in LAYOUTS]
    assert sets[0].identity == sets[1].identity


def test_two_sets_in_one_folder_are_refused(tmp_path, format):
    for layout in LAYOUTS.values():
        make_set(tmp_path, format, layout=layout)
    with pytest.raises(DistillError, match="holds _index.json and index.json, so the files of two sets are mixed there"):
        open_shards(tmp_path)


def test_a_record_or_index_under_the_name_of_another_layout_is_refused(tmp_path, format, layout):
    make_set(tmp_path, format, of=1, layout=layout)
    other = next(one for one in LAYOUTS.values() if one is not layout)
    for mine, theirs in ((layout.record(0, 1), other.record(0, 1)), (layout.index, other.index)):
        (tmp_path / mine).rename(tmp_path / theirs)
    with pytest.raises(Damaged, match="is no record of a chunk.*the ledger"):
        Record.load(tmp_path / other.record(0, 1))
    with pytest.raises(Damaged, match=f"{other.index} is not an index"):
        open_shards(tmp_path)


def test_the_layout_of_a_folder_without_an_index(tmp_path, layout):
    assert layout_in(tmp_path / "none") is UNDERSCORE and layout_in(tmp_path) is UNDERSCORE
    for name in (layout.ledger(0, 2), layout.record(1, 2), "00000-of-00002.parquet", "index.json.bak"):
        (tmp_path / name).touch()
        assert layout_in(tmp_path) is layout


def test_a_set_with_a_missing_chunk_is_not_committed(tmp_path, format):
    record = commit_shard(tmp_path, format, meta(chunk=1, of=3), [rows(4)], [])
    with pytest.raises(Unfinished, match=r"chunks \[0, 2\] of 3"):
        write_index(tmp_path, format, [record], [])
    assert not (tmp_path / "_index.json").exists()


def test_find_record_believes_only_a_whole_shard(tmp_path, format, layout):
    record = commit_shard(tmp_path, format, meta(), [rows(100)], [], layout=layout)
    find = partial(find_record, tmp_path, format, layout=layout)
    assert find(meta()) == record and [find_record(tmp_path, format, meta(), other) for other in LAYOUTS.values() if other is not layout] == [None]
    assert find(meta(chunk_sha256="d" * 64)) is None and find(meta(teacher="u" * 64)) is None
    ledger = tmp_path / record.ledger
    ledger.unlink()
    assert find(meta()) is None
    ledger.write_text("")
    shard = tmp_path / record.shard
    shard.write_bytes(shard.read_bytes()[:-1])
    assert find(meta()) is None


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
    index = tmp_path / "_index.json"
    value = json.loads(index.read_text())
    for change, message in (
        ({"version": 9}, "format version 9"),
        ({"version": 1}, "version 1, but what it holds is version 3"),
        ({"format": "csv"}, "csv"),
        ({"records": [{}]}, "record"),
        ({"rows": "x"}, "index"),
    ):
        index.write_text(json.dumps({**value, **change}))
        with pytest.raises(DistillError, match=message):
            open_shards(tmp_path)
    with pytest.raises(DistillError, match="elsewhere: nothing is there"):
        open_shards(tmp_path / "elsewhere")


@pytest.mark.parametrize("views, dtype", [(1, "float16"), (1, "float32"), (3, "float16"), (2, "int8")])
def test_a_folder_of_shards_opens_as_one_table(tmp_path, views, dtype):
    """In pandas, pyarrow and DuckDB by its name; in Polars by a glob. Its shards have other metadata each, a missing label, and one has other row groups."""
    duckdb, pandas, polars = (pytest.importorskip(name) for name in ("duckdb", "pandas", "polars"))
    folder, width = tmp_path / "out" / "shards", 3 * views
    folder.mkdir(parents=True)
    about = meta(of=2, views=views, recipe=RECIPES["face" if views > 1 else "none"], dtype=dtype)
    given = [rows(40, 40 * number, width, "float32" if dtype == "int8" else dtype) for number in range(2)]
    records = [
        commit_shard(folder, "parquet", dataclasses.replace(about, chunk=number, chunk_sha256=f"{number}" * 64), [part], rejected("x"))
        for number, part in enumerate(given)
    ]
    write_index(folder, "parquet", records, ["a", "b", "c", "d"])
    keys = [key for part in given for key in part.keys]
    labels = [int(label) if label >= 0 else None for part in given for label in part.labels]
    expected = given[0].embeddings[7, :3].tolist()
    frame = pandas.read_parquet(folder)
    assert frame.key.tolist() == keys and frame.label.isna().sum() == labels.count(None) > 0
    tables = [
        pyarrow.dataset.dataset(folder).to_table(),
        pyarrow.parquet.read_table(folder),
        polars.scan_parquet(f"{folder}/*.parquet").collect().to_arrow(),
        duckdb.sql(f"from '{folder}/*.parquet'").to_arrow_table(),
        duckdb.sql(f"from read_parquet('{folder}')").to_arrow_table(),
    ]
    for table in tables:
        assert table.column_names == list(frame.columns) and table["key"].to_pylist() == keys and table["label"].to_pylist() == labels
        found = np.array(table["embedding"][7].as_py(), float) * (table["scale"][7].as_py() if dtype == "int8" else 1)
        assert np.abs(found - expected).max() <= (7 / 127 / 2 * 1.001 if dtype == "int8" else 0)
    assert duckdb.sql(f"select count(*), sum(label) from '{folder}/*.parquet' where label is not null").fetchall() == [
        (len(labels) - labels.count(None), sum(label for label in labels if label is not None))
    ]


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_views_are_columns_that_open_without_us(tmp_path, dtype):
    """A column a view: whoever reads `embedding` gets the plain picture's, as before; DuckDB compares two views in one expression."""
    duckdb, pandas, polars = (pytest.importorskip(name) for name in ("duckdb", "pandas", "polars"))
    wide = rows(40, dimension=6, dtype="float32" if dtype == "int8" else dtype)
    folder = tmp_path / "shards"
    folder.mkdir()
    record = commit_shard(folder, "parquet", meta(views=2, recipe=RECIPES["face"], dtype=dtype), [wide], [])
    path = str(folder / record.shard)
    frame = pandas.read_parquet(path)
    expected = [[7.0, 1.0, 1.0], [0.0, 0.0, 0.0]]
    if dtype == "int8":
        assert list(frame.columns) == ["key", "label", "image", "embedding", "scale", "embedding_1", "scale_1"]
        found = [frame[name][7] * frame[scale][7] for name, scale in (("embedding", "scale"), ("embedding_1", "scale_1"))]
        assert np.abs(np.array(found) - expected).max() < 7 / 127 / 2 * 1.001
    else:
        assert list(frame.columns) == ["key", "label", "image", "embedding", "embedding_1"]
        assert [np.asarray(frame[name][7]).tolist() for name in ("embedding", "embedding_1")] == expected
        assert polars.read_parquet(path)["embedding_1"][7].to_list() == expected[1]
        assert duckdb.sql(f"select array_distance(embedding::float[3], embedding_1::float[3]) from '{path}' limit 1 offset 7").fetchall()[0][
            0
        ] == pytest.approx(51**0.5)


def one_view(keys) -> Rows:
    return Rows(list(keys), np.zeros(len(keys), np.int32), np.ones((len(keys), 3), np.float16), [key.encode() for key in keys])


def rejected(key) -> list[dict]:
    return [{"key": key, "reason": "truncated", "sha256": None}]


@pytest.mark.parametrize("named", [0, 1, 2])
@pytest.mark.parametrize("same_size", [False, True])
def test_a_shard_counts_beside_its_own_record_alone(tmp_path, monkeypatch, format, same_size, named):
    """A commit that fails when so many of its three files have their names: the ledger is as long as the old one, and the shard too, perhaps."""
    first = commit_shard(tmp_path, format, meta(), [one_view("ac")], rejected("b"))
    shard = tmp_path / first.shard
    old, real, left = shard.read_bytes(), os.replace, named

    def replace(source, target):
        nonlocal left
        left -= 1
        if left < 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(target))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OSError, match="Input/output error"):
        commit_shard(tmp_path, format, meta(), [one_view("bc" if same_size else "b")], rejected("a"))
    assert find_record(tmp_path, format, meta()) is None
    assert (shard.read_bytes() == old) == (named == 0) and not list(tmp_path.glob(".*"))
    monkeypatch.setattr(os, "replace", real)
    commit_shard(tmp_path, format, meta(), [one_view("bc")], rejected("a"))
    assert find_record(tmp_path, format, meta()).rows == 2


def test_a_shard_is_not_replaced_by_one_of_fewer_rows(tmp_path, format):
    record = commit_shard(tmp_path, format, meta(), [one_view("abc")], [])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(Unfinished, match=r"held 3 rows; made again it would hold 2, because 1 image is rejected now \('b': truncated\).*--only 0"):
        commit_shard(tmp_path, format, meta(), [one_view("ac")], rejected("b"), least=rows_there(tmp_path, format, meta(), 9))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / record.shard).write_bytes(before[record.shard][:100])
    assert rows_there(tmp_path, format, meta(), 9) == RowsThere(3)  # by its record
    (tmp_path / UNDERSCORE.record(record.number, record.of)).unlink()
    assert rows_there(tmp_path, format, meta(), 9) == RowsThere(9)  # by its ledger: none was rejected
    (tmp_path / record.ledger).write_text("cut")
    assert rows_there(tmp_path, format, meta(), 8) == RowsThere(8, known=False)
    with pytest.raises(
        Unfinished, match=r"is damaged and may have held up to 8 rows \(its record and its reject log are gone too\); made again it would hold 2.*--only 0"
    ):
        commit_shard(tmp_path, format, meta(), [one_view("ac")], rejected("b"), least=rows_there(tmp_path, format, meta(), 8))
    (tmp_path / record.shard).unlink()
    assert rows_there(tmp_path, format, meta(), 9) == RowsThere()


def test_what_another_program_or_version_wrote_is_not_taken_for_damage(tmp_path, format):
    """So it is not made again, and nothing of it is replaced."""
    record = commit_shard(tmp_path, format, meta(), [one_view("abc")], [])
    shard = tmp_path / record.shard
    data = shard.read_bytes()
    shard.write_bytes(data.replace(b'"version": 1', b'"version": 9'))
    with pytest.raises(DistillError, match="has format version 9") as caught:
        find_record(tmp_path, format, meta())
    assert not isinstance(caught.value, Damaged)
