"""Which rows are held out: by the hash of a name alone, so that it is the same in every set, order and version; and the rows of a part."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pyarrow as pa

from distill.config.data import Holdout
from distill.data.shards import ShardSet
from distill.errors import DistillError

KEYS_AT_A_TIME = 100_000  # keys that are Python strings at a time


@dataclass(frozen=True)
class Part:
    """The rows of a part of a set, group by group.

    groups: (number of the shard, number in that shard) of each row group with rows of the part; sizes: how many it has, int64 [groups];
    rows: which of the group's rows they are, of one group after the other, int16 [sum of sizes], int32 where groups are large.
    """

    groups: list[tuple[int, int]]
    sizes: np.ndarray
    rows: np.ndarray

    @property
    def starts(self) -> np.ndarray:
        """Where the rows of each group begin in `rows`."""
        return np.asarray(np.cumsum(self.sizes) - self.sizes)


def held_out(name: str, fraction: float) -> bool:
    """Returns True for about `fraction` of all names, by the first 8 bytes of blake2b as a number in [0, 1): the same rows whatever the order.

    >>> [held_out(name, 0.5) for name in ("anna", "bea", "carl", "dora")]
    [False, False, True, True]
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") < fraction * 2**64


def mask_of_names(names: Sequence[str], holdout: Holdout) -> np.ndarray:
    """Returns bool [names]: is it held out?"""
    return np.fromiter((held_out(name, holdout.fraction) for name in names), bool, len(names))


def mask_of_set(shards: ShardSet, holdout: Holdout | None) -> list[list[np.ndarray]]:
    """Returns bool [rows] of each row group of each shard: is a row held out?

    Each class name is hashed once, whatever the number of groups. Without a holdout only footers are read, else one column.
    """
    numbers = range(len(shards.records))
    if holdout is None:
        return [[np.zeros(rows, bool) for rows in shards.group_rows(number)] for number in numbers]
    if holdout.by == "key":
        return [[mask_of_names(rows.keys, holdout) for rows in shards.read(number, None, ["key"])] for number in numbers]
    if not shards.labelled:
        raise DistillError(f'{shards.folder} has rows without a label, so holdout by = "identity" is impossible. Use by = "key".')
    classes = mask_of_names(shards.classes, holdout)
    return [[classes[check_labels(rows.labels, shards, number)] for rows in shards.read(number, None, ["label"])] for number in numbers]


def check_labels(labels: np.ndarray, shards: ShardSet, number: int) -> np.ndarray:
    """Returns the labels of rows of shard `number`. DistillError where one is of no class of the set's table."""
    wrong = labels[(labels < 0) | (labels >= len(shards.classes))]
    if len(wrong):
        raise DistillError(
            f"{shards.shards[number]}: label {wrong[0]} is of no class: the class table of {shards.folder} has {len(shards.classes):,}, 0 to "
            f"{len(shards.classes) - 1}. Run distill verify, and embed that chunk again."
        )
    return labels


def mask_of_list(keys: pa.Array, labels: np.ndarray, names: Sequence[str], holdout: Holdout | None) -> np.ndarray:
    """Returns bool [rows]: is a row held out?"""
    if holdout is None:
        return np.zeros(len(keys), bool)
    if holdout.by == "identity":
        return np.asarray(mask_of_names(names, holdout)[labels])
    parts = (keys[start : start + KEYS_AT_A_TIME].to_pylist() for start in range(0, len(keys), KEYS_AT_A_TIME))
    return np.concatenate([mask_of_names(part, holdout) for part in parts])


def rows_of_part(mask: np.ndarray, part: str) -> np.ndarray:
    """Returns the numbers of the rows that belong to the part: "all", "train" or "held_out".

    >>> rows_of_part(np.array([True, False, False]), "train").tolist()
    [1, 2]
    """
    return np.arange(len(mask)) if part == "all" else np.flatnonzero(mask if part == "held_out" else ~mask)


def part_of_set(masks: list[list[np.ndarray]], part: str) -> Part:
    """Returns the rows of the part, from the masks of `mask_of_set`.

    >>> part_of_set([[np.array([False, True, False])], [np.array([True]), np.array([False])]], "train")
    Part(groups=[(0, 0), (1, 1)], sizes=array([2, 1]), rows=array([0, 2, 0], dtype=int16))
    """
    groups, found = list[tuple[int, int]](), [np.empty(0, np.int16)]
    for shard, of_shard in enumerate(masks):
        for number, mask in enumerate(of_shard):
            rows = rows_of_part(mask, part)
            if len(rows):
                groups.append((shard, number))
                found.append(rows.astype(np.int16 if len(mask) <= 2**15 else np.int32))
    return Part(groups, np.array([len(rows) for rows in found[1:]], np.int64), np.concatenate(found))


def labels_of_part(shards: ShardSet, part: Part) -> np.ndarray:
    """Returns the labels of the rows of a part, int32 [rows]; errors as of `check_labels`. Each shard is opened once."""
    found, rows = [np.empty(0, np.int32)], iter(np.split(part.rows, part.starts[1:]))
    for shard, groups in groupby(part.groups, key=lambda group: group[0]):
        read = shards.read(shard, [number for _, number in groups], ["label"])
        found += [check_labels(group.labels, shards, shard)[next(rows)] for group in read]
    return np.concatenate(found)


def no_rows(where: object, part: str, rows: int, holdout: Holdout | None) -> DistillError:
    """Returns the error of a part that has none of the `rows` there are."""
    if holdout is None:
        return DistillError(f"{where} has no rows.")
    share = f"{holdout.fraction:g} by {holdout.by}"
    left = f"holds out none of {rows:,} rows" if part == "held_out" else f"holds out all {rows:,} rows and leaves none to learn from"
    return DistillError(f"{where}: holdout of {share} {left}. Use a {'larger' if part == 'held_out' else 'smaller'} fraction.")
