"""Labelling a chunk in little memory: what is kept of its images, and what is read again, changes no byte of the shard."""

import itertools
import shutil
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

from distill.data.shards import FORMATS, open_shards
from distill.data.shards.verify import verify
from distill.data.sources import ShardSource
from distill.data.sources.reader import EpochReader
from distill.images.codec import encode_jpeg
from pipelines import windows
from tests.faulty import contents, draw, job_of, run


@pytest.fixture(params=sorted(FORMATS))
def format(request) -> str:
    return request.param


@pytest.fixture
def least(monkeypatch):
    """So little that no window keeps more than one image, and none is read beside another."""
    for name in ("WINDOW_BYTES", "BLOCK_BYTES"):
        monkeypatch.setattr(f"pipelines.windows.{name}", 700)
    monkeypatch.setattr("pipelines.label.BLOCK_BYTES", 700)
    monkeypatch.setattr("pipelines.windows.FIRST_BLOCK", 1)


@pytest.mark.parametrize("images", ["inline", "path"])
def test_images_that_are_not_kept_are_read_again(tmp_path, format, images, request):
    draw(tmp_path)
    job = job_of(tmp_path, format, images)
    assert run(job) == []
    whole = contents(job.folder)
    assert len(whole["shards/_00000-of-00002.rejects.jsonl"]) == 0 and b'"7.jpg"' in whole["shards/_00001-of-00002.rejects.jsonl"]
    shutil.rmtree(job.folder)
    request.getfixturevalue("least")
    assert run(job) == [] and contents(job.folder) == whole


def test_rows_are_taken_over_in_little_memory(tmp_path, format, monkeypatch, least):
    """From a shard with a row group for each image, whose photos are gone."""
    monkeypatch.setattr("distill.data.shards.rows.GROUP_BYTES", 1)
    draw(tmp_path)
    job = job_of(tmp_path, format)
    assert run(job) == []
    whole = contents(job.folder)
    for number in range(7):
        (tmp_path / "photos" / f"{number}.jpg").unlink()
    for number in range(2):
        (job.shards / f"_0000{number}-of-00002.json").unlink()
    assert run(job) == [] and contents(job.folder) == whole
    found = open_shards(job.folder)
    assert (found.meta.version, found.meta.groups) == (3, (1,) * 7) and not verify(job.folder, deep=True).problems


def test_an_image_that_changes_before_it_is_read_again_ends_the_chunk(tmp_path, monkeypatch, least):
    draw(tmp_path)
    job = job_of(tmp_path, "parquet")
    real, calls = type(job.teacher).__call__, itertools.count()

    def changes(self, images):
        (tmp_path / "photos" / "1.jpg").write_bytes(encode_jpeg(np.full((8, 8, 3), 10 * next(calls), np.uint8)))
        return real(self, images)

    monkeypatch.setattr(type(job.teacher), "__call__", changes)
    (said,) = run(job)
    assert "'1.jpg' changed while it was embedded" in said and not (job.shards / "00000-of-00002.parquet").exists()


@pytest.mark.parametrize("batch", [2, 7])
def test_batches_of_many_groups_hold_few_at_a_time(tmp_path, monkeypatch, format, batch):
    """The same batches as all groups at once would give; at most so many as two pools have are in memory."""
    monkeypatch.setattr("distill.data.shards.rows.GROUP_BYTES", 1)
    draw(tmp_path)
    assert run(job := job_of(tmp_path, format)) == []
    monkeypatch.setattr(ShardSource, "pool", 2)
    source, most = ShardSource(job.folder, batch=batch, seed=3), 0
    real = EpochReader._batch

    def counted(self, picks):
        nonlocal most
        made = real(self, picks)
        most = max(most, len(self.open))
        return made

    with monkeypatch.context() as patch:
        patch.setattr(EpochReader, "make", real)
        expected = list(source.epoch(0))
    monkeypatch.setattr(EpochReader, "_batch", counted)
    found = list(source.epoch(0))
    assert most <= 6 and sum(len(pixels) for pixels, _ in found) == 7
    for (pixels, values), (same, others) in zip(found, expected, strict=True):
        assert np.array_equal(pixels, same) and values.keys() == others.keys()
        assert all(np.array_equal(values[name], others[name]) for name in values)


def test_one_large_image_does_not_slow_the_others_down(tmp_path, monkeypatch):
    """Blocks are cut by the bytes that are there, not by the largest image ever seen: many small ones are read at a time again."""
    monkeypatch.setattr("pipelines.windows.BLOCK_BYTES", 20_000)
    small, keys = encode_jpeg(np.full((8, 8, 3), 90, np.uint8)), [f"{number}.jpg" for number in range(200)]
    for key in keys:
        (tmp_path / key).write_bytes(small + bytes(30_000) * (key == "3.jpg") + bytes(5_000) * (key >= "9"))
    sizes, start, blocks = windows.SizeGuess(2), 0, list[list[int]]()
    with ThreadPoolExecutor(2) as pool:
        while start < len(keys):
            block = windows._read_block(str(tmp_path), keys[start:], SimpleNamespace(find=lambda keys: {}), pool, sizes)
            blocks.append([len(data) for data in block.encoded])
            assert block.encoded == [(tmp_path / key).read_bytes() for key in keys[start : start + len(block.encoded)]]
            start += len(block.encoded)
    largest = max(map(sum, blocks))
    assert largest <= 30_000 + 20_000 + 4 * 6_000 and len(blocks) < 25 and max(map(len, blocks)) > 10
