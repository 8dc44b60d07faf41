"""Intervals by drawing pairs again: each resample is the figure of the pairs written down so often, and the truth is in 95 of 100."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.bench_evaluate import covered
from distill.evaluation.evaluate import evaluate_models
from distill.evaluation.folds import kfold_accuracy
from distill.evaluation.identification import open_people
from distill.evaluation.intervals import Design, Resampled, _freedom, _moved, _wider, drawn_shares, resample
from distill.evaluation.pair_sets import drawn_set
from distill.evaluation.rates import roc, tar_at_far
from distill.evaluation.request import EvaluationRequest
from distill.evaluation.resampled import Sorted, figures_of
from distill.images.codec import write_png
from distill.results import EvaluateResult, Judged
from distill.results.agreement import asymmetric_notes


@settings(deadline=None, max_examples=100)
@given(st.integers(0, 10**6), st.integers(8, 40), st.integers(2, 4), st.booleans())
def test_a_weighting_is_the_pairs_written_down_so_often(seed, number, folds, ties):
    rng = np.random.default_rng(seed)
    same = rng.random(number) < 0.5
    scores = np.round(rng.uniform(-1, 1, number), 1) if ties else rng.uniform(-1, 1, number)
    design = Design(same, folds, resamples=3, seed=seed)
    (weights,) = design.weights()
    found = figures_of(Sorted.of(scores, same, folds), weights, (0.1, 0.5))
    for row, counts in enumerate(weights):
        many = np.repeat(np.arange(number), counts)
        if not 0 < same.sum() < number:
            assert np.isnan(found["auc"][row])
            continue
        # drawn within folds, each keeps its size, so that the folds of the longer list are the same
        assert found["accuracy"][row] == pytest.approx(kfold_accuracy(scores[many], same[many], folds).accuracy)
        assert found["published"][row] == pytest.approx(kfold_accuracy(scores[many], same[many], folds, "distance").accuracy)
        curve = roc(scores[many], same[many])
        assert (found["auc"][row], found["eer"][row]) == (pytest.approx(curve.auc), pytest.approx(curve.eer))
        for far in (0.1, 0.5):
            assert found[f"tar@{far:g}"][row] == pytest.approx(tar_at_far(scores[many], same[many], far).tar)


def test_pairs_are_drawn_within_fold_and_kind():
    same = np.tile([True, False, False], 20)
    for weights in Design(same, 4, resamples=150).weights():
        for part in np.array_split(np.arange(60), 4):
            assert (weights[:, part[same[part]]].sum(axis=1) == 5).all() and (weights[:, part[~same[part]]].sum(axis=1) == 10).all()
    one, again = (np.concatenate(list(Design(same, 4, resamples=150).weights())) for _ in range(2))
    assert one.shape == (150, 60) and (one == again).all()


def test_identities_are_drawn_with_all_their_pairs():
    design = Design.of(np.array([True, False, True, False]), 2, (("a", "a", "b", "b"), ("a", "b", "b", "c")), resamples=50)
    assert design.by == "identities" and design.numbers.tolist() == [[0, 0, 1, 1], [0, 1, 1, 2]]
    for weights in design.weights():
        a, ab, b, bc = weights.T
        assert (ab == a * b).all() and (bc == b * (3 - a - b)).all()
    (excess,) = design.excess()
    assert (excess[:, [0, 2]] == 1).all() and (excess[:, [1, 3]].sum(axis=1) == 2).all()
    assert not list(Design(np.array([True, False]), 2).excess())


def test_the_interval_of_a_known_share():
    """600 of 1,000 genuine pairs above all impostors: the TAR is .6, and its interval .6 -+ 1.96 sqrt(.6 .4 / 1,000) = .57 to .63."""
    same = np.repeat([True, False], 1000)
    scores = np.where(same, np.where(np.arange(2000) < 600, 0.9, 0.1), 0.5)
    order = np.random.default_rng(0).permutation(2000)
    found = resample(scores[order], Design(same[order], 10), (0.1,)).intervals()["tar@0.1"]
    assert found["value"] == 0.6 and found["low"] == pytest.approx(0.5696, abs=3e-3) and found["high"] == pytest.approx(0.6304, abs=3e-3)


def test_identities_that_are_alike_make_the_interval_wider():
    """50 identities of 20 equal genuine pairs each are 50 observations, not 1,000: the interval is sqrt(20) times as wide."""
    people = np.repeat(np.arange(50), 20)
    names = tuple(map(str, np.concatenate([people, people])))
    others = tuple(map(str, np.concatenate([people, (people + 1) % 50])))
    same = np.repeat([True, False], 1000)
    scores = np.where(same, np.where(np.tile(people, 2) < 30, 0.9, 0.1), 0.5)
    known = resample(scores, Design.of(same, 10, (names, others)), (0.1,)).intervals()["tar@0.1"]
    unknown = resample(scores, Design.of(same, 10, None), (0.1,)).intervals()["tar@0.1"]
    assert known["value"] == unknown["value"] == 0.6
    assert known["high"] - known["low"] == pytest.approx(2 * 1.96 * np.sqrt(0.24 / 50), rel=0.1)


def test_a_model_less_itself_is_nothing_and_the_difference_is_known_better_than_its_parts():
    rng = np.random.default_rng(0)
    same = np.tile([True, False], 1000)
    common = np.where(same, 0.4, 0.0) + rng.normal(0, 0.15, 2000)
    one, two = (resample(np.clip(common + rng.normal(0, 0.02, 2000), -1, 1), Design(same, 10, resamples=300)) for _ in range(2))
    assert all(each == {"value": 0, "low": 0, "high": 0} for each in one.minus(one).values())
    width = {name: each["high"] - each["low"] for name, each in one.intervals().items()}
    less = one.minus(two)
    assert less["auc"]["high"] - less["auc"]["low"] < 0.3 * width["auc"]  # .24: the scores correlate by .98
    assert all(each["high"] - each["low"] < width[name] for name, each in less.items())


def test_figures_that_no_resample_has_have_no_interval():
    empty = Resampled({"auc": 0.5}, {"auc": np.array([np.nan])}, {})
    assert empty.intervals() == {"auc": {"value": 0.5, "low": None, "high": None}}


def test_shares_are_drawn_by_identity():
    """60 of 100 people are found each time: .6, and .6 -+ 1.96 sqrt(.24 / 100) = .504 to .696, however many photos each has."""
    numbers = np.repeat(np.arange(100), 30)
    found = drawn_shares("rank1", numbers < 60, numbers)
    each = found.intervals()["rank1"]
    assert each["value"] == 0.6 and each["low"] == pytest.approx(0.504, abs=0.01) and each["high"] == pytest.approx(0.696, abs=0.01)
    assert found.minus(found)["rank1"] == {"value": 0, "low": 0, "high": 0}


@pytest.fixture
def faces(tmp_path):
    rng = np.random.default_rng(0)
    for person in range(6):
        (tmp_path / f"p{person}").mkdir()
        for photo in range(4):
            colour = np.clip(40 * person + rng.normal(0, 25, 3), 0, 255)
            write_png(tmp_path / f"p{person}" / f"{photo}.png", np.full((4, 4, 3), colour, np.uint8), "test")
    return tmp_path


@dataclass
class Colours:
    """The colour of a corner, less 100; red counts `red` times."""

    red: float = 1.0
    height: int | None = 4
    width: int | None = 4
    dimension: int = 3

    def __call__(self, images):
        return ((images[:, 0, 0].astype(np.float32)) - 100) * np.array([self.red, 1, 1], np.float32)


def test_a_student_is_compared_with_its_teacher(faces):
    models = {"model": ("m", lambda: Colours(0.2)), "teacher": ("t", Colours)}
    request = EvaluationRequest(sets=(drawn_set(faces),), people=open_people(faces), resamples=200)
    result = json.loads(json.dumps(evaluate_models(models, request), allow_nan=False))
    model, teacher = (result[who]["pairs"] for who in ("model", "teacher"))
    assert model["intervals"]["of"] == "identities" and model["intervals"]["resamples"] == 200
    for name in ("accuracy", "auc", "eer"):
        one, less = model["intervals"]["figures"][name], model["minus_teacher"][name]
        assert one["low"] <= one["value"] <= one["high"] and one["value"] == pytest.approx(model[name])
        assert less["value"] == pytest.approx(model[name] - teacher[name]) and less["low"] <= less["value"] <= less["high"]
    assert "minus_teacher" not in teacher and set(model["minus_teacher"]) == {"accuracy", "published", "auc", "eer"}
    ranks = result["model"]["identification"]
    assert ranks["minus_teacher"]["rank1"]["value"] == pytest.approx(ranks["rank1"] - result["teacher"]["identification"]["rank1"])
    judged = {who: Judged(one["path"], one) for who, one in result.items()}
    words = EvaluateResult(judged).in_words()
    assert "model: 95 % intervals (identities drawn again 200 times): accuracy " in words
    assert "model: less the teacher on the same pairs, with 95 % intervals: accuracy " in words and "; AUC " in words
    assert "less teacher: accuracy less that of teacher" not in words  # which explains a column that this table does not have
    across = {"asymmetric": {"projected": False, "pairs": {**result["model"]["pairs"], "mirrored": result["model"]["pairs"]}}}
    assert any(note.startswith("first image by the model, less the teacher on the same pairs") for note in asymmetric_notes(across))
    assert judged["model"].minus_teacher["auc"][0] == model["minus_teacher"]["auc"]["value"] and judged["model"].intervals["auc"][0] <= model["auc"]
    none = evaluate_models(models, replace(request, resamples=0))["model"]
    assert "intervals" not in none["pairs"] and "minus_teacher" not in none["pairs"] and none["pairs"]["auc"] == model["auc"]


def test_an_uncertain_variance_widens_the_interval():
    """One identity of four moves a figure by 2: squares 4, fourths 16, so var(V) is 16 - 16 / 4 = 12, and a V of 10 has 2 * 100 / 12 degrees of freedom."""
    assert _freedom(10.0, np.array([2.0, 0, 0, 0]), 0.0) == pytest.approx(200 / 12)
    assert _freedom(1.0, np.array([2.0, 0, 0, 0]), 0.0) == 5 and _freedom(1.0, np.ones(9), 0.0) == np.inf
    # .25 of noise in each of four: squares 4 - 1 = 3, fourths 16 - 6 * .25 * 3 - 12 * .0625 = 10.75
    assert _freedom(10.0, np.array([2.0, 0, 0, 0]), 0.25) == pytest.approx(200 / (10.75 - 9 / 4))
    assert 1.959964 * _wider(10) == pytest.approx(2.228139, rel=2e-3) and _wider(np.inf) == 1  # Student's t at 97.5 %


def test_what_an_identity_moves_is_its_covariance_with_its_draws():
    draws = [np.array([[2, 0], [0, 2]]), np.array([[1, 1], [1, 1]])]
    moved = _moved(draws, {"mean": np.array([5.0, 1.0, 3.0, 3.0])})  # 2, -2, 0, 0 around 3, times +-1
    assert moved["mean"].tolist() == [1.0, -1.0]


@pytest.mark.slow
@pytest.mark.parametrize("case", ["pairs", "identities without effect", "identities with effect"])
def test_the_paired_interval_covers_the_truth(case):
    """190 of 200 are promised, 3 standard deviations are 9. docs/judging.md has the counts of 1,000 cases."""
    for name, hits in covered(case, 200).items():
        assert 181 <= hits <= 199, (case, name, hits)


def test_a_value_is_inside_its_interval_when_few_draws_are_far_away():
    """990 draws of 1 and 10 of .9 have the mean .999, below the quantile 1: the interval is 1 to 1, and not 1.001 to 1."""
    again = np.repeat([1.0, 0.9], [990, 10])
    assert Resampled({"auc": 1.0}, {"auc": again}, {}).intervals() == {"auc": {"value": 1.0, "low": 1.0, "high": 1.0}}
