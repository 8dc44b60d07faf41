"""Rows of a set of shards: each once an epoch with its own image, embedding, label and view, in the memory of a few groups."""

import gc
import json
import shutil
import time
import weakref

import numpy as np
import pytest

from distill import DistillError
from distill.config.data import Holdout
from distill.config.stage import Balanced
from distill.data.shards import FORMATS, GROUP_ROWS, commit_shard, open_shards, write_index
from distill.data.sources import POOL_GROUPS, ShardSource
from distill.data.sources.reader import EpochReader
from distill.images.augmentation import RECIPES
from distill.images.codec import decode, decode_batch, encode_jpeg
from distill.images.spec import ImageSpec
from distill.images.views import replay, view
from tests.builders import IDENTITIES, LIGHT, SIZE, make_set, meta, picture, shard_rows


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_every_row_once_with_its_own_image_embedding_and_label(tmp_path, format):
    sizes = (GROUP_ROWS + 100, 37, 1)
    source = ShardSource(make_set(tmp_path / "s", sizes, format), batch=64, seed=1)
    seen = []
    for images, fields in source.epoch(0):
        numbers = fields["embedding"][:, 0].astype(int)
        assert (fields["embedding"][:, 1] == -numbers).all() and (fields["label"] == numbers % IDENTITIES).all()
        expected = np.stack([picture(number)[0, 0] for number in numbers])
        assert np.abs(images[:, 4, 4].astype(int) - expected).max() <= 3
        seen += numbers.tolist()
    assert sorted(seen) == list(range(sum(sizes))) and seen != sorted(seen)


def test_images_by_path_are_read_and_checked(tmp_path):
    root = tmp_path / "root"
    make_set(tmp_path / "s", (20,), inline=False)
    for number in range(20):
        path = root / f"p{number % IDENTITIES}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(picture(number)))
    with pytest.raises(DistillError, match="root"):
        ShardSource(tmp_path / "s", batch=8, seed=0)
    source = ShardSource(tmp_path / "s", batch=8, seed=0, root=str(root))
    assert sum(len(images) for images, _ in source.epoch(0)) == 20
    path.write_bytes(encode_jpeg(picture(3)))
    with pytest.raises(DistillError, match="not the file that the teacher saw"):
        list(source.epoch(0))
    path.unlink()
    with pytest.raises(DistillError, match="19.jpg"):
        list(source.epoch(0))


@pytest.mark.parametrize("views", [1, 2])
def test_an_image_that_cannot_be_decoded_now_is_named_by_its_shard_and_row(tmp_path, views):
    """Row 1,030, counted from 0, is the seventh of the second group. One of several views is decoded in another way than the only one."""
    rows, folder = shard_rows(0, GROUP_ROWS + 10, views=views), tmp_path / "s"
    rows.images[GROUP_ROWS + 6] = b"no image"
    about = meta(image=ImageSpec(SIZE, SIZE), views=views, recipe=LIGHT if views > 1 else RECIPES["none"])
    folder.mkdir()
    write_index(folder, "parquet", [commit_shard(folder, "parquet", about, [rows], [])], [f"p{number}" for number in range(IDENTITIES)])
    with pytest.raises(DistillError, match="00000-of-00001.parquet, row 1,030: an image that the teacher could read cannot be decoded now: text, not an image"):
        list(ShardSource(folder, batch=64, seed=0).epoch(0))


def test_rows_without_labels_give_embeddings_only(tmp_path):
    source = ShardSource(make_set(tmp_path / "s", (9,), labelled=False), batch=4, seed=0)
    assert source.fields == ("embedding",) and source.classes == 0
    with pytest.raises(DistillError, match='by = "key"'):
        ShardSource(tmp_path / "s", batch=4, seed=0, part="train", holdout=Holdout(by="identity", fraction=0.5))


def test_memory_holds_a_few_groups_only(tmp_path, monkeypatch):
    """Groups are let go of when their last row is used: never more than the pool and what is left of the one before."""
    source = ShardSource(make_set(tmp_path / "s", (GROUP_ROWS * 3,) * 8), batch=256, seed=0)
    loaded, alive, read = [], [], EpochReader._read

    def watched(self, group):
        rows = read(self, group)
        loaded.append(weakref.ref(rows))
        return rows

    monkeypatch.setattr(EpochReader, "_read", watched)
    for _ in source.epoch(0):
        alive.append(sum(rows() is not None for rows in loaded))
    assert len(loaded) == 24 and max(alive) <= 2 * POOL_GROUPS


def test_batches_that_were_used_are_freed_at_once(tmp_path):
    """Not when garbage is collected: of 64 batches of 112x112 it would hold 300 MB."""
    source, given = ShardSource(make_set(tmp_path / "s", (400,)), batch=20, seed=0), []
    gc.disable()
    try:
        for images, _ in source.epoch(0):
            given.append(weakref.ref(images))
            del images
            assert sum(one() is not None for one in given) <= 2
    finally:
        gc.enable()


def test_groups_whose_images_are_still_to_be_decoded_count_as_open(tmp_path, monkeypatch):
    """Eight groups of 40 rows, two to a pool: of four pools that could be read ahead, two are in memory at most."""
    monkeypatch.setattr(ShardSource, "pool", 2)
    monkeypatch.setattr("distill.data.sources.reader.start_decoding", lambda encoded, spec, pool, tasks: lambda: decode_batch(encoded, spec))  # when waited for
    source, gather, most = ShardSource(make_set(tmp_path / "s", (40,) * 8), batch=40, seed=0), EpochReader._gather, 0

    def watched(self, picks):
        nonlocal most
        found = gather(self, picks)
        most = max(most, len(set(self.open).union(*(groups for groups, _ in list(self._decoding.values())))))
        return found

    monkeypatch.setattr(EpochReader, "_gather", watched)
    numbers = list[int]()
    for _, fields in source.epoch(0):
        numbers += fields["embedding"][:, 0].astype(int).tolist()
        time.sleep(0.05)  # a step of training, while which batches are read ahead
    assert sorted(numbers) == list(range(320)) and most <= 4


def seen(source, epoch):
    """(row, view) of what an epoch gives, after each picture was held against the view that its embedding is of."""
    found = []
    for images, fields in source.epoch(epoch):
        numbers, views = fields["embedding"][:, 0].astype(int).tolist(), (fields["embedding"][:, 2].astype(int) - 1).tolist()
        for image, number, each in zip(images, numbers, views, strict=True):
            plain = decode(encode_jpeg(picture(number)))
            assert np.array_equal(image, view(plain, LIGHT, 5, f"p{number % IDENTITIES}/{number}.jpg", each))
        found += zip(numbers, views, strict=True)
    return found


@pytest.mark.parametrize("format", sorted(FORMATS))
@pytest.mark.parametrize("inline", [True, False])
def test_each_row_shows_another_view_in_each_epoch_and_its_embedding_is_of_that_view(tmp_path, format, inline):
    sizes, root = (GROUP_ROWS + 30, 40), tmp_path / "root"
    make_set(tmp_path / "s", sizes, format, inline=inline, views=3)
    for number in range(0 if inline else sum(sizes)):
        path = root / f"p{number % IDENTITIES}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(picture(number)))
    source = ShardSource(tmp_path / "s", batch=64, seed=1, root=None if inline else str(root))
    epochs = [dict(seen(source, epoch)) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(sum(sizes))) for epoch in epochs)
    assert all({epoch[row] for epoch in epochs} == {0, 1, 2} for row in range(sum(sizes)))
    assert len({tuple(sorted(epoch.items())) for epoch in epochs}) == 3 and len(set(epochs[0].values())) > 1


def test_all_views_of_each_row_in_one_epoch(viewed):
    source = ShardSource(viewed, batch=64, seed=1, views="all")
    assert source.rows == 450 and source.steps == 8
    assert sorted(seen(source, 0)) == [(row, each) for row in range(150) for each in range(3)]


def test_held_out_rows_are_judged_plain(viewed):
    source = ShardSource(viewed, batch=64, seed=1, part="held_out", holdout=Holdout(by="key", fraction=0.5))
    assert {each for _, each in seen(source, 0)} == {0}


def test_augmented_pictures_keep_the_plain_pictures_embedding(shards):
    source = ShardSource(shards, batch=150, seed=3, augment=LIGHT)
    plain = ShardSource(shards, batch=150, seed=3)
    pictures = []
    for epoch in (0, 1):
        ((images, fields),), ((before, same_fields),) = source.epoch(epoch), plain.epoch(epoch)
        assert np.array_equal(fields["embedding"], same_fields["embedding"])
        numbers = fields["embedding"][:, 0].astype(int).tolist()
        keys = [f"p{number % IDENTITIES}/{number}.jpg" for number in numbers]
        assert np.array_equal(images, replay(before, LIGHT, 3, keys, epoch + 1))
        pictures.append(images[np.argsort(numbers)])
    assert not np.array_equal(*pictures)


def test_augment_on_a_set_with_views_is_refused(viewed):
    with pytest.raises(DistillError, match="holds 3 views of each picture with an embedding for each, so augment would only spoil them"):
        ShardSource(viewed, batch=8, seed=0, augment=LIGHT)
    assert ShardSource(viewed, batch=8, seed=0, augment=LIGHT, views="plain").rows == 150


def test_views_that_come_out_otherwise_now_are_named(viewed, tmp_path):
    """As with another OpenCV: the pictures decode as they did, their views have other pixels."""
    shutil.copytree(viewed, tmp_path / "s")
    index = tmp_path / "s" / "_index.json"
    value = json.loads(index.read_text())
    value["golden"][1]["views"] = "0" * 64
    index.write_text(json.dumps(value))
    with pytest.raises(DistillError, match="views of golden image 'p1/1.jpg' have other pixels than the teacher saw: made by opencv .*, and here is opencv"):
        ShardSource(tmp_path / "s", batch=8, seed=0)


@pytest.mark.parametrize("balanced", [None, Balanced(identities=4, images=2)], ids=["plain", "balanced"])
@pytest.mark.parametrize("holdout", [None, Holdout(by="identity", fraction=0.3)])
@pytest.mark.parametrize("format", ["parquet", "hdf5"])
def test_a_label_of_no_class_is_said_before_the_first_step(tmp_path, format, holdout, balanced):
    """Its rows have labels up to 19, its table 18 classes."""
    folder = make_set(tmp_path / "set", format=format)
    write_index(folder, format, open_shards(folder).records, [f"p{number}" for number in range(18)])
    with pytest.raises(DistillError, match=r"label 18 is of no class: the class table of .* has 18, 0 to 17. Run distill verify"):
        source = ShardSource(folder, batch=16, seed=0, part="train" if holdout else "all", holdout=holdout, balanced=balanced)
        source.teaches_nothing("label")
