"""What `distill evaluate` finds out: models on the same pairs and the same rows of shards, and the files that the report reads.

    OUT/evaluation.json           {"model": {"path", "pairs", "agreement"}, "teacher": {...}}
    OUT/scores-<who>.npz          scores, same, first, second of the pairs; cosines of the agreement
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from distill.config import Holdout
from distill.evaluate import Model, Pairs, evaluate_pairs, evaluate_shards
from distill.files import committed, write_json
from distill.shards import open_shards
from distill.sources import ShardSource


@dataclass(frozen=True)
class Question:
    """What models are asked. folder and pairs: verification; shards: agreement, on the rows that `holdout` kept from training."""

    folder: Path | None = None
    pairs: Pairs | None = None
    shards: Path | None = None
    holdout: Holdout | None = None
    root: str | None = None
    resize: str = "none"
    size: tuple[int, int] | None = None
    out: Path | None = None


def judge(models: Mapping[str, tuple[str, Callable[[], Model]]], question: Question) -> dict[str, Any]:
    """{who: figures} of {who: (path, how to load it)}, each model loaded when its turn comes."""
    result = {who: _judge_one(who, path, load(), question) for who, (path, load) in models.items()}
    if question.out is not None:
        write_json(question.out / "evaluation.json", result)
    return result


def _judge_one(who: str, path: str, model: Model, asked: Question) -> dict[str, Any]:
    found: dict[str, Any] = {"path": path}
    arrays: dict[str, Any] = {}
    if asked.pairs is not None and asked.folder is not None:
        judged = evaluate_pairs(model, asked.folder, asked.pairs, resize=asked.resize, size=asked.size)
        found["pairs"] = {"folder": str(asked.folder), **judged.verification.as_dict()}
        arrays |= {"scores": judged.scores, "same": asked.pairs.same, "first": asked.pairs.first, "second": asked.pairs.second}
    if asked.shards is not None:
        dimension = open_shards(asked.shards).dimension
        if dimension != model.dimension:
            reason = f"it gives {model.dimension} numbers, the shards hold {dimension}; the projection between them is not part of a student"
            found["agreement_left_out"] = reason
        else:
            part = "held_out" if asked.holdout else "all"
            source = ShardSource(asked.shards, batch=256, seed=0, part=part, holdout=asked.holdout, root=asked.root, views="plain")
            agreement = evaluate_shards(model, source)
            part = "held-out rows" if asked.holdout else "all rows"
            found["agreement"] = {"shards": str(asked.shards), "part": part, **agreement.as_dict()}
            arrays |= {"cosines": agreement.cosines}
    if asked.out is not None:
        asked.out.mkdir(parents=True, exist_ok=True)
        with committed(asked.out / f"scores-{who}.npz") as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
    return found


def in_words(result: Mapping[str, Any]) -> str:
    """A line or two for each model."""
    lines = []
    for who, judged in result.items():
        if found := judged.get("pairs"):
            tars = ", ".join(f"TAR {point['tar']:.1%} at FAR {far}" for far, point in found["tar"].items())
            number = found["genuine"] + found["impostors"]
            lines.append(f"{who:>8}: {found['accuracy']:.2%} +- {found['std']:.2%} of {number:,} pairs right, {tars}")
        if found := judged.get("agreement"):
            low = found["quantiles"]["5"]
            lines.append(f"{who:>8}: mean cosine to the stored embeddings {found['mean']:.4f} over {found['rows']:,} rows ({found['part']}), 5 % below {low:.4f}")
        if reason := judged.get("agreement_left_out"):
            lines.append(f"{who:>8}: no agreement: {reason}")
    return "\n".join(lines)
