"""Every source passes one contract: structure, dtype, shape; equal (seed, epoch) equal batches; every row once an epoch."""

import hashlib
import json
import re
import shutil
import weakref

import numpy as np
import pytest

from distill import DistillError, Unfinished
from distill.config.run import Holdout
from distill.data import sources
from distill.data.shards import FORMATS, GROUP_ROWS
from distill.data.sources import POOL_GROUPS, ImageSource, NoiseSource, ShardSource, held_out
from distill.images.codec import decode, encode_jpeg
from distill.images.views import RECIPES, replay, view
from tests.builders import IDENTITIES, LIGHT, SIZE, make_set, picture


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("set") / "shards")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("folder")
    for number in range(150):
        path = root / f"p{number % IDENTITIES:02d}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_jpeg(picture(number)))
    return root


@pytest.fixture(scope="module")
def viewed(tmp_path_factory):
    """150 rows of 3 views: embedding (number, -number, 1 + view), blue lighter or darker by the view."""
    return make_set(tmp_path_factory.mktemp("viewed") / "shards", views=3)


def teacher(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1)[:, :3].astype(np.float32)


SOURCES = {
    "shards": lambda shards, viewed, folder, seed: ShardSource(shards, batch=32, seed=seed),
    "shards, one view": lambda shards, viewed, folder, seed: ShardSource(viewed, batch=32, seed=seed),
    "shards, all views": lambda shards, viewed, folder, seed: ShardSource(viewed, batch=96, seed=seed, views="all"),
    "shards, plain": lambda shards, viewed, folder, seed: ShardSource(viewed, batch=32, seed=seed, views="plain"),
    "shards, augmented": lambda shards, viewed, folder, seed: ShardSource(shards, batch=32, seed=seed, augment=LIGHT),
    "images": lambda shards, viewed, folder, seed: ImageSource(folder, size=(SIZE, SIZE), batch=32, seed=seed),
    "images, augmented": lambda shards, viewed, folder, seed: ImageSource(folder, size=(SIZE, SIZE), batch=32, seed=seed, augment=LIGHT),
    "noise": lambda shards, viewed, folder, seed: NoiseSource(teacher, size=(SIZE, SIZE), batch=32, steps=5, seed=seed),
}


@pytest.fixture(params=sorted(SOURCES))
def make(request, shards, viewed, folder):
    return lambda seed: SOURCES[request.param](shards, viewed, folder, seed)


@pytest.fixture
def source(make):
    return make(7)


def same(left, right) -> bool:
    return len(left) == len(right) and all(
        np.array_equal(a, b) and x.keys() == y.keys() and all(np.array_equal(x[name], y[name]) for name in x)
        for (a, x), (b, y) in zip(left, right, strict=True)
    )


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
    assert same(first, list(source.epoch(3))) and same(first, list(again.epoch(3)))
    assert not same(first, list(source.epoch(4))) and not same(first, list(other.epoch(3)))


def test_a_start_skips_batches_and_changes_none(source):
    assert same(list(source.epoch(2))[3:], list(source.epoch(2, start=3)))


def test_a_source_can_be_left_in_the_middle(source):
    for _ in range(3):
        batches = source.epoch(0)
        next(batches)
        batches.close()


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


@pytest.mark.parametrize("by", ["identity", "key"])
def test_held_out_and_train_are_the_whole_and_do_not_meet(shards, folder, by):
    holdout = Holdout(by=by, fraction=0.3)
    for make in (
        lambda part: ShardSource(shards, batch=16, seed=0, part=part, holdout=holdout),
        lambda part: ImageSource(folder, size=(SIZE, SIZE), batch=16, seed=0, part=part, holdout=holdout),
    ):
        train, held = ([tuple(row) for images, fields in make(part).epoch(0) for row in images[:, 4, 4]] for part in ("train", "held_out"))
        labels = [{int(label) for _, fields in make(part).epoch(0) for label in fields["label"]} for part in ("train", "held_out")]
        assert len(train) + len(held) == 150 and 15 <= len(held) <= 75 and not set(train) & set(held)
        assert (not labels[0] & labels[1]) == (by == "identity")


@pytest.mark.parametrize("by", ["identity", "key"])
def test_the_other_part_is_the_one_that_is_opened_by_itself(shards, viewed, folder, by):
    """And which rows are held out follows from the hash of the name alone, as ever."""
    holdout = Holdout(by=by, fraction=0.3)
    for make in (
        lambda part: ShardSource(viewed, batch=16, seed=0, part=part, holdout=holdout),
        lambda part: ShardSource(shards, batch=16, seed=0, part=part, holdout=holdout, augment=LIGHT),
        lambda part: ImageSource(folder, size=(SIZE, SIZE), batch=16, seed=0, part=part, holdout=holdout, augment=LIGHT),
    ):
        beside, alone = make("train").other("held_out"), make("held_out")
        assert same(list(beside.epoch(1)), list(alone.epoch(1))) and (beside.rows, beside.steps) == (alone.rows, alone.steps)
    names = {f"p{number % IDENTITIES}" if by == "identity" else f"p{number % IDENTITIES}/{number}.jpg" for number in range(150)}
    chosen = ShardSource(shards, batch=150, seed=0, part="held_out", holdout=holdout)
    numbers = next(chosen.epoch(0))[1]["embedding"][:, 0].astype(int).tolist()
    assert {f"p{number % IDENTITIES}" + ("" if by == "identity" else f"/{number}.jpg") for number in numbers} == {name for name in names if held_out(name, 0.3)}


def test_each_class_name_is_hashed_once_a_set(tmp_path, monkeypatch):
    """Not once a row group: at 85,742 classes and 5,687 groups that took half an hour."""
    asked = []
    monkeypatch.setattr("distill.data.sources.held_out", lambda name, fraction: asked.append(name) or held_out(name, fraction))
    made = make_set(tmp_path / "s", (GROUP_ROWS + 5, GROUP_ROWS * 2))
    ShardSource(made, batch=8, seed=0, part="train", holdout=Holdout(by="identity", fraction=0.3)).other("held_out")
    assert sorted(asked) == sorted(f"p{number}" for number in range(IDENTITIES))


@pytest.mark.parametrize(
    ("fraction", "part", "words"),
    [(1e-9, "held_out", "holds out none of 150 rows. Use a larger"), (1 - 1e-9, "train", "leaves none to learn from. Use a smaller")],
)
def test_a_part_without_rows_says_how_to_get_some(shards, folder, fraction, part, words):
    holdout = Holdout(by="key", fraction=fraction)
    for make in (
        lambda: ShardSource(shards, batch=8, seed=0, part=part, holdout=holdout),
        lambda: ImageSource(folder, size=(SIZE, SIZE), batch=8, seed=0, part=part, holdout=holdout),
    ):
        with pytest.raises(DistillError, match=words):
            make()


def test_held_out_rows_keep_one_order(shards):
    source = ShardSource(shards, batch=16, seed=0, part="held_out", holdout=Holdout(by="key", fraction=0.5))
    numbers = [fields["embedding"][:, 0].tolist() for _, fields in source.epoch(0)]
    assert numbers == [fields["embedding"][:, 0].tolist() for _, fields in source.epoch(5)]
    assert sum(numbers, []) == sorted(sum(numbers, []))


def test_held_out_is_a_known_function_of_the_name():
    names = [f"id{number}" for number in range(1000)]
    assert 70 <= sum(held_out(name, 0.1) for name in names) <= 130
    assert all(held_out(name, 0.3) for name in names if held_out(name, 0.1))


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


def test_a_broken_image_is_left_out_counted_and_named(tmp_path, folder, caplog):
    for number in range(6):
        (tmp_path / "a").mkdir(exist_ok=True)
        (tmp_path / "a" / f"{number}.jpg").write_bytes(encode_jpeg(picture(number)))
    (tmp_path / "a" / "bad.jpg").write_bytes(b"no image")
    source = ImageSource(tmp_path, size=(SIZE, SIZE), batch=4, seed=0)
    for epoch in range(2):
        assert sum(len(images) for images, _ in source.epoch(epoch)) == 6
    assert source.left_out == {"text": 1} and len([record for record in caplog.records if "bad.jpg" in record.getMessage()]) == 1


def mixed(root, good, bad, size=SIZE * 2):
    """Pictures of the right size, and every other one of another size as long as there are any."""
    for number in range(good + bad):
        path = root / f"p{number % 3}" / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(picture(number) if number % 2 == 0 or number > 2 * bad else np.zeros((size, size, 3), np.uint8)))
    return root


@pytest.mark.parametrize(
    ("good", "bad", "max_rejects", "words"),
    [
        (
            0,
            9,
            1.0,
            "none of 9 images from all over the list can be used: 9 size; 'p0/000.jpg' for one: the image is 16x16 (height x width), expected 8x8. "
            'Set resize = "stretch" or "crop" in [data], or another size.',
        ),
        (10, 10, 0.01, "10 images cannot be used so far, more than max_rejects = 0.01 of 20: 10 size; 'p"),
        (10, 10, 0.49, "10 images cannot be used so far, more than max_rejects = 0.49 of 20: 10 size; 'p"),
        (10, 10, 0.5, None),
        (100, 1, 0.01, None),
        (99, 0, 0.0, None),
    ],
)
def test_too_many_images_of_another_size_are_said_before_the_first_step(tmp_path, good, bad, max_rejects, words, caplog):
    if not good:
        for number in range(bad):
            (tmp_path / f"p{number % 3}").mkdir(exist_ok=True)
            (tmp_path / f"p{number % 3}" / f"{number:03d}.jpg").write_bytes(encode_jpeg(np.zeros((16, 16, 3), np.uint8)))
    else:
        mixed(tmp_path, good, bad)
    source = ImageSource(tmp_path, size=(SIZE, SIZE), batch=8, seed=0, max_rejects=max_rejects)
    if words is None:
        source.look_first()
        assert source.left_out == ({"size": bad} if bad else {})
        assert sum(len(images) for images, _ in source.epoch(0)) == good
    else:
        with pytest.raises(Unfinished, match=re.escape(words)) as raised:
            source.look_first()
        assert "--" not in str(raised.value)
    assert len(caplog.records) <= 3 and not any("--resize" in record.getMessage() for record in caplog.records)


def test_images_that_a_look_did_not_see_end_the_epoch_when_there_are_too_many(tmp_path):
    """Of 1,000 keys the look reads 200; the 60 that are missing lie between them."""
    (tmp_path / "p").mkdir()
    seen = set(np.linspace(0, 999, 200).round().astype(int).tolist())
    missing = [number for number in range(1000) if number not in seen][:60]
    for number in set(range(1000)) - set(missing):
        (tmp_path / "p" / f"{number}.jpg").write_bytes(encode_jpeg(picture(number)))
    (tmp_path / "list.txt").write_text("".join(f"p/{number}.jpg\t{number % 2}\n" for number in range(1000)))
    source = ImageSource(tmp_path / "list.txt", size=(SIZE, SIZE), batch=64, seed=0, max_rejects=0.05)
    source.look_first()
    assert source.left_out == {}
    with pytest.raises(
        Unfinished, match=r"51 images cannot be used so far, more than max_rejects = 0.05 of 1,000: 51 missing; .* Set root in \[data\] to the folder"
    ):
        list(source.epoch(0))


def test_a_last_batch_of_nothing_but_broken_files_leaves_no_step_out(tmp_path):
    (tmp_path / "a").mkdir()
    for number in range(4):
        (tmp_path / "a" / f"{number}.jpg").write_bytes(encode_jpeg(picture(number)))
    (tmp_path / "a" / "bad.jpg").write_bytes(b"no image")
    source = ImageSource(tmp_path, size=(SIZE, SIZE), batch=4, seed=0)
    sizes = set()
    for epoch in range(12):  # the broken file comes last in some of them
        batches = list(source.epoch(epoch))
        sizes.add(tuple(len(images) for images, _ in batches))
        assert all(same(batches[start:], list(source.epoch(epoch, start))) for start in range(3))
    assert sizes == {(4, 4), (3, 1)}
    with pytest.raises(DistillError, match="no such file|no such folder|none of the 4 images"):
        list(ImageSource(tmp_path, size=(SIZE, SIZE), batch=4, seed=0, root=str(tmp_path / "a")).epoch(0))


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
    assert sources._one_class(iter(groups), len(labels), classes, fresh) == reason


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
    assert sources._one_direction(iter([rows])) == sources._one_direction(iter(rows[:, None])) == reason


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


def test_a_part_is_asked_for_its_own_rows(shards):
    """One identity is left to learn from where the holdout takes all others."""
    fraction = sorted(int.from_bytes(hashlib.blake2b(f"p{number}".encode(), digest_size=8).digest(), "big") for number in range(IDENTITIES))[-2] / 2**64 + 1e-9
    taught = ShardSource(shards, batch=8, seed=0, part="train", holdout=Holdout(by="identity", fraction=fraction))
    assert taught.teaches_nothing("label").endswith("have one class") and taught.other("held_out").teaches_nothing("label") == ""


def test_rows_without_labels_give_embeddings_only(tmp_path):
    source = ShardSource(make_set(tmp_path / "s", (9,), labelled=False), batch=4, seed=0)
    assert source.fields == ("embedding",) and source.classes == 0
    with pytest.raises(DistillError, match='by = "key"'):
        ShardSource(tmp_path / "s", batch=4, seed=0, part="train", holdout=Holdout(by="identity", fraction=0.5))


def test_memory_holds_a_few_groups_only(tmp_path):
    """Groups are let go of when their last row is used: never more than the pool and what is left of the one before."""
    source = ShardSource(make_set(tmp_path / "s", (GROUP_ROWS * 3,) * 8), batch=256, seed=0)
    loaded, alive, load = [], [], source._load

    def watched(group):
        rows = load(group)
        loaded.append(weakref.ref(rows))
        return rows

    source._load = watched
    for _ in source.epoch(0):
        alive.append(sum(rows() is not None for rows in loaded))
    assert len(loaded) == 24 and max(alive) <= 2 * POOL_GROUPS


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


def test_pictures_too_large_for_a_recipe_are_told_when_a_source_opens(folder):
    with pytest.raises(DistillError, match="up to 1024x1024, received 2000x8"):
        ImageSource(folder, size=(2000, 8), batch=8, seed=0, augment=RECIPES["face"])


def test_views_that_come_out_otherwise_now_are_named(viewed, tmp_path):
    """As with another OpenCV: the pictures decode as they did, their views have other pixels."""
    shutil.copytree(viewed, tmp_path / "s")
    index = tmp_path / "s" / "_index.json"
    value = json.loads(index.read_text())
    value["golden"][1]["views"] = "0" * 64
    index.write_text(json.dumps(value))
    with pytest.raises(DistillError, match="views of golden image 'p1/1.jpg' have other pixels than the teacher saw: made by opencv .*, and here is opencv"):
        ShardSource(tmp_path / "s", batch=8, seed=0)
