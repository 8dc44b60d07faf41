"""What `distill evaluate` is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distill.config.data import Holdout
from distill.evaluation.embed import Progress
from distill.evaluation.identification import People
from distill.evaluation.on_templates import TemplateSet
from distill.evaluation.pair_sets import PairSet
from distill.storage.path import StoragePath

if TYPE_CHECKING:
    from distill.evaluation.probe import Labelled


@dataclass(frozen=True)
class EvaluationRequest:
    """What to evaluate, and how images become embeddings.

    Attributes:
        sets: pairs, for verification of each.
        people: for identification.
        shards: for agreement, on the rows that `holdout` kept from training; `root` has the images where the shards have none.
        resize, size, exif: how images are brought to the size of a model.
        flip: whether embeddings on pairs and people are sums with those of mirrored images.
        resamples: how often pairs are drawn again for intervals; None: RESAMPLES, of large sets not at all.
        groups: the group of each identity, for figures of each group.
        out: where the files are written, None for nowhere.
        cost: (loaded model) -> its bytes, parameters and operations; None: these are not told.
        latency: (name of a model, progress) -> how long it takes; None: that is not told. DistillError where it cannot be.
        probe: labelled images, for a linear classifier on the embeddings of each model.
        reference: the name of the model that differences are to; where there is none of this name there are no differences.
        leaks: whether all rows of the shards are looked through for files and pictures of the evaluation, None: of a set on this machine; leak_bound: the
            cosine from which on two pictures are the same, None: BOUND of `evaluation.leaks`; made_by: the name of the model that made the shards, None where
            it is none of these.
        templates: of several images each, and pairs of them.
    """

    sets: tuple[PairSet, ...] = ()
    shards: StoragePath | None = None
    holdout: Holdout | None = None
    root: str | None = None
    resize: str = "none"
    size: tuple[int, int] | None = None
    out: StoragePath | None = None
    exif: str = "ignore"
    people: People | None = None
    flip: bool = False
    resamples: int | None = None
    groups: Mapping[str, str] | None = None
    reference: str = "teacher"
    probe: Labelled | None = None
    cost: Callable[[Any], dict[str, Any]] | None = None
    latency: Callable[[str, Progress], dict[str, Any]] | None = None
    leaks: bool | None = None
    leak_bound: float | None = None
    made_by: str | None = None
    templates: TemplateSet | None = None


Bar = Callable[[str], AbstractContextManager[Progress]]  # (label) -> a context that gives a function of (done, of)


def silent(label: str) -> AbstractContextManager[Progress]:
    """Shows nothing."""
    return nullcontext(lambda done, of: None)
