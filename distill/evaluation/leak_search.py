"""What `distill evaluate` says of leaks: which images it takes for the evaluation's, who embeds them, and the figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from distill.data.archives.reader import read_bytes
from distill.data.shards import ShardSet
from distill.evaluation.leaks import BOUND, Evaluated, Leak, distinct, find_leaks
from distill.evaluation.request import Bar, EvaluationRequest
from distill.storage.path import as_path, is_remote
from distill.training.origin import trained_names

LISTED = 1000  # that are named of each kind


@dataclass(frozen=True)
class Looker:
    """Who has embedded the images of an evaluation.

    Attributes:
        who: the name of the model.
        tables: of each set of pairs and of the people, float32 [N, D], in the space of the set's embeddings.
        close: the median of its cosines to these; None of the model that made them.
    """

    who: str
    tables: Sequence[np.ndarray]
    close: float | None = None


def leak_figures(shards: ShardSet, request: EvaluationRequest, looker: Looker | str, bar: Bar) -> dict[str, Any]:
    """Returns what an evaluation shows of the rows of a set, less those that the holdout keeps from training.

    Args:
        looker: who has embedded the images of the evaluation; or why there is nobody.

    Returns:
        "identities", "equal_files" and "near_duplicates", each {"number", "named": up to LISTED} or {"left_out": why}; the bound; on how many rows and images.
    """
    holdout = None if request.holdout is not None and request.holdout.by == "identity" and not shards.labelled else request.holdout
    part, bound = "rows that were not held out" if holdout else "all rows", bound_of(request)
    found: dict[str, Any] = {"shards": str(request.shards), "part": part, "bound": bound, "identities": _identities(shards, request)}
    if reason := _not_looked(request):
        return {**found, "equal_files": {"left_out": reason}, "near_duplicates": {"left_out": reason}}
    with bar("leaks") as progress:
        evaluated = _evaluated(request, None if isinstance(looker, str) else looker.tables)
        leaks = find_leaks(shards, holdout, evaluated, bound, progress)
    near: dict[str, Any] = {"left_out": looker}
    if not isinstance(looker, str) and leaks.near is not None:
        near = {"by": looker.who, **({} if looker.close is None else {"close": looker.close}), **_named(leaks.near)}
    return {**found, "rows": leaks.rows, "images": len(evaluated), "equal_files": _named(leaks.equal), "near_duplicates": near}


def _not_looked(request: EvaluationRequest) -> str:
    """Returns why not all rows of the set are read, "" where they are."""
    if request.leaks is None and is_remote(request.shards):
        return "the set lies in an object store, and all of it would be read: --leaks does so"
    return "--no-leaks" if request.leaks is False else ""


def bound_of(request: EvaluationRequest) -> float:
    """Returns the cosine from which on two pictures are the same."""
    return BOUND if request.leak_bound is None else request.leak_bound


def _identities(shards: ShardSet, request: EvaluationRequest) -> dict[str, Any]:
    sides = [pair_set.identities for pair_set in request.sets if pair_set.identities is not None]
    shown = {name for both in sides for side in both for name in side} | (request.people.identities if request.people is not None else set())
    if not shown:
        return {"left_out": "whom the pairs show is not known"}
    if not shards.labelled:
        return {"left_out": "rows of the set have no label"}
    both = sorted(shown & trained_names(shards.classes, request.holdout))
    return {"number": len(both), "named": both[:LISTED], "shown": len(shown)}


def _evaluated(request: EvaluationRequest, tables: Sequence[np.ndarray] | None) -> Evaluated:
    """Returns the images of all sets of pairs and of the people, called by their keys, and by their sets where there are several."""
    sources: list[tuple[str, Sequence[str], Callable[[str], bytes]]] = [(one.name, one.pairs.keys(), one.read) for one in request.sets]
    if request.people is not None:
        sources.append((request.people.name, request.people.keys, partial(read_bytes, request.people.name)))
    names = [key if len(sources) == 1 else f"{as_path(name).name}: {key}" for name, keys, _ in sources for key in keys]
    files = (read(key) for _, keys, read in sources for key in keys)
    return distinct(names, files, None if tables is None else np.concatenate(tables))


def _named(leaks: Sequence[Leak]) -> dict[str, Any]:
    return {"number": len(leaks), "named": [leak.__dict__ for leak in leaks[:LISTED]]}
