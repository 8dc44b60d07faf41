"""Lists of pairs as text: LFW's own `pairs.txt`, and lines of two paths and 0 or 1. Everything that is wrong with one is said with its line.

10<TAB>300                                 folds, and pairs of each kind in a fold; or one number: pairs of each kind
Abel_Pacheco<TAB>1<TAB>4                   Abel_Pacheco/Abel_Pacheco_0001.jpg and _0004.jpg: the same person
Abdel_Madi<TAB>1<TAB>Dean_Barker<TAB>1     two people

people/anna/1.jpg<TAB>people/bea/7.jpg<TAB>0
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from distill.errors import Damaged, DistillError
from distill.evaluation.pairs import Pairs
from distill.storage.path import StoragePath

_HEADER = re.compile(r"(\d+)(?:\s+(\d+))?\s*")
_EXPECTED = "Expected PATH<TAB>PATH<TAB>1 (0 for two people) on each line, or LFW's pairs.txt, whose first line has the number of folds and of pairs"
SUFFIXES = (".jpg", ".png", ".jpeg", ".JPG", ".bmp", ".webp")


@dataclass(frozen=True)
class PairList:
    """The pairs of a list in its order, who is on each side where that is known, and the folds that it names."""

    pairs: Pairs
    identities: tuple[tuple[str, ...], tuple[str, ...]] | None
    folds: int | None = None


def read_pair_list(path: StoragePath, root: StoragePath) -> PairList:
    """Returns the pairs of a text list, whose images lie in `root`.

    Identities are LFW's names; in a list of paths the folders of the images, if all pairs agree with them.

    Raises:
        DistillError: a line is none of those above, or names an image that is not in a local `root`.
        Damaged: there are other pairs than LFW's first line says.
    """
    lines = _lines(path)
    header = _HEADER.fullmatch(lines[0][1])
    rows = lines if header is None else lines[1:]
    found = _paths(path, rows) if header is None else _lfw(path, root, rows, header[1], header[2])
    _check_images(path, root, found.pairs, [number for number, _ in rows])
    return found


def _lines(path: StoragePath) -> list[tuple[int, str]]:
    """Returns (number from 1, text) of each line that is not blank."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DistillError(f"{path} is no text in UTF-8. {_EXPECTED}; or a .bin file, or a folder of class folders.") from None
    lines = [(number, line.removesuffix("\r")) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise DistillError(f"{path} is empty. {_EXPECTED}.")
    return lines


def _lfw(path: StoragePath, root: StoragePath, lines: list[tuple[int, str]], folds: str, number: str | None) -> PairList:
    expected = 2 * int(folds) * int(number or 1)
    if len(lines) != expected:
        raise Damaged(f"{path}: its first line promises {expected:,} pairs, {len(lines):,} are there. Copy it again.")
    sides: list[tuple[str, str, str, str]] = []
    for at, line in lines:
        fields = line.split("\t") if "\t" in line else line.split()
        fields = [fields[0], fields[1], fields[0], fields[2]] if len(fields) == 3 else fields
        if len(fields) != 4 or not (fields[1].strip().isdecimal() and fields[3].strip().isdecimal()):
            raise DistillError(
                f"{path}: line {at} is {line[:80]!r}. Expected NAME<TAB>NUMBER<TAB>NUMBER, or NAME<TAB>NUMBER<TAB>NAME<TAB>NUMBER for two people."
            )
        one, first, two, second = (field.strip() for field in fields)
        sides.append((one, first, two, second))
    keys = [(f"{one}/{one}_{int(first):04d}", f"{two}/{two}_{int(second):04d}") for one, first, two, second in sides]
    suffix = next((suffix for suffix in SUFFIXES if (root / f"{keys[0][0]}{suffix}").is_file()), SUFFIXES[0])
    ones, twos = (tuple(key[side] + suffix for key in keys) for side in (0, 1))
    people = tuple(one for one, *_ in sides), tuple(two for _, _, two, _ in sides)
    same = np.array([one == two for one, two in zip(*people, strict=True)], bool)
    return PairList(Pairs(ones, twos, same), people, int(folds) if number and int(folds) > 1 else None)


def _paths(path: StoragePath, lines: list[tuple[int, str]]) -> PairList:
    first, second, same = [], [], []
    for at, line in lines:
        fields = [field.strip() for field in line.split("\t")]
        if len(fields) != 3 or fields[2] not in ("0", "1") or not fields[0] or not fields[1]:
            raise DistillError(f"{path}: line {at} is {line[:80]!r}. {_EXPECTED}.")
        first.append(fields[0])
        second.append(fields[1])
        same.append(fields[2] == "1")
    people = tuple(key.rpartition("/")[0] for key in first), tuple(key.rpartition("/")[0] for key in second)
    agree = all((one == two) == answer and one and two for one, two, answer in zip(*people, same, strict=True))
    return PairList(Pairs(tuple(first), tuple(second), np.array(same, bool)), people if agree else None)


def _check_images(path: StoragePath, root: StoragePath, pairs: Pairs, numbers: list[int]) -> None:
    """Raises DistillError for images that are not in a local root; those of a store are missed when they are read."""
    if not root.is_dir():
        raise DistillError(f"{root}: no such folder, so the images of {path} cannot be read. Name their folder with --pairs-root.")
    if not isinstance(root, Path):
        return
    missing = {key for key in (*pairs.first, *pairs.second) if not os.path.isfile(root / key)}
    if missing:
        row = next(row for row, both in enumerate(zip(pairs.first, pairs.second, strict=True)) if missing & set(both))
        key = pairs.first[row] if pairs.first[row] in missing else pairs.second[row]
        more = f", nor are {len(missing) - 1:,} more" if len(missing) > 1 else ""
        raise DistillError(
            f"{path}: line {numbers[row]} names {key}, which is not in {root}{more}. Mend the list, or name the folder that has them with --pairs-root."
        )
