"""Training on balanced batches: which sources stages share, what is said and counted, and what a run without such batches keeps."""

import csv

import keras
import numpy as np
import pytest

from distill import DistillError
from distill.config.run import Run
from distill.images.codec import encode_jpeg
from distill.training.callbacks import averaged_batches
from distill.training.describe import check_batches, describe_stage
from distill.training.rehearsal import rehearse
from distill.training.stages import open_stages
from distill.training.trainer import extent, train
from tests.builders import SIZE, make_set, picture

BALANCED = {"identities": 10, "images": 3}
TERMS = [{"name": "cosine", "weight": 64.0}, {"name": "softmax", "scale": 16.0}]


def run_of(shards, *stages, **data) -> Run:
    stages = stages or ({"balanced": BALANCED},)
    return Run.model_validate(
        {
            "seed": 1,
            "student": {"widths": [8], "embedding": 3, "dropout": 0.0},
            "data": {"shards": str(shards), "batch": 64, **data},
            "stage": [{"terms": TERMS, "optimizer": {"name": "adamw", "learning_rate": 0.01}, **stage} for stage in stages],
        }
    )


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("set") / "shards", (300, 100))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for number in range(60):
        path = root / f"p{number % 12:02d}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_jpeg(picture(number)))
    return root


def test_stages_with_equal_batches_share_a_source(shards):
    stages = open_stages(run_of(shards, {}, {"balanced": BALANCED}, {"balanced": BALANCED}, {"balanced": {**BALANCED, "images": 2}}, {}))
    plain, first, second, third, last = (data.train for data in stages)
    assert plain is last and first is second and len({id(each) for each in (plain, first, third)}) == 3
    assert [source.batch for source in (plain, first, third)] == [64, 30, 20]
    assert [data.steps for data in stages] == [7, 13, 13, 20, 7] and [data.joined for data in stages] == [0] * 5


def test_a_balanced_stage_trains_and_counts_what_it_shows(shards, tmp_path, capsys):
    run = run_of(shards, {"balanced": BALANCED, "epochs": 2}, {"epochs": 1}, holdout={"by": "key", "fraction": 0.2})
    first, second = open_stages(run)
    assert first.held_out.batch == 64 and first.held_out.rows == second.held_out.rows == 400 - second.train.rows
    summary = train(run, tmp_path)
    told = capsys.readouterr().err
    steps = second.train.rows // 30
    assert f"stage 1: {30 * steps} rows of shards in batches of 10 identities with 3 images each, {steps} steps an epoch, 2 epochs\n" in told
    assert summary["steps"] == 2 * steps + second.steps and [row["trained_on"] for row in summary["rows"]] == [30 * steps, second.train.rows]
    assert summary["last"]["held_out_agreement"] > 0.5
    with open(tmp_path / "history.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 3
    assert "[stage.balanced]\nidentities = 10\nimages = 3\n" in (tmp_path / "run.toml").read_text()
    seen = [np.unique(values["label"], return_counts=True)[1].tolist() for _, values in first.epoch(0)]
    assert seen == [[3] * 10] * steps


def test_what_is_reckoned_by_the_batch_is_reckoned_by_this_one(shards):
    """300 and 100 rows in batches of 30; held-out rows are evaluated in batches of 64, which count as so many of 30."""
    data = open_stages(run_of(shards, holdout={"by": "key", "fraction": 0.2}))[0]
    assert averaged_batches(data) == 69  # of 30 rows, 2,070
    assert extent(data).batch == 30 and extent(data).after == 69 + -(-data.held_out.rows // 30)


@pytest.mark.parametrize("source", ["shards", "images"])
def test_a_dry_run_says_the_batches_it_would_take(shards, photos, source):
    run = run_of(shards, {"source": source, "balanced": BALANCED, "terms": TERMS[1:]}, images=str(photos), size=[SIZE, SIZE])
    found = rehearse(run)
    (stage,) = found.stages
    assert (stage.batch, stage.rows) == (30, 30 * stage.steps) and "steps with 30 images" in found.in_words()
    larger = rehearse(run.model_copy(update={"data": run.data.model_copy(update={"batch": 4})}))
    assert larger.memory["activations"] == found.memory["activations"]


def test_small_balanced_batches_are_said_by_their_key(shards):
    norm = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization()])
    (told,) = check_batches(open_stages(run_of(shards, {"balanced": {"identities": 2, "images": 2}})), norm)
    assert told.startswith("warning: stage 1: batches of 4 rows (balanced = { identities = 2, images = 2 }): batch norm knows")


def test_identities_that_lie_far_apart_are_a_warning_before_the_first_step(shards, monkeypatch):
    monkeypatch.setattr("distill.data.sources.balance.Balance.paired", 0.25)
    run = run_of(shards)
    lines = describe_stage(run, open_stages(run)[0], False)
    assert any(line.strip().startswith("warning: of the identities in a batch 75% show one image 3 times") for line in lines)


def test_what_cannot_be_balanced_is_refused_before_the_first_step(shards, tmp_path):
    with pytest.raises(DistillError, match=r"balanced = \{ identities = 21, images = 3 \} takes 21 different identities .* learn from show 20. Use"):
        train(run_of(shards, {"balanced": {"identities": 21, "images": 3}}), tmp_path / "run", quiet=True)
    unlabelled = make_set(tmp_path / "u", (40,), labelled=False)
    with pytest.raises(DistillError, match="has rows without a label"):
        train(run_of(unlabelled, {"balanced": BALANCED, "terms": TERMS[:1]}), tmp_path / "other", quiet=True)
