"""The student's probes against the teacher's gallery, by hand: each pair has one image of each, in the teacher's space."""

import json

import numpy as np
import pytest

from distill.errors import DistillError
from distill.evaluation.asymmetric import across_pairs, across_people, asymmetric_figures, projected
from distill.evaluation.identification import People
from distill.evaluation.on_pairs import Found, judge_ranks, judge_scores
from distill.evaluation.pair_sets import PairSet
from distill.evaluation.pairs import Pairs
from distill.evaluation.request import EvaluationRequest
from distill.evaluation.verification import cosine_scores, verify_pairs
from distill.results.agreement import asymmetric_notes


def turned(table, degrees):
    angle = np.radians(degrees)
    return (table @ np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])).astype(np.float32)


KEYS = tuple(f"p{number // 2}/{number % 2}.jpg" for number in range(8))
DEGREES = np.radians(np.repeat([0, 45, 90, 135], 2) + np.tile([0, 8], 4))
TEACHER = np.stack([np.cos(DEGREES), np.sin(DEGREES)], axis=1).astype(np.float32)  # four people at 45 degrees, two images of each 8 degrees apart
FIRST, SECOND = [0, 0, 2, 2, 4, 4, 6, 6], [1, 2, 3, 4, 5, 6, 7, 0]
PAIRS = Pairs(tuple(KEYS[row] for row in FIRST), tuple(KEYS[row] for row in SECOND), np.tile([True, False], 4))
SET = PairSet("faces", PAIRS, lambda key: b"", tuple(tuple(key.split("/")[0] for key in side) for side in (PAIRS.first, PAIRS.second)))
PEOPLE = People("faces", KEYS, np.repeat(np.arange(4), 2))
ASKED = EvaluationRequest(sets=(SET,), people=PEOPLE, resamples=50)


def found_of(table):
    """What a model that answers with these embeddings has found on the pairs and the people."""
    place = {key: row for row, key in enumerate(KEYS)}
    scores = cosine_scores(*(table[[place[key] for key in side]] for side in (PAIRS.first, PAIRS.second)))
    on_pairs = judge_scores(scores, verify_pairs(scores, PAIRS.same), SET, ASKED)
    return [Found(one.figures, one.arrays, one.again, KEYS, table) for one in (on_pairs, judge_ranks(table, PEOPLE, ASKED))]


def test_the_first_image_is_the_students_and_the_second_the_teachers():
    """A student that sees all 15 degrees further: a genuine pair is 7 degrees apart where its second image is probe of the first one's, 23 the other way."""
    student, teacher = found_of(turned(TEACHER, -15)), found_of(TEACHER)
    across = across_pairs(student[0], teacher[0], None, SET, ASKED)
    genuine = np.degrees(np.arccos(across.arrays["scores"][PAIRS.same]))
    assert sorted(genuine.round(3).tolist()) == pytest.approx([23, 23, 23, 23], abs=0.01)
    mirrored = across.figures["mirrored"]
    assert across.figures["best"]["threshold"] < mirrored["best"]["threshold"] and mirrored["auc"] == 1
    assert set(across.figures["minus_teacher"]) == set(teacher[0].again.values) and across.figures["intervals"]["of"] == "identities"
    same = across_pairs(teacher[0], teacher[0], None, SET, ASKED)
    assert np.array_equal(same.arrays["scores"], teacher[0].arrays["scores"]) and same.figures["minus_teacher"]["accuracy"]["value"] == 0


def test_a_projection_brings_a_student_into_the_teachers_space():
    """A student of three numbers, that are the teacher's turned by 90 degrees and one of no meaning. One that sees the opposite finds nobody."""
    wide = np.concatenate([turned(TEACHER, 90), np.full((8, 1), 9, np.float32)], axis=1)
    kernel = np.array([[0, -1], [1, 0], [0, 0]], np.float32)
    assert np.allclose(projected(wide, kernel), TEACHER, atol=1e-6) and projected(wide, None) is wide
    student, teacher = found_of(wide), found_of(TEACHER)
    assert across_people(student[1], teacher[1], kernel, PEOPLE, ASKED).figures["rank1"] == 1.0
    assert across_people(found_of(-TEACHER)[1], teacher[1], None, PEOPLE, ASKED).figures["rank1"] == 0.0
    mirrored = across_pairs(student[0], teacher[0], kernel, SET, ASKED)
    assert mirrored.figures["auc"] == 1.0 and mirrored.figures["minus_teacher"]["auc"]["value"] == 0


def test_the_gallery_is_the_teachers_whatever_its_length():
    """Lengths do not matter: the student's probes are a thousand times as long."""
    student = found_of(TEACHER * 1000)
    table = across_people(student[1], found_of(TEACHER)[1], None, PEOPLE, ASKED)
    assert table.figures["rank1"] == 1.0 and table.arrays["identified"].tolist() == [True] * 4 and table.figures["minus_teacher"]["rank1"]["value"] == 0


def test_figures_of_all_sets_stand_together_and_another_width_is_left_out(monkeypatch):
    teacher, student = found_of(TEACHER), found_of(np.pad(TEACHER, ((0, 0), (0, 2))))
    figures, arrays = asymmetric_figures("bare.keras", student, teacher, ASKED)
    assert figures["asymmetric_left_out"].startswith("its embeddings have 4 numbers, the teacher's 2, and the projection") and not arrays
    assert "not against the teacher's gallery" in asymmetric_notes(figures)[0]
    monkeypatch.setattr("distill.evaluation.asymmetric.projection_of", lambda path, dimension: np.eye(4, dimension, dtype=np.float32))
    two = EvaluationRequest(sets=(SET, SET), people=PEOPLE, resamples=0)
    figures, arrays = asymmetric_figures("run", [student[0], *student], [teacher[0], *teacher], two)
    found = json.loads(json.dumps(figures, allow_nan=False))["asymmetric"]
    assert found["projected"] and len(found["more_pairs"]) == 1 and found["identification"]["rank1"] == 1.0
    assert set(arrays) == {"asymmetric_scores", "asymmetric_scores_2", "asymmetric_identified"}
    notes = asymmetric_notes(figures)
    assert notes[0].startswith("first image of faces by the model, behind the projection of its run, second by the teacher: accuracy 100.00%")
    assert notes[-1] == "probes by the model, behind the projection of its run, gallery by the teacher: rank 1 100.00%"
    assert asymmetric_notes({}) == []


def test_what_was_not_embedded_is_no_gallery():
    with pytest.raises((DistillError, ValueError)):
        across_pairs(Found({}, {}), found_of(TEACHER)[0], None, SET, ASKED)
