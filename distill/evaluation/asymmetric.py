"""The student's probes against the teacher's gallery: what a student is worth where the gallery stays as the teacher has embedded it.

Of a pair the first image is embedded by the student, through the projection that its run has kept where its embeddings are of another width, and the second by
the teacher. With people the gallery is the teacher's, and the probes are the student's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distill.evaluation.identification import People
from distill.evaluation.on_pairs import Found, judge_ranks, judge_scores
from distill.evaluation.pair_sets import PairSet
from distill.evaluation.request import EvaluationRequest
from distill.evaluation.verification import cosine_scores, verify_pairs
from distill.training.origin import projection_of


def asymmetric_figures(path: str, student: Sequence[Found], teacher: Sequence[Found], request: EvaluationRequest) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns {"asymmetric": figures}, or {"asymmetric_left_out": why}, and the arrays behind them.

    Args:
        path: of the student.
        student, teacher: what both have embedded: each set of pairs, and the people.
    """
    dimensions = [one[0].dimension for one in (student, teacher)]
    kernel = None if dimensions[0] == dimensions[1] else projection_of(path, dimensions[1])
    if dimensions[0] != dimensions[1] and (kernel is None or kernel.shape != tuple(dimensions)):
        reason = f"its embeddings have {dimensions[0]} numbers, the teacher's {dimensions[1]}, and the projection between them is no part of it"
        return {"asymmetric_left_out": f"{reason}; the run folder that it was trained in has one, if it learned from embeddings of that teacher"}, {}
    found: dict[str, Any] = {"projected": kernel is not None}
    arrays: dict[str, Any] = {}
    for number, (pair_set, one, other) in enumerate(zip(request.sets, student, teacher, strict=False), 1):
        across = across_pairs(one, other, kernel, pair_set, request)
        if number == 1:
            found["pairs"] = across.figures
        else:
            found.setdefault("more_pairs", []).append(across.figures)
        arrays["asymmetric_scores" if number == 1 else f"asymmetric_scores_{number}"] = across.arrays["scores"]
    if request.people is not None:
        across = across_people(student[-1], teacher[-1], kernel, request.people, request)
        found["identification"] = across.figures
        arrays["asymmetric_identified"] = across.arrays["identified"]
    return {"asymmetric": found}, arrays


def across_pairs(student: Found, teacher: Found, kernel: np.ndarray | None, pair_set: PairSet, request: EvaluationRequest) -> Found:
    """Returns what the student's probes are worth against the teacher's gallery on pairs that both have embedded.

    figures has those of pairs; "minus_teacher", the difference to both images by the teacher; and "mirrored": the figures where the second image of each pair
    is the probe.

    Args:
        kernel: float32 [D of the student, D of the teacher]; None where they have the same space.
    """
    pairs, folds = pair_set.pairs, pair_set.folds
    probes = [projected(student.embedded(side), kernel) for side in (pairs.first, pairs.second)]
    gallery = [teacher.embedded(side) for side in (pairs.second, pairs.first)]
    scores, mirrored = (cosine_scores(*both) for both in zip(probes, gallery, strict=True))
    found = judge_scores(scores, verify_pairs(scores, pairs.same, folds), pair_set, request)
    found.figures["mirrored"] = verify_pairs(mirrored, pairs.same, folds).as_dict()
    return _less_teacher(found, teacher)


def across_people(student: Found, teacher: Found, kernel: np.ndarray | None, people: People, request: EvaluationRequest) -> Found:
    """Returns how many probes of the student are nearest to their own person in the teacher's gallery."""
    table = projected(student.embedded(people.keys), kernel)
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    table = np.divide(table, lengths, out=np.zeros_like(table), where=lengths > 0)
    table[people.gallery] = teacher.embedded([people.keys[row] for row in people.gallery])
    return _less_teacher(judge_ranks(table, people, request), teacher)


def projected(embeddings: np.ndarray, kernel: np.ndarray | None) -> np.ndarray:
    """Returns embeddings [N, D] in the teacher's space, [N, E]; kernel: [D, E], None where that is theirs."""
    return embeddings if kernel is None else embeddings @ kernel


def _less_teacher(found: Found, teacher: Found) -> Found:
    found.figures.update(found.against(teacher))
    return found
