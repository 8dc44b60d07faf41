"""Rank-1 identification: numbers by hand, the definition written out beside it, and what `--identify` says and refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest

from distill import DistillError
from distill.evaluation.evaluate import evaluate_models
from distill.evaluation.identification import People, identify, open_people
from distill.evaluation.request import EvaluationRequest
from distill.images.codec import encode_jpeg
from distill.results import EvaluateResult, Judged
from tests.builders import FirstColour


def test_rank_one_by_hand():
    people = People("p", ("a/1", "a/2", "b/1", "b/2", "c/1"), np.array([0, 0, 1, 1, 2]))
    assert people.gallery.tolist() == [0, 2, 4] and people.identities == {"a", "b", "c"}
    # a/2 is nearer to b/1 (.8) than to a/1 (.6); b/2 lies on b/1; lengths do not matter
    found = identify(np.array([[2, 0], [3, 4], [0, 1], [0, 9], [-1, 0]], np.float32), people)
    assert found.found.tolist() == [False, True] and found.rank1 == 0.5 and found.as_dict() == {"rank1": 0.5, "probes": 2, "gallery": 3}
    assert identify(np.ones((5, 2), np.float32), people).rank1 == 0  # always the same answer finds nobody
    assert identify(np.zeros((5, 2), np.float32), people).rank1 == 0


def test_rank_one_is_its_definition():
    rng = np.random.default_rng(0)
    numbers = np.sort(rng.integers(0, 30, 200))
    centres = rng.normal(size=(30, 8))
    table = (centres[numbers] + rng.normal(0, 0.8, (200, 8))).astype(np.float32)
    numbers = np.unique(numbers, return_inverse=True)[1]
    first = {number: int(np.flatnonzero(numbers == number)[0]) for number in set(numbers.tolist())}
    right = []
    for row in set(range(200)) - set(first.values()):
        cosine = {number: table[row] @ table[at] / np.linalg.norm(table[at]) for number, at in first.items()}
        right.append(max(cosine, key=cosine.__getitem__) == numbers[row])
    found = identify(table, People("p", (), numbers))
    assert 0.3 < found.rank1 < 0.95 and found.rank1 == pytest.approx(np.mean(right)) and len(found.found) == len(right)


@pytest.fixture
def folder(tmp_path):
    for name, colour in {"ann": (255, 0, 0), "bea": (0, 255, 0), "cid": (0, 0, 255)}.items():
        (tmp_path / "faces" / name).mkdir(parents=True)
        for number in range(3):
            shown = (255, 0, 0) if (name, number) == ("bea", 2) else colour  # one photo of bea shows ann
            (tmp_path / "faces" / name / f"{number}.jpg").write_bytes(encode_jpeg(np.full((8, 8, 3), shown, np.uint8)))
    return tmp_path


def test_a_folder_is_identified(folder):
    request = EvaluationRequest(people=open_people(folder / "faces"), out=folder / "out")
    result = evaluate_models({"model": ("m", FirstColour)}, request)
    flipped = evaluate_models({"model": ("m", FirstColour)}, replace(request, flip=True, out=None))["model"]["identification"]
    assert flipped == result["model"]["identification"] | {"flip": True}  # flat pictures are their own mirror images
    told = result["model"]["identification"]
    assert (told["rank1"], told["probes"], told["gallery"]) == (pytest.approx(5 / 6), 6, 3)
    assert told["intervals"]["figures"]["rank1"]["low"] == pytest.approx(0.5, abs=0.05)  # where bea, of whom one in two is found, is drawn three times
    with np.load(folder / "out" / "scores-model.npz") as held:
        assert held["identified"].tolist() == [True, True, True, False, True, True]
    assert json.loads((folder / "out" / "evaluation.json").read_text()) == result
    judged = Judged("m", result["model"])
    words = EvaluateResult({"model": judged}).in_words()
    assert "83.33%" in words and "rank 1: of 6 photos, among 3 people with one photo each" in words and judged.rank1 == pytest.approx(5 / 6)


def test_a_folder_in_which_nobody_can_be_found_is_refused(folder):
    for name in ("bea", "cid"):
        for photo in (folder / "faces" / name).iterdir():
            photo.unlink()
    with pytest.raises(DistillError, match="3 images of 1 identity: nobody can be taken for another"):
        open_people(folder / "faces")
    (folder / "faces" / "bea" / "0.jpg").write_bytes((folder / "faces" / "ann" / "0.jpg").read_bytes())
    for number in (1, 2):
        (folder / "faces" / "ann" / f"{number}.jpg").unlink()
    with pytest.raises(DistillError, match="2 images of 2 identities: none has two images, so nobody can be found again"):
        open_people(folder / "faces")
