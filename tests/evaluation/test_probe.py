"""A linear classifier on embeddings: which images are held out, what it is worth on data that can be worked out, and what is refused."""

import json
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest

import distill
from distill import DistillError
from distill.data.sources import ShardSource
from distill.evaluation.embed import embed_images, spec_for
from distill.evaluation.evaluate import evaluate_models
from distill.evaluation.probe import STEPS, C, Labelled, _split, open_labelled
from distill.evaluation.request import EvaluationRequest, silent
from distill.images.codec import write_png
from tests.builders import IDENTITIES, SIZE, FirstColour, make_set
from tests.conftest import inside

pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def people(tmp_path_factory):
    """Four identities of ten photos of one colour each, which differ a little; and one of a single photo."""
    root, rng = tmp_path_factory.mktemp("people"), np.random.default_rng(0)
    for person, colour in enumerate(((220, 90, 90), (90, 220, 90), (90, 90, 220), (20, 120, 120))):
        for photo in range(10):
            (root / f"p{person}").mkdir(exist_ok=True)
            write_png(
                root / f"p{person}" / f"{photo}.png", np.clip(np.full((SIZE, SIZE, 3), colour) + rng.integers(-20, 20, 3), 0, 255).astype(np.uint8), "test"
            )
    (root / "alone").mkdir()
    write_png(root / "alone" / "0.png", np.full((SIZE, SIZE, 3), 7, np.uint8), "test")
    return root


@dataclass
class Blind(FirstColour):
    """Sees the same in all images."""

    def __call__(self, images):
        return np.ones((len(images), 3), np.float32)


def probed(people, model, **asked):
    request = EvaluationRequest(probe=open_labelled(people), resamples=100, **asked)
    return evaluate_models({"model": ("m", lambda: model)}, request)["model"]["probe"]


def test_a_fifth_of_each_identitys_images_is_held_out():
    numbers = np.array([0] * 10 + [1] * 2 + [2] + [3] * 4 + [-1])
    split = _split(Labelled("x", numbers, ("a", "b", "c", "d"), np.zeros(0, bool)))
    assert [int(split.held_out[numbers == number].sum()) for number in range(-1, 4)] == [0, 2, 1, 0, 1]
    assert split.numbers[12] == split.numbers[17] == -1 and split.shown == {"a", "b", "d"}
    again, other = (_split(Labelled("x", numbers, ("a", "b", "c", "d"), np.zeros(0, bool), seed=seed)) for seed in (0, 1))
    assert np.array_equal(split.held_out, again.held_out) and not np.array_equal(split.held_out, other.held_out)


def test_more_scores_than_memory_holds_are_refused(monkeypatch):
    """Two of ten images of each of two identities are held out: 4 x 2 scores of 8 bytes."""
    numbers = np.repeat([0, 1], 10)
    monkeypatch.setattr("distill.evaluation.probe.MOST_SCORES", 64)
    assert _split(Labelled("x", numbers, ("a", "b"), np.zeros(0, bool))).held_out.sum() == 4
    monkeypatch.setattr("distill.evaluation.probe.MOST_SCORES", 63)
    with pytest.raises(DistillError, match="--probe x: 4 held-out images by 2 identities are .* GB of scores"):
        _split(Labelled("x", numbers, ("a", "b"), np.zeros(0, bool)))


def test_colours_are_told_apart_and_nothing_is_told_by_a_model_that_sees_nothing(people):
    found = probed(people, FirstColour())
    assert (found["accuracy"], found["classes"], found["train"], found["test"], found["left_out"]) == (1.0, 4, 32, 8, 1)
    assert found["identities"] == 4 and found["trained_identities"] is None and found["converged"] is True and found["intervals"]["of"] == "identities"
    assert probed(people, Blind())["accuracy"] == 0.25  # always the same of four


def test_it_is_the_classifier_that_is_named_with_embeddings_of_one_length(people):
    """Against scikit-learn with the same numbers; a model of other lengths has the same figure."""
    from sklearn.linear_model import LogisticRegression

    labelled, model = open_labelled(people), FirstColour()
    raw = embed_images(model, str(people), labelled.keys, spec_for(model))
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True) * np.sqrt(3)
    used = labelled.numbers >= 0
    train, test = used & ~labelled.held_out, used & labelled.held_out
    expected = LogisticRegression(C=C, max_iter=STEPS).fit(unit[train], labelled.numbers[train]).predict(unit[test]) == labelled.numbers[test]
    for factor in (1, 1000):
        assert np.array_equal(labelled.right(raw * factor)[0], expected)


def test_labels_of_a_set_are_read_without_its_images(tmp_path, monkeypatch):
    make_set(tmp_path / "set")
    source = ShardSource(str(tmp_path / "set"), batch=7, seed=3, part="all", views="plain")
    decoded = np.concatenate([fields["label"] for _, fields in source.epoch(0)])
    monkeypatch.setattr("distill.data.sources.shards.ShardSource.epoch", None)
    assert open_labelled(tmp_path / "set").numbers.shape == decoded.shape
    assert np.array_equal(source.labels(np.concatenate(list(source.order(0)))), decoded)


def test_a_set_says_beside_it_what_its_own_embeddings_are_worth(tmp_path):
    make_set(tmp_path / "set")
    found = probed(tmp_path / "set", FirstColour())
    assert (found["classes"], found["train"] + found["test"], found["left_out"]) == (IDENTITIES, 150, 0)
    labelled = open_labelled(tmp_path / "set")
    stored = np.concatenate([fields["embedding"] for _, fields in labelled.source.epoch(0)])
    assert found["stored_accuracy"] == labelled.right(stored)[0].mean()
    make_set(tmp_path / "bare", labelled=False)
    with pytest.raises(DistillError, match="--probe .*bare: its rows have no labels"):
        open_labelled(tmp_path / "bare")


def test_models_are_compared_on_the_same_images(people):
    models = {"model": ("m", Blind), "teacher": ("t", FirstColour)}
    found = evaluate_models(models, EvaluationRequest(probe=open_labelled(people), resamples=100))
    less = found["model"]["probe"]["minus_teacher"]["accuracy"]
    assert less["value"] == -0.75 and less["low"] < -0.5 and less["high"] < 0 and "minus_teacher" not in found["teacher"]["probe"]


def test_it_is_in_the_table_and_among_the_arrays(people, quick, faces, tmp_path):
    done = inside("evaluate", quick, "--probe", faces, "--resamples", 100, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "out" / "evaluation.json").read_text())["model"]["probe"]
    assert f"{told['accuracy']:.2%}" in done.stdout.splitlines()[1] and "held-out images of 12 identities, by logistic regression, C = 1" in done.stdout
    with np.load(tmp_path / "out" / "scores-model.npz") as held:
        assert held["probed"].mean() == told["accuracy"] and len(held["probed"]) == told["test"] == 24
    assert inside("inspect", tmp_path / "out" / "scores-model.npz").returncode == 0
    assert json.loads(inside("inspect", tmp_path / "out", "--json").stdout)["kind"] == "evaluation"
    judged = distill.evaluate(quick, probe=faces, resamples=100, progress=False).model
    assert judged.probe == told["accuracy"]  # the same seed, the same figure
    flipped = distill.evaluate(quick, probe=faces, resamples=0, flip=True, progress=False).model.figures["probe"]
    assert flipped["flip"] is True and "intervals" not in flipped


def test_what_cannot_be_is_said_before_a_model_is_loaded(people, tmp_path, monkeypatch):
    (tmp_path / "two" / "a").mkdir(parents=True)
    (tmp_path / "two" / "b").mkdir()
    for name in ("a/0", "a/1", "b/0"):
        write_png(tmp_path / "two" / f"{name}.png", np.zeros((SIZE, SIZE, 3), np.uint8), "test")
    with pytest.raises(DistillError, match="1 identity with two images or more; a classifier needs two such identities"):
        open_labelled(tmp_path / "two")
    with pytest.raises(DistillError, match="no folder"):
        open_labelled(tmp_path / "gone")
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(DistillError, match=r"--probe needs scikit-learn: pip install -c constraints.txt '.\[probe\]'"):
        open_labelled(people)


def test_an_embedding_that_is_no_number_is_named(people, tmp_path):
    class Lost(FirstColour):
        def __call__(self, images):
            return np.where(np.arange(len(images))[:, None] == 3, np.nan, 1.0) * np.ones((1, 3))

    with pytest.raises(DistillError, match=r"the model's embedding of p0/2.png is not finite"):
        probed(people, Lost())
    make_set(tmp_path / "set")
    labelled = replace(open_labelled(tmp_path / "set"))
    with pytest.raises(DistillError, match=r"the model's embedding of row 3 of .* is not finite"), silent("") as progress:
        labelled.embeddings(Lost(), EvaluationRequest(), progress)
