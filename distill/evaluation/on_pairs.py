"""A model on sets of pairs and on people: its figures as evaluation.json holds them, with intervals, and the arrays behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from distill.evaluation.embed import Model, embed_images, spec_for
from distill.evaluation.groups import figures_of_groups, ranks_of_groups
from distill.evaluation.identification import People, identify
from distill.evaluation.intervals import MOST_PAIRS, RESAMPLES, Design, Resampled, drawn_shares, resample
from distill.evaluation.pair_sets import PairSet
from distill.evaluation.probe import Labelled, probe
from distill.evaluation.request import Bar, EvaluationRequest
from distill.evaluation.verification import ALL_FARS, Verification, evaluate_pairs
from distill.storage.path import as_path


@dataclass(frozen=True)
class Found:
    """What a model is worth on a set of pairs, or on people.

    figures: for evaluation.json; arrays: for the file of scores; again: the figures of what was drawn again, None where nothing was; keys, embeddings: of
    the images, each once, float32 [N, D].
    """

    figures: dict[str, Any]
    arrays: dict[str, np.ndarray]
    again: Resampled | None = None
    keys: tuple[str, ...] = ()
    embeddings: np.ndarray | None = None

    @property
    def dimension(self) -> int:
        return 0 if self.embeddings is None else self.embeddings.shape[1]

    def embedded(self, keys: Sequence[str]) -> np.ndarray:
        """Returns the embedding of each key, float32 [len(keys), D]."""
        if self.embeddings is None:
            raise ValueError("no embeddings were kept")
        place = {key: row for row, key in enumerate(self.keys)}
        return self.embeddings[[place[key] for key in keys]]

    def against(self, other: Found, key: str = "minus_teacher") -> dict[str, Any]:
        """Returns {key: the differences to another model on the same pairs}, which were drawn again in the same way; {} where nothing was."""
        return {} if self.again is None or other.again is None else {key: self.again.minus(other.again)}


def judge_pairs(who: str, model: Model, pair_set: PairSet, request: EvaluationRequest, bar: Bar) -> Found:
    """Returns what a model is worth on a set of pairs."""
    label = f"{who}: pairs" if len(request.sets) == 1 else f"{who}: {as_path(pair_set.name).name}"
    with bar(label) as progress:
        one = evaluate_pairs(
            model,
            pair_set.name,
            pair_set.pairs,
            folds=pair_set.folds,
            resize=request.resize,
            size=request.size,
            exif=request.exif,
            progress=progress,
            read=pair_set.read,
            flip=request.flip,
        )
    return replace(judge_scores(one.scores, one.verification, pair_set, request), keys=one.keys, embeddings=one.embeddings)


def judge_scores(scores: np.ndarray, verification: Verification, pair_set: PairSet, request: EvaluationRequest) -> Found:
    """Returns what scores of a set of pairs are worth, whoever gave them; verification: their figures."""
    pairs, curve = pair_set.pairs, verification.curve.corners()
    arrays = {"scores": scores, "same": pairs.same, "first": np.array(pairs.first), "second": np.array(pairs.second)}
    arrays |= {"roc_far": curve.far, "roc_tar": curve.tar, "roc_thresholds": curve.thresholds}
    figures = {"folder": pair_set.name, **_flipped(request), **verification.as_dict()}
    if request.groups is not None:
        figures["groups"] = figures_of_groups(scores, pairs.same, pair_set, request.groups, verification.threshold)
    number = _resamples(request, len(pairs))
    if not number:
        return Found(figures, arrays)
    design = Design.of(pairs.same, verification.folds, pair_set.identities, number)
    again = resample(scores, design, _rates(verification))
    return Found({**figures, "intervals": {"of": design.by, "resamples": number, "figures": again.intervals()}}, arrays, again)


def judge_people(who: str, model: Model, people: People, request: EvaluationRequest, bar: Bar) -> Found:
    """Returns how many photos of people a model finds; intervals are of drawing those again who are looked for, among the same gallery."""
    with bar(f"{who}: identities") as progress:
        spec = spec_for(model, request.resize, request.size, request.exif)
        embeddings = embed_images(model, people.name, people.keys, spec, progress=progress, flip=request.flip)
    return replace(judge_ranks(embeddings, people, request), keys=people.keys, embeddings=embeddings)


def judge_ranks(embeddings: np.ndarray, people: People, request: EvaluationRequest) -> Found:
    """Returns whom embeddings [N, D] of the images of people find, whoever gave them."""
    one = identify(embeddings, people)
    figures, arrays = {"folder": people.name, **_flipped(request), **one.as_dict()}, {"identified": one.found}
    if request.groups is not None:
        probes = np.setdiff1d(np.arange(len(people.keys)), people.gallery)
        figures["groups"] = ranks_of_groups(one.found, (people.keys[probe].split("/")[0] for probe in probes), request.groups)
    number = _resamples(request, len(one.found))
    if not number:
        return Found(figures, arrays)
    again = drawn_shares("rank1", one.found, one.numbers, number)
    return Found({**figures, "intervals": {"of": "identities", "resamples": number, "figures": again.intervals()}}, arrays, again)


def judge_probe(who: str, model: Model, labelled: Labelled, request: EvaluationRequest, bar: Bar) -> Found:
    """Returns how many images a linear classifier on a model's embeddings names; intervals are of drawing again whose images are held out."""
    with bar(f"{who}: probe") as progress:
        figures, right, numbers = probe(labelled, model, request, progress)
    figures, arrays, number = {**figures, **_flipped(request)}, {"probed": right}, _resamples(request, len(right))
    if not number:
        return Found(figures, arrays)
    again = drawn_shares("accuracy", right, numbers, number)
    return Found({**figures, "intervals": {"of": "identities", "resamples": number, "figures": again.intervals()}}, arrays, again)


def _resamples(request: EvaluationRequest, pairs: int) -> int:
    return (RESAMPLES if pairs <= MOST_PAIRS else 0) if request.resamples is None else request.resamples


def _rates(found: Verification) -> tuple[float, ...]:
    """Returns the rates that have a TAR."""
    return tuple(far for far, point in zip(ALL_FARS, found.tars["conservative"], strict=True) if point.tar is not None)


def _flipped(request: EvaluationRequest) -> dict[str, Any]:
    return {"flip": True} if request.flip else {}
