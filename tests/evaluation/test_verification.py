"""Verification figures: numbers that can be checked by hand, and the definitions written out slowly beside the fast ones."""

import json
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill import DistillError
from distill.evaluation.agreement import agreement, evaluate_shards
from distill.evaluation.embed import embed_images, spec_for
from distill.evaluation.folds import DISTANCES, fold_bounds, kfold_accuracy
from distill.evaluation.pairs import _triangle, draw_pairs
from distill.evaluation.rates import Roc, roc, tar_at_far
from distill.evaluation.verification import best_accuracy, cosine_scores, evaluate_pairs, verify_pairs
from distill.images.codec import encode_jpeg, write_png
from distill.images.spec import ImageSpec

SPEC = ImageSpec(8, 8)


@dataclass
class MeanColour:
    """A model that anybody can follow: the mean of each colour, less 128."""

    height: int | None = 8
    width: int | None = 8
    dimension: int = 3
    images: int = 0

    def __call__(self, images):
        assert images.dtype == np.uint8
        self.images += len(images)
        return (images.mean(axis=(1, 2)) - 128).astype(np.float32)


def flat(colour):
    return encode_jpeg(np.full((8, 8, 3), colour, np.uint8), 100)


def make_folder(root, sizes):
    """A class folder for each size, with so many pictures in the class' own colour."""
    for number, size in enumerate(sizes):
        (root / f"id{number}").mkdir(parents=True)
        for picture in range(size):
            colour = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0]][number % 4]) * (0.8 + 0.05 * (picture % 4))
            (root / f"id{number}" / f"{picture}.jpg").write_bytes(flat(colour.astype(np.uint8)))
    return root


# ------------------------------------------------------------------------------------------------------------ drawing


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_folder(tmp_path_factory.mktemp("faces"), [4, 3, 1, 6])


def test_pairs_are_what_they_say(folder):
    pairs = draw_pairs(folder, 20, seed=1)
    assert len(pairs) == 20 and pairs.same.tolist() == [True, False] * 10
    for first, second, same in zip(pairs.first, pairs.second, pairs.same, strict=True):
        assert first != second and (first.split("/")[0] == second.split("/")[0]) == same
    assert len({frozenset(pair) for pair in zip(pairs.first, pairs.second, strict=True)}) == 20
    assert sorted(pairs.keys()) == sorted(set(pairs.first + pairs.second))


def test_same_seed_same_pairs_another_seed_others(folder):
    one, again, other = (draw_pairs(folder, 20, seed) for seed in (1, 1, 2))
    assert (one.first, one.second) == (again.first, again.second) and one.first != other.first


def test_identities_count_alike_whatever_their_size(tmp_path):
    make_folder(tmp_path, [2, 4, 12])  # room for 1, 6 and 66 genuine pairs: 11 are spread 1 + 5 + 5
    pairs = draw_pairs(tmp_path, 22)
    genuine = Counter(first.split("/")[0] for first, same in zip(pairs.first, pairs.same, strict=True) if same)
    assert genuine == {"id0": 1, "id1": 5, "id2": 5}
    between = Counter(frozenset((first[:3], second[:3])) for first, second, same in zip(pairs.first, pairs.second, pairs.same, strict=True) if not same)
    assert sorted(between.values()) == [3, 4, 4]


def test_every_pair_there_is_can_be_asked_for(tmp_path):
    make_folder(tmp_path, [3, 2])  # 4 genuine, 6 impostor pairs
    pairs = draw_pairs(tmp_path, 8)
    assert len({frozenset(pair) for pair, same in zip(zip(pairs.first, pairs.second, strict=True), pairs.same, strict=True) if same}) == 4
    with pytest.raises(DistillError, match="5 images of 2 identities make 4 genuine and 6 impostor pairs, 5 of each .* at most 8 pairs"):
        draw_pairs(tmp_path, 10)


def test_draws_that_cannot_be_are_refused(folder, tmp_path):
    with pytest.raises(DistillError, match="even number"):
        draw_pairs(folder, 7)
    (tmp_path / "list.txt").write_text("a.jpg\nb.jpg\n")
    with pytest.raises(DistillError, match="no folder"):
        draw_pairs(tmp_path / "list.txt")
    with pytest.raises(DistillError):
        draw_pairs(tmp_path / "nowhere")


def test_as_many_pairs_as_there_are_where_nobody_says_how_many(tmp_path):
    make_folder(tmp_path, [3, 2])  # 4 genuine, 6 impostor pairs
    assert len(draw_pairs(tmp_path)) == 8
    one, again = draw_pairs(tmp_path), draw_pairs(tmp_path, 8)
    assert (one.first, one.second) == (again.first, again.second)


@pytest.mark.parametrize("number", [None, 2])
@pytest.mark.parametrize(
    ("sizes", "words"), [([1, 1, 1], "3 images of 3 identities: none has two images"), ([4], "4 images of 1 identity: there is no second one")]
)
def test_folders_without_a_pair_of_one_kind_are_refused(tmp_path, sizes, words, number):
    with pytest.raises(DistillError, match=words):
        draw_pairs(make_folder(tmp_path, sizes), number)


def test_triangle_numbers_every_pair_once():
    assert sorted(_triangle(index) for index in range(66)) == sorted(combinations(range(12), 2))
    assert _triangle(10**24) == (10**24 - 1414213562373 * 1414213562372 // 2, 1414213562373)


# --------------------------------------------------------------------------------------------------------- embeddings


def test_each_distinct_image_is_embedded_once(folder):
    model = MeanColour()
    answer = []
    table = embed_images(model, folder, ["id0/0.jpg", "id1/0.jpg", "id0/0.jpg"], SPEC, 1, progress=lambda *seen: answer.append(seen))
    assert answer == [(1, 2), (2, 2)]
    assert model.images == 2 and table.shape == (3, 3) and table.dtype == np.float32
    np.testing.assert_allclose(table, [[76, -128, -128], [-128, 76, -128], [76, -128, -128]], atol=2)  # 0.8 * 255 - 128 = 76
    assert embed_images(model, folder, [], SPEC).shape == (0, 3)


def test_a_bad_image_is_named(tmp_path):
    make_folder(tmp_path, [2])
    (tmp_path / "id0" / "text.jpg").write_text("no picture")
    with pytest.raises(DistillError, match=r"id0/text\.jpg: text, not an image.*needs every image"):
        embed_images(MeanColour(), tmp_path, ["id0/0.jpg", "id0/text.jpg"], SPEC)
    with pytest.raises(DistillError, match=r"id0/gone\.jpg: no such file"):
        embed_images(MeanColour(), tmp_path, ["id0/gone.jpg"], SPEC)


def test_an_embedding_that_is_not_finite_is_named(folder):
    class Broken(MeanColour):
        def __call__(self, images):
            return np.where(images.mean(axis=(1, 2)) > 210, np.nan, 1).astype(np.float32)

    with pytest.raises(DistillError, match=r"id3/1\.jpg is not finite"):
        embed_images(Broken(), folder, ["id0/0.jpg", "id3/1.jpg"], SPEC)


def test_flip_is_the_sum_with_the_mirror_image(tmp_path):
    """A corner model: the left corner is 3 red, the right one 4 green, so the sum is (3, 4, 0) and its direction (.6, .8, 0)."""

    class Corner(MeanColour):
        def __call__(self, images):
            return (images[:, 0, 0] // 50).astype(np.float32)

    picture = np.zeros((8, 8, 3), np.uint8)
    picture[:, :4, 0], picture[:, 4:, 1] = 150, 200
    write_png(tmp_path / "one.png", picture, "test")
    write_png(tmp_path / "none.png", np.zeros((8, 8, 3), np.uint8), "test")
    keys = ["one.png", "none.png"]
    np.testing.assert_allclose(embed_images(Corner(), tmp_path, keys, SPEC, flip=True), [[0.6, 0.8, 0], [0, 0, 0]], atol=1e-6)
    assert embed_images(Corner(), tmp_path, keys, SPEC).tolist() == [[3, 0, 0], [0, 0, 0]]


def test_a_model_of_free_size_must_be_told():
    assert spec_for(MeanColour(None, None), size=(5, 6)) == ImageSpec(5, 6, exif="ignore")
    assert spec_for(MeanColour(), "crop", size=(5, 6)) == ImageSpec(8, 8, "crop", "ignore")
    with pytest.raises(DistillError, match="any size"):
        spec_for(MeanColour(None, None))


# ------------------------------------------------------------------------------------------------------------- scores


def test_cosines_by_hand():
    first = np.array([[1, 0], [3, 4], [1, 1], [0, 0]], np.float32)
    second = np.array([[0, 2], [3, 4], [-2, -2], [1, 0]], np.float32)
    np.testing.assert_allclose(cosine_scores(first, second), [0, 1, -1, 0], atol=1e-12)
    with pytest.raises(DistillError, match=r"\(4, 2\) and \(4, 3\)"):
        cosine_scores(first, np.zeros((4, 3)))


SCORES = np.array([0.9, 0.8, 0.7, 0.6])
SAME = np.array([True, False, True, False])


def test_roc_by_hand():
    points = roc(SCORES, SAME)
    assert points.far.tolist() == [0, 0, 0.5, 0.5, 1]
    assert points.tar.tolist() == [0, 0.5, 0.5, 1, 1]
    assert points.thresholds.tolist() == [np.inf, 0.9, 0.8, 0.7, 0.6]


def test_equal_scores_are_accepted_together():
    points = roc(np.array([0.5, 0.5, 0.1]), np.array([True, False, False]))
    assert points.far.tolist() == [0, 0.5, 1] and points.tar.tolist() == [0, 1, 1]


def test_tar_at_far_by_hand():
    found = tar_at_far(SCORES, SAME, 0.5)
    assert (found.tar, found.reached, found.threshold, found.accepted, found.impostors) == (1.0, 0.5, 0.7, 1, 2)
    assert tar_at_far(SCORES, SAME, 0.49).tar == 0.5  # no impostor may pass: only .9 does
    # nearest to .3 is .5 (.2 away), not 0 (.3 away): it exceeds the target
    assert tar_at_far(SCORES, SAME, 0.3, "nearest").reached == 0.5 and tar_at_far(SCORES, SAME, 0.3).reached == 0
    assert tar_at_far(SCORES, SAME, 0.25, "nearest").tar == 1.0  # 0 and .5 are equally near: the larger TAR


def test_tar_when_an_impostor_scores_highest_is_zero_and_json_stays_valid():
    found = tar_at_far(np.array([0.9, 0.1]), np.array([False, True]), 0.01)
    assert found.tar == 0 and found.threshold == np.inf and found.accepted == 0
    assert json.loads(json.dumps(found.as_dict(), allow_nan=False))["threshold"] is None


@pytest.mark.parametrize("far, mode, words", [(0.0, "conservative", "FAR 0.0"), (2.0, "nearest", "FAR 2.0"), (0.1, "best", "'best'")])
def test_tar_at_far_refuses(far, mode, words):
    with pytest.raises(DistillError, match=words):
        tar_at_far(SCORES, SAME, far, mode)


def test_rates_need_both_kinds_and_finite_scores():
    with pytest.raises(DistillError, match="2 genuine and 0 impostor"):
        roc(np.array([0.1, 0.2]), np.array([True, True]))
    with pytest.raises(DistillError, match="score 1 of 2 is not finite"):
        roc(np.array([0.1, np.nan]), np.array([True, False]))
    with pytest.raises(DistillError, match=r"\(2,\).*\(3,\)"):
        roc(np.zeros(2), np.array([True, False, True]))


scored = st.integers(4, 40).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(-8, 8).map(lambda tick: tick / 8), min_size=n, max_size=n),  # many ties
        st.lists(st.booleans(), min_size=n, max_size=n).filter(lambda same: 0 < sum(same) < len(same)),
    )
)


@given(scored, st.sampled_from([0.01, 0.1, 0.25, 0.5, 1.0]))
def test_conservative_tar_is_the_best_of_all_thresholds(drawn, far):
    scores, same = np.array(drawn[0]), np.array(drawn[1])
    best = max(np.mean(scores[same] >= threshold) for threshold in [*scores, 2.0] if np.mean(scores[~same] >= threshold) <= far)
    found = tar_at_far(scores, same, far)
    assert found.tar == best and found.reached <= far
    assert found.tar == np.mean(scores[same] >= found.threshold) and found.accepted == np.sum(scores[~same] >= found.threshold)


# -------------------------------------------------------------------------------------------------------------- folds


def slow_folds(scores, same, folds):
    """The published protocol, written out: 400 distance thresholds, contiguous folds, first argmax of training accuracy."""
    distance, answers = 2 - 2 * scores, []
    for test in np.array_split(np.arange(len(scores)), folds):
        train = np.setdiff1d(np.arange(len(scores)), test)
        right = [np.mean((distance[train] < threshold) == same[train]) for threshold in DISTANCES]
        answers.append(np.mean((distance[test] < DISTANCES[int(np.argmax(right))]) == same[test]))
    return answers


def test_folds_by_hand():
    # Fold 1 is trained on .7 T, .6 F: cut .65; its own .9 T is right, .8 F is not.
    # Fold 2 is trained on .9 T, .8 F: cut .85; .7 T is not right, .6 F is.
    found = kfold_accuracy(SCORES, SAME, folds=2)
    assert found.accuracies.tolist() == [0.5, 0.5] and found.std == 0
    np.testing.assert_allclose(found.thresholds, [0.65, 0.85])


def test_mean_and_deviation_over_folds():
    scores, same = np.array([0.9, 0.1, 0.8, 0.2, 0.3, 0.7]), np.array([True, False] * 3)
    # every cut is right on folds 1 and 2, wrong on fold 3 (its genuine pair scores below its impostor)
    found = kfold_accuracy(scores, same, folds=3)
    assert found.accuracies.tolist() == [1, 1, 0]
    assert found.accuracy == pytest.approx(2 / 3) and found.std == pytest.approx(np.sqrt(2) / 3)  # ddof 0


@settings(deadline=None, max_examples=60)
@given(scored, st.integers(2, 4))
def test_distance_grid_is_the_published_protocol(drawn, folds):
    scores, same = np.array(drawn[0]), np.array(drawn[1])
    found = kfold_accuracy(scores, same, folds, "distance")
    assert found.accuracies.tolist() == slow_folds(scores, same, folds)


def test_scores_on_the_distance_grid_stay_on_their_side():
    """2 - 2 s and 1 - d/2 round differently: a cosine of 1e-17 is above 0, its distance of 2 is not below 2."""
    near = np.concatenate([1 - DISTANCES / 2, [1e-17, -1e-17]])
    rng = np.random.default_rng(0)
    for scores in (near, np.nextafter(near, 2), np.nextafter(near, -2)):
        order = rng.permutation(len(scores))
        scores, same = scores[order], scores[order] + rng.normal(0, 0.2, len(scores)) > 0
        assert kfold_accuracy(scores, same, 100, "distance").accuracies.tolist() == slow_folds(scores, same, 100)
    found = kfold_accuracy(np.array([1e-17, 0.5, 1e-17, 0.5]), np.array([False, True] * 2), 2, "distance")
    assert found.accuracies.tolist() == [1, 1] and found.thresholds.tolist() == [DISTANCES[101]] * 2


@settings(deadline=None)
@given(scored, st.integers(2, 4))
def test_cuts_between_scores_are_the_best_on_their_training_folds(drawn, folds):
    scores, same = np.array(drawn[0]), np.array(drawn[1])
    found = kfold_accuracy(scores, same, folds)
    for threshold, test in zip(found.thresholds, np.array_split(np.arange(len(scores)), folds), strict=True):
        train = np.setdiff1d(np.arange(len(scores)), test)
        every = [np.mean((scores[train] >= cut) == same[train]) for cut in [*scores[train], 2.0]]
        assert np.mean((scores[train] >= threshold) == same[train]) == pytest.approx(max(every))


def test_a_collapsed_model_is_judged_fairly():
    """Cosines of .9990 and .9992: apart, but both inside one step of the published grid."""
    scores, same = np.where(np.tile([True, False], 10), 0.9992, 0.9990), np.tile([True, False], 10)
    assert kfold_accuracy(scores, same, 5).accuracy == 1.0
    assert kfold_accuracy(scores, same, 5, "distance").accuracy == 0.5


def test_cuts_at_both_ends():
    """Trained on impostors alone nothing is accepted, on genuine pairs alone everything that is as good as they."""
    found = kfold_accuracy(np.array([0.1, 0.2, 0.3, 0.4]), np.array([True, True, False, False]), folds=2)
    assert found.thresholds.tolist() == [np.nextafter(0.4, 1), 0.1] and found.accuracies.tolist() == [0, 0]


def test_folds_refuse_what_they_cannot_cut():
    for folds in (1, 5):
        with pytest.raises(DistillError, match=f"{folds} folds of 4 pairs"):
            kfold_accuracy(SCORES, SAME, folds)
    with pytest.raises(DistillError, match="Expected one of: scores, distance"):
        kfold_accuracy(SCORES, SAME, 2, "guess")


def test_two_bells_give_their_known_accuracy():
    """Genuine N(.5, .1), impostors N(0, .1): the best cut is .25, right for Phi(2.5) = 99.379 % of both; at FAR 1e-2 the cut is
    .1 * 2.3263 = .2326 and TAR is Phi(2.6737) = 99.625 %."""
    rng = np.random.default_rng(0)
    same = np.tile([True, False], 30_000)
    scores = np.clip(np.where(same, 0.5, 0.0) + rng.normal(0, 0.1, 60_000), -1, 1)
    found = verify_pairs(scores, same)
    assert found.accuracy == pytest.approx(0.99379, abs=1e-3) and found.threshold == pytest.approx(0.25, abs=0.02)
    assert found.tar[0].tar == pytest.approx(0.99625, abs=1e-3) and found.tar[0].accepted == 300 and found.tar[1].accepted == 30
    answer = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert sorted(answer["tar"]) == ["0.001", "0.01"] and answer["genuine"] == answer["impostors"] == 30_000 and answer["folds"] == 10


def test_a_rate_that_few_impostors_cannot_tell_has_no_tar():
    """At FAR .01 a TAR rests on 10 accepted impostors of 1,000; one fewer and it is none."""
    rng = np.random.default_rng(0)
    for impostors, answer in ((1000, True), (999, False), (20, False)):
        same = np.arange(impostors + 50) < 50
        found = verify_pairs(np.where(same, 0.5, 0.0) + rng.normal(0, 0.1, len(same)), same)
        assert (found.tar[0].tar is not None) == answer and found.tar[1].tar is None
    kept = json.loads(json.dumps(found.as_dict(), allow_nan=False))["tar"]["0.01"]
    assert kept == {
        "far": 0.01,
        "tar": None,
        "reached": None,
        "threshold": None,
        "accepted": None,
        "impostors": 20,
        "left_out": "1,000 impostor pairs are needed, there are 20",
    }


@pytest.mark.parametrize(("pairs", "folds"), [(4, 2), (6, 3), (18, 9), (20, 10), (600, 10)])
def test_few_pairs_make_fewer_folds(pairs, folds):
    same = np.arange(pairs) % 2 == 0
    found = verify_pairs(np.where(same, 0.9, 0.1), same)
    assert (found.folds, found.accuracy) == (folds, 1.0)


def test_two_pairs_are_too_few():
    with pytest.raises(DistillError, match="2 pairs: expected 4 or more"):
        verify_pairs(np.array([0.9, 0.1]), np.array([True, False]))


# ---------------------------------------------------------------------------------------------------------- end to end


def test_pairs_of_a_folder_end_to_end(folder):
    model = MeanColour()
    answer = []
    found = evaluate_pairs(model, folder, draw_pairs(folder, 20), folds=5, progress=lambda *seen: answer.append(seen))
    assert answer == [(model.images, len(found.keys))]
    assert found.verification.accuracy == 1.0  # each identity has its own colour
    assert model.images == len(found.keys) == len(found.embeddings)
    assert found.scores[found.pairs.same].min() > 0.9 > found.scores[~found.pairs.same].max()


def test_agreement_by_hand():
    target = np.array([[1, 0], [0, 1], [1, 0], [2, 0]], np.float32)
    prediction = np.array([[5, 0], [0, 1], [0, 1], [3, 4]], np.float32)  # cosines 1, 1, 0, .6
    found = agreement(target, prediction)
    assert found.mean == pytest.approx(0.65) and found.rows == 4 and found.dimension == 2
    assert found.quantiles[50] == pytest.approx(0.8) and found.quantiles[25] == pytest.approx(0.45)
    answer = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert list(answer["quantiles"]) == ["1", "5", "25", "50", "75", "95", "99"] and "cosines" not in answer
    with pytest.raises(DistillError, match="prediction: row 1 of 2 is not finite"):
        agreement(np.ones((2, 2)), np.array([[1, 1], [1, np.inf]]))
    with pytest.raises(DistillError, match="no rows"):
        agreement(np.zeros((0, 2)), np.zeros((0, 2)))


def test_agreement_with_what_a_source_gives():
    pixels = np.stack([np.full((8, 8, 3), colour, np.uint8) for colour in ([255, 128, 128], [128, 255, 128], [128, 128, 255])])
    target = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0]], np.float32)  # cosines 1, 1, 0
    batches = [(pixels[:2], {"embedding": target[:2]}), (pixels[2:], {"embedding": target[2:]})]
    source = SimpleNamespace(fields=("embedding",), dimension=3, rows=3, name="shards", epoch=lambda number: iter(batches))
    source.order, source.keys = lambda number: iter([np.array([0, 1]), np.array([2])]), lambda numbers: [f"{number}.jpg" for number in numbers]
    source.encoded = lambda numbers: [encode_jpeg(pixels[number]) for number in numbers]
    answer = []
    found = evaluate_shards(MeanColour(), source, progress=lambda *seen: answer.append(seen))
    assert answer == [(2, 3), (3, 3)]
    assert found.mean == pytest.approx(2 / 3) and found.cosines.tolist() == [1, 1, 0]
    assert [key for key, _ in found.worst] == ["2.jpg", "0.jpg", "1.jpg"]
    with pytest.raises(DistillError, match="4 numbers.*have 3"):
        evaluate_shards(MeanColour(dimension=4), source)
    with pytest.raises(DistillError, match="gives: label"):
        evaluate_shards(MeanColour(), SimpleNamespace(fields=("label",), dimension=None, name="images"))


# ----------------------------------------------------------------------------------------------------- beside the published


def slow_curve(scores, same):
    """Every cut with counts written out."""
    cuts = [np.inf, *sorted(set(scores.tolist()), reverse=True)]
    return [(np.mean(scores[~same] >= cut), np.mean(scores[same] >= cut)) for cut in cuts]


both_kinds = scored.filter(lambda drawn: 0 < sum(drawn[1]) < len(drawn[1]))


def test_area_and_equal_error_by_hand():
    points = roc(SCORES, SAME)
    assert points.auc == 0.75 and points.eer == 0.5
    assert roc(np.array([0.5, 0.5]), np.array([True, False])).auc == 0.5  # equal scores count half
    # TAR goes from .5 to 1 while FAR stays 0, then FAR rises: nothing is wrong in between
    assert roc(np.array([0.9, 0.8, 0.2, 0.1]), np.array([True, True, False, False])).eer == 0
    # from (0, .5) straight to (.5, 1) the curve crosses FAR = 1 - TAR at (.25, .75)
    assert roc(np.array([0.9, 0.5, 0.5, 0.1]), np.array([True, True, False, False])).eer == 0.25


@settings(deadline=None, max_examples=60)
@given(both_kinds)
def test_curve_area_and_rates_are_their_definitions(drawn):
    scores, same = np.array(drawn[0]), np.array(drawn[1])
    points = roc(scores, same)
    np.testing.assert_allclose(np.stack([points.far, points.tar], 1), slow_curve(scores, same))
    above = np.mean([(one > two) + (one == two) / 2 for one in scores[same] for two in scores[~same]])
    assert points.auc == pytest.approx(above)
    corners = points.corners()
    assert np.trapezoid(corners.tar, corners.far) == pytest.approx(above) and corners.eer == pytest.approx(points.eer)
    assert corners.far[0] == corners.tar[0] == 0 and corners.far[-1] == corners.tar[-1] == 1
    for far in (0.1, 0.3, 0.5, 1.0):
        best = max((reached, tar) for reached, tar in slow_curve(scores, same) if reached <= far)
        assert (tar_at_far(scores, same, far).reached, tar_at_far(scores, same, far).tar) == pytest.approx(best)
        near = min(slow_curve(scores, same), key=lambda point: (abs(point[0] - far), -point[0], -point[1]))
        found = tar_at_far(scores, same, far, "nearest")
        assert (found.reached, found.tar) == pytest.approx(near)


def test_the_best_threshold_on_the_same_pairs_is_optimistic():
    found = best_accuracy(SCORES, SAME)
    assert found.accuracy == 0.75 and found.threshold == pytest.approx(0.85)
    rng = np.random.default_rng(0)
    same = np.tile([True, False], 3000)
    for _ in range(20):
        found = verify_pairs(np.clip(np.where(same, 0.4, 0.0) + rng.normal(0, 0.1, 6000), -1, 1), same)
        assert found.best.accuracy > max(found.accuracy, found.published.accuracy) - 1e-12
        assert found.published.accuracy == pytest.approx(found.accuracy, abs=0.004)


def test_all_figures_of_few_and_of_many_pairs():
    same = np.tile([True, False], 50)
    told = json.loads(json.dumps(verify_pairs(np.where(same, 0.875, 0.1), same).as_dict(), allow_nan=False))
    assert told["published"] == {"accuracy": 1.0, "std": 0.0, "distance": pytest.approx(0.26)}  # the first above 2 - 2 * .875
    assert told["best"]["accuracy"] == told["auc"] == 1.0 and told["eer"] == 0.0
    assert list(told["tars"]) == ["conservative", "nearest"] and list(told["tars"]["nearest"]) == ["0.1", "0.01", "0.001", "0.0001", "1e-05", "1e-06"]
    assert told["tars"]["nearest"]["1e-06"]["left_out"] == "10,000,000 impostor pairs are needed, there are 50"


def test_folds_are_cut_as_numpy_does():
    for pairs, folds in ((10, 3), (7, 7), (6000, 10), (11, 2)):
        assert fold_bounds(pairs, folds).tolist() == [0, *np.cumsum([len(part) for part in np.array_split(np.arange(pairs), folds)]).tolist()]
    assert isinstance(roc(SCORES, SAME), Roc)
