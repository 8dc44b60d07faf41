"""What must stay as it was when the house is rebuilt: bytes on disk, batches of an equal seed, run files, and runs that go on (tests/golden/pin.py)."""

import csv
import json
import os
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from distill.data.shards import Record, ShardMeta, open_shards, write_index
from distill.storage.json_files import json_text, read_json
from tests.conftest import inside
from tests.golden import pin

PINNED = json.loads(pin.PINNED.read_text(encoding="utf-8"))
SETS = sorted(folder for version in pin.HERE.glob("v*") for folder in version.glob("*-*"))


def test_metadata_are_written_and_read_as_they_were():
    metas = list(pin.metas())
    assert {meta.version for meta in metas} == {1, 2, 3}
    assert pin.digests(meta.to_json().encode() for meta in metas) == PINNED["metadata"]
    assert all(ShardMeta.from_json(meta.to_json(), "x") == meta for meta in metas[::10])


def test_formats_are_called_what_they_were_called():
    """Their names are the first thing in each file: a set of an earlier version is known by them."""
    assert PINNED["formats"] == {"chunk": pin.chunks.FORMAT, "listing": pin.listing.FORMAT, "model.json": pin.model_json.FORMAT}


def test_records_are_written_as_they_were():
    assert pin.digests(json_text(asdict(record)) for record in pin.records()) == PINNED["records"]


def test_reject_logs_are_written_as_they_were(tmp_path):
    assert pin.hashlib.sha256(pin.reject_log(tmp_path / "log")).hexdigest() == PINNED["reject log"]


@pytest.mark.parametrize("folder", SETS, ids=lambda folder: f"{folder.parent.name}/{folder.name}")
def test_an_index_is_written_as_it_was(folder, tmp_path):
    """The index of each golden set, made anew from its shards and records, in its own layout."""
    there = open_shards(folder)
    shutil.copytree(folder, tmp_path / "set")
    (tmp_path / "set" / there.layout.index).unlink()
    records = [Record.load(tmp_path / "set" / there.layout.record(number, len(there.records))) for number in range(len(there.records))]
    write_index(tmp_path / "set", there.format, records, there.classes, None, there.layout)
    old, new = (root / there.layout.index for root in (folder, tmp_path / "set"))
    if "golden" in read_json(old):
        assert new.read_bytes() == old.read_bytes()
    assert open_shards(tmp_path / "set").records == there.records
    assert [(path.name, path.read_bytes()) for path in sorted(folder.glob("*classes.txt"))] == [
        (path.name, path.read_bytes()) for path in sorted((tmp_path / "set").glob("*classes.txt"))
    ]


@pytest.fixture(scope="module")
def batches(tmp_path_factory):
    return [(name, pin.batches(source)) for name, source in pin.sources(tmp_path_factory.mktemp("sources"))]


def test_equal_seeds_give_the_batches_that_they_gave(batches):
    """Three epochs of every source, part and mode of views, both formats, and an epoch that is entered in its middle."""
    assert dict(batches) == PINNED["batches"]
    assert {name for name, digest in batches if digest != PINNED["batches"][name]} == set()


def test_run_files_mean_what_they_meant():
    assert pin.run_texts() == PINNED["runs"]


def test_a_run_of_the_version_before_goes_on(tmp_path, monkeypatch):
    """It was stopped after the first epoch of its second stage; what is left gives the figures that it gave without the stop."""
    shutil.copytree(pin.RUN, tmp_path / "run")
    (tmp_path / "set").symlink_to(Path(os.path.abspath(pin.HERE)) / "v3-underscore" / "parquet-inline")
    monkeypatch.chdir(tmp_path)
    done = inside("train", "run/run.toml", "--out", "run")
    assert done.returncode == 0 and "going on after stage 2, epoch 1" in done.stderr, done.stderr
    rows, whole = (list(csv.DictReader(Path(path).read_text().splitlines())) for path in ("run/history.csv", "run/whole.csv"))
    assert [(row["stage"], row["epoch"]) for row in rows] == [("1", "1"), ("1", "2"), ("2", "1"), ("2", "2"), ("2", "3")]
    for row, expected in zip(rows, whole, strict=True):
        for name in ("learning_rate", "loss", "agreement", "cosine"):
            assert float(row[name]) == pytest.approx(float(expected[name]), rel=1e-4)
