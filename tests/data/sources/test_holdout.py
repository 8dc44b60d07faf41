"""Rows are held out by the hash of a name alone; both parts are the whole and do not meet."""

import hashlib

import pytest

from distill import DistillError
from distill.config.data import Holdout
from distill.data.shards import GROUP_ROWS
from distill.data.sources import ImageSource, ShardSource, held_out
from tests.builders import IDENTITIES, LIGHT, SIZE, make_set, same_batches


def test_held_out_is_a_known_function_of_the_name():
    names = [f"id{number}" for number in range(1000)]
    assert 70 <= sum(held_out(name, 0.1) for name in names) <= 130
    assert all(held_out(name, 0.3) for name in names if held_out(name, 0.1))


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
        assert same_batches(list(beside.epoch(1)), list(alone.epoch(1))) and (beside.rows, beside.steps) == (alone.rows, alone.steps)
    names = {f"p{number % IDENTITIES}" if by == "identity" else f"p{number % IDENTITIES}/{number}.jpg" for number in range(150)}
    chosen = ShardSource(shards, batch=150, seed=0, part="held_out", holdout=holdout)
    numbers = next(chosen.epoch(0))[1]["embedding"][:, 0].astype(int).tolist()
    assert {f"p{number % IDENTITIES}" + ("" if by == "identity" else f"/{number}.jpg") for number in numbers} == {name for name in names if held_out(name, 0.3)}


def test_each_class_name_is_hashed_once_a_set(tmp_path, monkeypatch):
    """Not once a row group: at 85,742 classes and 5,687 groups that took half an hour."""
    asked = []
    monkeypatch.setattr("distill.data.sources.holdout.held_out", lambda name, fraction: asked.append(name) or held_out(name, fraction))
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


def test_a_part_is_asked_for_its_own_rows(shards):
    """One identity is left to learn from where the holdout takes all others."""
    fraction = sorted(int.from_bytes(hashlib.blake2b(f"p{number}".encode(), digest_size=8).digest(), "big") for number in range(IDENTITIES))[-2] / 2**64 + 1e-9
    taught = ShardSource(shards, batch=8, seed=0, part="train", holdout=Holdout(by="identity", fraction=fraction))
    assert taught.teaches_nothing("label").endswith("have one class") and taught.other("held_out").teaches_nothing("label") == ""
