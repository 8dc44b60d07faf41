"""Balanced batches of shards and of images: so many identities with so many images each, few reads, and refused where they cannot be."""

import dataclasses
import re

import numpy as np
import pytest

from distill import DistillError
from distill.config.data import Holdout
from distill.config.stage import Balanced
from distill.data.shards import FORMATS, commit_shard, write_index
from distill.data.sources import POOL_GROUPS, ImageSource, ShardSource
from distill.data.sources.reader import EpochReader
from distill.images.codec import decode, encode_jpeg
from distill.images.spec import ImageSpec
from distill.images.views import view
from tests.builders import IDENTITIES, LIGHT, SIZE, make_set, meta, picture, same_batches, shard_rows

FIVE_OF_FOUR = Balanced(identities=5, images=4)


def make_labelled(folder, labels, rows):
    """A set of these labels, so many rows a shard, each of which is a group."""
    folder.mkdir()
    records = []
    for number, some in enumerate(np.split(labels, range(rows, len(labels), rows))):
        shard = dataclasses.replace(shard_rows(number * rows, len(some)), labels=some.astype(np.int32))
        about = meta(chunk=number, of=-(-len(labels) // rows), image=ImageSpec(SIZE, SIZE))
        records.append(commit_shard(folder, "parquet", about, [shard], []))
    write_index(folder, "parquet", records, [f"p{number}" for number in range(labels.max() + 1)])
    return folder


def check_batch(images, fields, batch):
    """Returns the numbers of its rows, after each was held against its own picture."""
    chunks = fields["label"].reshape(batch.identities, batch.images)
    assert (chunks == chunks[:, :1]).all() and len(set(chunks[:, 0].tolist())) == batch.identities
    if "embedding" not in fields:
        return None
    numbers = fields["embedding"][:, 0].astype(int)
    assert np.abs(images[:, 4, 4].astype(int) - np.stack([picture(number)[0, 0] for number in numbers])).max() <= 3
    return numbers


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_batches_of_shards_are_balanced_and_each_row_is_its_own(tmp_path, format):
    source = ShardSource(make_set(tmp_path / "s", (100, 37, 63), format), batch=64, seed=1, balanced=FIVE_OF_FOUR)
    assert (source.batch, source.steps, source.rows) == (20, 10, 200)
    for images, fields in source.epoch(0):
        assert (check_batch(images, fields, FIVE_OF_FOUR) % IDENTITIES == fields["label"]).all()
    assert len({tuple(fields["label"].tolist()) for _, fields in source.epoch(0)}) == 10


def test_batches_of_images_are_balanced(folder):
    source = ImageSource(folder, size=(SIZE, SIZE), batch=64, seed=1, balanced=FIVE_OF_FOUR)
    source.look_first()
    assert (source.batch, source.steps, source.rows) == (20, 7, 140)
    seen = set()
    for images, fields in source.epoch(0):
        check_batch(images, fields, FIVE_OF_FOUR)
        seen |= {tuple(pixel) for pixel in images[:, 4, 4].tolist()}
    assert 125 <= len(seen) <= 140


def test_a_broken_image_is_missing_from_its_batch(tmp_path):
    for number in range(24):
        path = tmp_path / f"p{number % 3}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_jpeg(picture(number)) if number else b"no image")
    source = ImageSource(tmp_path, size=(SIZE, SIZE), batch=64, seed=0, balanced=Balanced(identities=3, images=4))
    for epoch in range(3):
        assert [len(images) for images, _ in source.epoch(epoch)] in ([12, 11], [11, 12])


def test_each_row_shows_one_view_of_its_own(viewed):
    source, views = ShardSource(viewed, batch=64, seed=1, balanced=FIVE_OF_FOUR), set()
    for epoch in range(3):
        for images, fields in source.epoch(epoch):
            for image, number, each in zip(images, fields["embedding"][:, 0].astype(int), fields["embedding"][:, 2].astype(int) - 1, strict=True):
                key = f"p{number % IDENTITIES}/{number}.jpg"
                assert np.array_equal(image, view(decode(encode_jpeg(picture(number))), LIGHT, 5, key, each))
                views.add(int(each))
    assert views == {0, 1, 2}


@pytest.mark.parametrize("sorted_by_identity", [True, False])
def test_a_balanced_epoch_reads_at_most_twice_what_a_plain_one_does(tmp_path, monkeypatch, sorted_by_identity):
    """20 groups of 50 rows, identities of 10 rows; the pool of a plain order has 8 groups."""
    labels = np.repeat(np.arange(100), 10)
    made = make_labelled(tmp_path / "s", labels if sorted_by_identity else np.random.default_rng(0).permutation(labels), 50)
    read, most, opened = 0, 0, EpochReader._read

    def counted(self, group):
        nonlocal read, most
        read, most = read + 1, max(most, len(self.open) + 1)
        return opened(self, group)

    monkeypatch.setattr(EpochReader, "_read", counted)
    found = []
    for batch in (None, Balanced(identities=8, images=2), Balanced(identities=16, images=4)):
        read = 0
        source = ShardSource(made, batch=32, seed=0, balanced=batch)
        assert sum(len(images) for images, _ in source.epoch(0)) == source.rows >= 960
        found.append(read)
    assert found[0] == 20 and max(found) <= 30 and most <= 2 * POOL_GROUPS + 8


def test_held_out_rows_are_not_balanced(shards, folder):
    holdout = Holdout(by="key", fraction=0.3)
    for make in (
        lambda part, balanced: ShardSource(shards, batch=16, seed=0, part=part, holdout=holdout, balanced=balanced),
        lambda part, balanced: ImageSource(folder, size=(SIZE, SIZE), batch=16, seed=0, part=part, holdout=holdout, balanced=balanced),
    ):
        train = make("train", FIVE_OF_FOUR)
        beside, alone, plain = train.other("held_out"), make("held_out", FIVE_OF_FOUR), make("held_out", None)
        assert same_batches(list(beside.epoch(1)), list(plain.epoch(1))) and same_batches(list(alone.epoch(1)), list(plain.epoch(1)))
        assert (beside.batch, beside.rows, beside.steps) == (16, plain.rows, plain.steps) == (alone.batch, alone.rows, alone.steps)
        assert train.batch == 20 and [len(images) for images, _ in train.epoch(0)] == [20] * train.steps


def identities(number):
    return Balanced(identities=number, images=2)


def test_what_cannot_be_balanced_is_refused_with_both_sides(tmp_path, shards, viewed, folder):
    many = "takes 21 different identities a batch, but the rows to learn from show 20. Use identities = 20 or fewer."
    asked = "balanced = { identities = 21, images = 2 }"
    with pytest.raises(DistillError, match=re.escape(f"{shards}: {asked} {many}")):
        ShardSource(shards, batch=8, seed=0, balanced=identities(21))
    with pytest.raises(DistillError, match=re.escape(f"{folder}: {asked} {many}")):
        ImageSource(folder, size=(SIZE, SIZE), batch=8, seed=0, balanced=identities(21))
    half = Holdout(by="identity", fraction=0.5)
    with pytest.raises(DistillError, match="takes 20 different identities a batch, but the rows to learn from show 1?[0-9]. Use"):
        ShardSource(shards, batch=8, seed=0, part="train", holdout=half, balanced=identities(20))
    unlabelled = make_set(tmp_path / "u", (9,), labelled=False)
    with pytest.raises(DistillError, match=r"u has rows without a label, so balanced = \{ identities = 2, images = 2 \} is impossible. Leave it out, or label"):
        ShardSource(unlabelled, batch=8, seed=0, balanced=identities(2))
    with pytest.raises(DistillError, match=r'views = "all" gives each image in all its 3 views, and balanced = .* takes different images. Use views = "one"'):
        ShardSource(viewed, batch=8, seed=0, views="all", balanced=identities(2))
    with pytest.raises(DistillError, match=r"takes 2 images of each identity, but each identity has one. Leave balanced out."):
        ShardSource(make_set(tmp_path / "ones", (20,)), batch=8, seed=0, balanced=identities(2))
    with pytest.raises(DistillError, match=r"takes 2 different identities a batch, but the rows to learn from show 1. Leave balanced out."):
        ShardSource(make_labelled(tmp_path / "one", np.zeros(9, int), 9), batch=8, seed=0, balanced=identities(2))


def test_a_set_whose_identities_lie_far_apart_is_told(tmp_path, monkeypatch):
    """Ten groups of ten rows; identities of two rows, of which the second lies five groups behind the first, but for three rows of each group."""
    monkeypatch.setattr(ShardSource, "pool", 2)
    apart = np.concatenate([np.arange(50), np.arange(50)])
    with pytest.raises(
        DistillError, match=r"takes 2 images of each identity, but in the first [0-9]+ batch(es)? no identity has two: those .* Use a set of a list"
    ):
        ShardSource(make_labelled(tmp_path / "s", apart, 10), batch=8, seed=0, balanced=identities(4))
    few = make_labelled(tmp_path / "few", np.where(np.arange(100) % 10 < 3, np.arange(100) // 10 + 50, apart), 10)
    balance = ShardSource(few, batch=8, seed=0, balanced=identities(4)).balance
    assert 0 < balance.paired < 0.5 and balance.warnings()[0].startswith(
        f"warning: of the identities in a batch {1 - balance.paired:.0%} show one image 2 times"
    )
    assert ShardSource(make_labelled(tmp_path / "near", np.arange(100) // 4, 10), batch=8, seed=0, balanced=identities(4)).balance.warnings() == []


def test_one_identity_with_two_images_is_enough_where_all_rows_are_shuffled_together(tmp_path):
    """The first epoch may show others alone."""
    made = make_labelled(tmp_path / "s", np.array([0, 0, 1, 2, 3, 4, 5, 6, 7, 8]), 10)
    sources = [ShardSource(made, batch=8, seed=seed, balanced=Balanced(identities=2, images=3)) for seed in range(5)]
    assert {source.balance.paired for source in sources} == {0.0, 0.5}
