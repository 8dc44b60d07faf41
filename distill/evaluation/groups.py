"""Figures of each group of identities, the worst first: `--groups FILE`, a line IDENTITY<TAB>GROUP for each identity.

Of a group are the pairs whose two identities are both in it, in their order: genuine pairs of its people, and impostor pairs that are hard because the two are
of one group (as in RFW). Pairs across groups are of none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from distill.errors import DistillError
from distill.evaluation.folds import FOLDS
from distill.evaluation.identification import People
from distill.evaluation.pair_sets import PairSet
from distill.evaluation.verification import verify_pairs
from distill.storage.path import StoragePath, close_to

LEFT_OUT = ("best", "tar", "folds")  # of the figures of all pairs, what is not said of a group


def read_groups(path: StoragePath, sets: Sequence[PairSet], people: People | None = None) -> dict[str, str]:
    """Returns {identity: group} of a text file.

    Raises:
        DistillError: a line is none, names an identity twice, or one whom neither pairs nor folders show; or nobody's identity is known.
    """
    known = [one for one in sets if one.identities is not None]
    if not known and people is None:
        what = f"whom {sets[0].name} shows is not known" if sets else "groups are of the identities of --pairs or --identify"
        raise DistillError(f"--groups {path}: {what}. Leave it out, or give pairs of a folder of class folders or of a list with names.")
    if not path.is_file():
        raise DistillError(f"--groups {path}: no such file.{close_to(path)} Expected text, IDENTITY<TAB>GROUP on each line.")
    groups: dict[str, str] = {}
    lines: dict[str, int] = {}
    for number, line in enumerate(_text(path).split("\n"), 1):
        if not line.strip():
            continue
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != 2 or not all(fields):
            raise DistillError(f"--groups {path}: line {number} is {line.strip()[:80]!r}. Expected IDENTITY<TAB>GROUP.")
        name, group = fields
        if name in groups and groups[name] != group:
            raise DistillError(f"--groups {path}: line {number} says {name} is of {group}, line {lines[name]} says {groups[name]}. Give each identity once.")
        groups[name], lines[name] = group, number
    if not groups:
        raise DistillError(f"--groups {path} is empty. Expected IDENTITY<TAB>GROUP on each line.")
    _check_known(path, lines, known, people)
    return groups


def _text(path: StoragePath) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DistillError(f"--groups {path} is no text in UTF-8. Expected IDENTITY<TAB>GROUP on each line.") from None


def _check_known(path: StoragePath, lines: Mapping[str, int], known: Sequence[PairSet], people: People | None) -> None:
    shown = set() if people is None else people.identities
    for one in known:
        shown.update(*(one.identities or ()))
    roots = [one.root for one in known if one.root is not None]
    strange = [name for name in lines if name not in shown and not any((root / name).is_dir() for root in roots)]
    if strange:
        more = f", and {len(strange) - 1:,} more that are not known" if len(strange) > 1 else ""
        raise DistillError(f"--groups {path}: line {lines[strange[0]]} names {strange[0]!r}, whom neither the pairs nor their folder show{more}.")


def figures_of_groups(scores: np.ndarray, same: np.ndarray, pair_set: PairSet, groups: Mapping[str, str], threshold: float) -> list[dict[str, Any]]:
    """Returns the figures of each group, the lowest accuracy first; groups without figures come last, with the reason.

    Beside the figures of all pairs, taken on the group's own, stand those at the threshold of all pairs: "at_threshold" with accuracy, far and tar.
    """
    if pair_set.identities is None:
        return []
    sides = [[groups.get(name) for name in side] for side in pair_set.identities]
    rows: dict[str, list[int]] = {group: [] for group in groups.values()}
    for row, (one, two) in enumerate(zip(*sides, strict=True)):
        if one is not None and one == two:
            rows[one].append(row)
    found = [_of_group(group, scores[own], same[own], pair_set.folds, threshold) for group, own in rows.items()]
    return sorted(found, key=lambda one: (one.get("accuracy", 2.0), one["group"]))


def _of_group(group: str, scores: np.ndarray, same: np.ndarray, folds: int, threshold: float) -> dict[str, Any]:
    genuine = int(same.sum())
    if len(same) < 4 or genuine in (0, len(same)):
        return {"group": group, "left_out": f"{genuine:,} genuine and {len(same) - genuine:,} impostor pairs; some of each are needed, and 4 in all"}
    figures = {name: value for name, value in verify_pairs(scores, same, folds or FOLDS).as_dict().items() if name not in LEFT_OUT}
    accepted = scores >= threshold
    at = {"accuracy": float(np.mean(accepted == same)), "far": float(accepted[~same].mean()), "tar": float(accepted[same].mean())}
    return {"group": group, **figures, "at_threshold": at}


def ranks_of_groups(found: np.ndarray, names: Iterable[str], groups: Mapping[str, str]) -> list[dict[str, Any]]:
    """Returns the share of probes that were found of each group, the lowest first. names: whose probe each is."""
    hits: dict[str, list[bool]] = {}
    for hit, name in zip(found.tolist(), names, strict=True):
        if name in groups:
            hits.setdefault(groups[name], []).append(hit)
    return sorted(
        ({"group": group, "rank1": sum(own) / len(own), "probes": len(own)} for group, own in hits.items()), key=lambda one: (one["rank1"], one["group"])
    )
