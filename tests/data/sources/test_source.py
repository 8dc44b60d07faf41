"""Every source passes one contract: structure, dtype, shape; equal (seed, epoch) equal batches; what can be learned from its rows."""

import doctest
import shutil
import threading

import numpy as np
import pytest

from distill.config.stage import Balanced
from distill.data.sources import ImageSource, NoiseSource, ShardSource, holdout, order
from distill.data.sources import source as source_room
from distill.data.sources.source import one_class, one_direction
from tests.builders import LIGHT, SIZE, make_set, same_batches


def teacher(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)[:, :3].astype(np.float32)


TEN_OF_THREE = Balanced(identities=10, images=3)  # five batches, as of 32 rows
SOURCES = {
    "shards": lambda shards, viewed, folder, seed: ShardSource(shards, batch=32, seed=seed),
    "shards, one view": lambda shards, viewed, folder, seed: ShardSource(viewed, batch=32, seed=seed),
    "shards, all views": lambda shards, viewed, folder, seed: ShardSource(viewed, batch=96, seed=seed, views="all"),
    "shards, plain": lambda shards, viewed, folder, seed: ShardSource(viewed, batch=32, seed=seed, views="plain"),
    "shards, augmented": lambda shards, viewed, folder, seed: ShardSource(shards, batch=32, seed=seed, augment=LIGHT),
    "images": lambda shards, viewed, folder, seed: ImageSource(folder, size=(SIZE, SIZE), batch=32, seed=seed),
    "images, augmented": lambda shards, viewed, folder, seed: ImageSource(folder, size=(SIZE, SIZE), batch=32, seed=seed, augment=LIGHT),
    "shards, balanced": lambda shards, viewed, folder, seed: ShardSource(shards, batch=32, seed=seed, balanced=TEN_OF_THREE),
    "shards, balanced, one view": lambda shards, viewed, folder, seed: ShardSource(viewed, batch=32, seed=seed, balanced=TEN_OF_THREE),
    "shards, balanced, augmented": lambda shards, viewed, folder, seed: ShardSource(shards, batch=32, seed=seed, balanced=TEN_OF_THREE, augment=LIGHT),
    "images, balanced": lambda shards, viewed, folder, seed: ImageSource(folder, size=(SIZE, SIZE), batch=32, seed=seed, balanced=TEN_OF_THREE),
    "images, balanced, augmented": lambda shards, viewed, folder, seed: ImageSource(
        folder, size=(SIZE, SIZE), batch=32, seed=seed, balanced=TEN_OF_THREE, augment=LIGHT
    ),
    "noise": lambda shards, viewed, folder, seed: NoiseSource(teacher, size=(SIZE, SIZE), batch=32, steps=5, seed=seed),
}


@pytest.fixture(params=sorted(SOURCES))
def make(request, shards, viewed, folder):
    return lambda seed: SOURCES[request.param](shards, viewed, folder, seed)


@pytest.fixture
def source(make):
    return make(7)


@pytest.mark.parametrize("room", [source_room, order, holdout])
def test_examples_are_true(room):
    assert doctest.testmod(room, extraglobs={"np": np}).failed == 0


def test_structure(source):
    batches = list(source.epoch(0))
    assert len(batches) == source.steps == 5 and source.image_shape == (SIZE, SIZE, 3)
    assert sum(len(images) for images, _ in batches) == source.rows
    for images, fields in batches:
        assert images.dtype == np.uint8 and images.shape[1:] == (SIZE, SIZE, 3) and tuple(sorted(fields)) == tuple(sorted(source.fields))
        if "embedding" in fields:
            assert fields["embedding"].dtype == np.float32 and fields["embedding"].shape == (len(images), source.dimension)
        if "label" in fields:
            assert fields["label"].dtype == np.int32 and fields["label"].max() < source.classes


def test_equal_seed_and_epoch_give_equal_batches_others_do_not(source, make):
    again, other = make(7), make(8)
    first = list(source.epoch(3))
    assert same_batches(first, list(source.epoch(3))) and same_batches(first, list(again.epoch(3)))
    assert not same_batches(first, list(source.epoch(4))) and not same_batches(first, list(other.epoch(3)))


def test_a_start_skips_batches_and_changes_none(source):
    assert same_batches(list(source.epoch(2))[3:], list(source.epoch(2, start=3)))


def test_a_source_can_be_left_in_the_middle(source):
    """Who leaves ends its threads too."""
    before = set(threading.enumerate())
    for _ in range(3):
        batches = source.epoch(0)
        next(batches)
        assert set(threading.enumerate()) > before
        batches.close()
        assert set(threading.enumerate()) <= before


LESSONS = {
    "two classes, two rows each": ([0, 1, 0, 1], 2, False, ""),
    "more rows than classes": ([0, 2, 1, 2], 3, False, ""),
    "one class of several": ([1, 1, 1], 2, False, "all 3 rows have one class"),
    "a row a class": ([0, 1, 2], 3, False, "no class has two rows"),
    "a row a class, changed each time": ([0, 1, 2], 3, True, ""),
    "one class, changed each time": ([0, 0, 0], 1, True, "all 3 rows have one class"),
}


@pytest.mark.parametrize(("labels", "classes", "fresh", "reason"), LESSONS.values(), ids=LESSONS)
@pytest.mark.parametrize("size", [1, 10])
def test_what_a_class_head_cannot_learn_from(labels, classes, fresh, reason, size):
    """In groups of one row and of all: what is known does not depend on them."""
    groups = np.split(np.array(labels), range(size, len(labels), size))
    assert one_class(iter(groups), len(labels), classes, fresh) == reason


@pytest.mark.parametrize(
    ("embeddings", "reason"),
    [
        ([[0, 0], [0, 0]], "all embeddings are zeros"),
        ([[3, 4], [0, 0], [6, 8]], "all embeddings point one way"),
        ([[3, 4], [4, 3]], ""),
        ([[1, 0], [-1, 0]], ""),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_embeddings_that_teach_nothing(embeddings, reason, dtype):
    rows = np.array(embeddings, dtype)
    assert one_direction(iter([rows])) == one_direction(iter(rows[:, None])) == reason


def test_sources_that_teach_something_say_so(source):
    assert [source.teaches_nothing(field) for field in source.fields] == [""] * len(source.fields)


def test_the_identity_of_rows_is_theirs_wherever_they_lie(shards, folder, tmp_path):
    shutil.copytree(shards, tmp_path / "moved")
    shutil.copytree(folder, tmp_path / "folder")
    one, other, less = (ShardSource(path, batch=8, seed=0).identity() for path in (shards, tmp_path / "moved", make_set(tmp_path / "s", (100, 49))))
    assert one == other != less and len(one) == 64
    one, other = (ImageSource(path, size=(SIZE, SIZE), batch=8, seed=0) for path in (folder, tmp_path / "folder"))
    assert one.identity() == other.identity()
    next((tmp_path / "folder").rglob("*.jpg")).rename(tmp_path / "folder" / "p00" / "another.jpg")
    assert one.identity() != ImageSource(tmp_path / "folder", size=(SIZE, SIZE), batch=8, seed=0).identity()
