"""Figures of groups: which pairs are of a group, the worst first, and what a file of groups is refused for."""

import pickle

import numpy as np
import pytest

from distill import DistillError
from distill.evaluation.evaluate import evaluate_models
from distill.evaluation.groups import figures_of_groups, ranks_of_groups, read_groups
from distill.evaluation.identification import open_people
from distill.evaluation.pair_sets import PairSet, open_pairs
from distill.evaluation.pairs import Pairs
from distill.evaluation.request import EvaluationRequest
from distill.images.codec import encode_jpeg
from distill.results import EvaluateResult, Judged
from tests.builders import FirstColour

PEOPLE = {"ann": (255, 0, 0), "bea": (0, 255, 0), "cid": (0, 0, 255), "dot": (0, 0, 255), "eve": (90, 90, 90)}


@pytest.fixture
def folder(tmp_path):
    """Of two groups, one has people that look alike."""
    for name, colour in PEOPLE.items():
        (tmp_path / "faces" / name).mkdir(parents=True)
        for number in range(3):
            (tmp_path / "faces" / name / f"{number}.jpg").write_bytes(encode_jpeg(np.full((8, 8, 3), colour, np.uint8)))
    (tmp_path / "groups.txt").write_text("ann\teasy\nbea\teasy\n\ncid\thard\ndot\thard\n")
    return tmp_path


def test_pairs_of_a_group_by_hand():
    people = (("a", "a", "b", "c", "c", "d", "a", "e"), ("a", "b", "b", "c", "d", "d", "c", "e"))
    same = np.array([True, False, True, True, False, True, False, True])
    scores = np.array([0.9, 0.1, 0.8, 0.6, 0.7, 0.9, 0.3, 0.1])  # a-c is of no group, e of none, and x has too few
    pair_set = PairSet("p", Pairs(people[0], people[1], same), lambda key: b"", people, 2)
    pair_set = PairSet("p", Pairs(people[0] * 2, people[1] * 2, np.tile(same, 2)), lambda key: b"", (people[0] * 2, people[1] * 2), 2)
    groups = {"a": "one", "b": "one", "c": "two", "d": "two", "x": "none"}
    worst, best, none = figures_of_groups(np.tile(scores, 2), pair_set.pairs.same, pair_set, groups, 0.65)
    assert (worst["group"], best["group"], none["group"]) == ("two", "one", "none")
    assert none["left_out"] == "0 genuine and 0 impostor pairs; some of each are needed, and 4 in all"
    assert (best["genuine"], best["impostors"], best["accuracy"], best["auc"]) == (4, 2, 1.0, 1.0)
    assert (worst["genuine"], worst["impostors"], worst["auc"]) == (4, 2, 0.5)  # .7 is above .6, below .9
    assert worst["at_threshold"] == {"accuracy": pytest.approx(1 / 3), "far": 1.0, "tar": 0.5} and best["at_threshold"]["accuracy"] == 1.0


def test_ranks_of_groups_by_hand():
    found = ranks_of_groups(np.array([True, False, True, True]), ["a", "a", "b", "x"], {"a": "one", "b": "two"})
    assert found == [{"group": "one", "rank1": 0.5, "probes": 2}, {"group": "two", "rank1": 1.0, "probes": 1}]


def test_groups_end_to_end(folder):
    (sets, people) = open_pairs([folder / "faces"]), open_people(folder / "faces")
    groups = read_groups(folder / "groups.txt", sets, people)
    assert groups == {"ann": "easy", "bea": "easy", "cid": "hard", "dot": "hard"}
    request = EvaluationRequest(sets=sets, people=people, groups=groups, resamples=50)
    result = evaluate_models({"model": ("m", FirstColour)}, request)["model"]
    assert [one["group"] for one in result["pairs"]["groups"]] == ["hard", "easy"]
    hard, easy = result["pairs"]["groups"]
    assert easy["accuracy"] == easy["auc"] == 1.0 and hard["at_threshold"]["far"] == 1.0 and easy["at_threshold"]["far"] == 0.0
    assert result["identification"]["groups"] == [{"group": "hard", "rank1": 0.0, "probes": 4}, {"group": "easy", "rank1": 1.0, "probes": 4}]
    words = EvaluateResult({"model": Judged("m", result)}).in_words()
    assert "model: group hard: accuracy " in words and "FAR 100.00%" in words and words.index("group hard") < words.index("group easy")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ann\teasy\nzoe\thard\nzac\thard\n", r"line 2 names 'zoe', whom neither the pairs nor their folder show, and 1 more that are not known\.$"),
        ("ann easy\n", r"line 1 is 'ann easy'\. Expected IDENTITY<TAB>GROUP"),
        ("ann\teasy\nann\thard\n", "line 2 says ann is of hard, line 1 says easy"),
        ("\n", "is empty"),
    ],
)
def test_files_of_groups_that_are_wrong(folder, text, words):
    (folder / "groups.txt").write_text(text)
    with pytest.raises(DistillError, match=words) as caught:
        read_groups(folder / "groups.txt", open_pairs([folder / "faces"]))
    assert "\n" not in str(caught.value)


def test_groups_of_nobody_are_refused(folder):
    images = [encode_jpeg(np.full((8, 8, 3), colour, np.uint8)) for colour in (0, 0, 0, 255)]
    (folder / "faces.bin").write_bytes(pickle.dumps((images * 2, [True, False, True, False])))
    with pytest.raises(DistillError, match=r"--groups .*: whom .*faces\.bin shows is not known\. Leave it out, or give"):
        read_groups(folder / "groups.txt", open_pairs([folder / "faces.bin"]))
    with pytest.raises(DistillError, match="groups are of the identities of --pairs or --identify"):
        read_groups(folder / "groups.txt", ())
    with pytest.raises(DistillError, match=r"group\.txt: no such file\. Did you mean .*groups\.txt\?"):
        read_groups(folder / "group.txt", open_pairs([folder / "faces"]))
