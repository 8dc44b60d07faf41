"""What `distill evaluate` says of leaks: which images it takes for the evaluation's, who embeds them, and the figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from distill.data.archives.reader import read_bytes
from distill.data.shards import ShardSet
from distill.evaluation.leaks import BOUND, Evaluated, Leak, distinct, find_leaks
from distill.evaluation.request import Bar, EvaluationRequest
from distill.storage.path import as_path
from distill.training.origin import trained_names

LISTED = 1000  # that are named of each kind


def leak_figures(shards: ShardSet, request: EvaluationRequest, tables: Sequence[np.ndarray] | str, bar: Bar) -> dict[str, Any]:
    """Returns what an evaluation shows of the rows of a set, less those that the holdout keeps from training.

    Args:
        tables: the embeddings of the images of each set of pairs and of the people, in the space of the set's; or why there are none.

    Returns:
        "identities", "equal_files" and "near_duplicates", each {"number", "named": up to LISTED} or {"left_out": why}; the bound; on how many rows and images.
    """
    part, bound = "rows that were not held out" if request.holdout else "all rows", request.leak_bound or BOUND
    found: dict[str, Any] = {"shards": str(request.shards), "part": part, "bound": bound, "identities": _identities(shards, request)}
    if not request.leaks:
        return {**found, "equal_files": {"left_out": "--no-leaks"}, "near_duplicates": {"left_out": "--no-leaks"}}
    with bar("leaks") as progress:
        evaluated = _evaluated(request, None if isinstance(tables, str) else tables)
        leaks = find_leaks(shards, request.holdout, evaluated, bound, progress)
    near = {"left_out": tables} if leaks.near is None else _named(leaks.near)
    return {**found, "rows": leaks.rows, "images": len(evaluated), "equal_files": _named(leaks.equal), "near_duplicates": near}


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
