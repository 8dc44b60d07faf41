"""What `--pairs` names, opened: a folder of class folders that pairs are drawn from, a `.bin` file, or a text list of pairs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from distill.errors import DistillError
from distill.evaluation.bin_file import read_bin
from distill.evaluation.folds import FOLDS
from distill.evaluation.pair_lists import read_pair_list
from distill.evaluation.pairs import Pairs, draw_pairs
from distill.runtime.lines import many
from distill.storage.path import StoragePath, as_path, close_to


@dataclass(frozen=True)
class PairSet:
    """Pairs, and how their images are read.

    Attributes:
        name: what was given, for people and for evaluation.json.
        pairs: of keys that `read` knows.
        read: key -> encoded bytes; raises BadImage.
        identities: who is on each side of each pair; None where that is not known.
        folds: contiguous parts of the pairs that accuracy is taken over.
        root: the folder of the images, None where they are in a file.
    """

    name: str
    pairs: Pairs
    read: Callable[[str], bytes]
    identities: tuple[tuple[str, ...], tuple[str, ...]] | None
    folds: int = FOLDS
    root: StoragePath | None = None


def drawn_set(folder: str | StoragePath, number: int | None = None, seed: int = 0) -> PairSet:
    """Returns the pairs that `draw_pairs` draws from a folder of class folders."""
    return folder_set(folder, draw_pairs(folder, number, seed))


def folder_set(folder: str | StoragePath, pairs: Pairs) -> PairSet:
    """Returns pairs of the images of a folder of class folders, each an identity."""
    sides = tuple(key.split("/")[0] for key in pairs.first), tuple(key.split("/")[0] for key in pairs.second)
    return PairSet(str(folder), pairs, partial(_read, str(folder)), sides, FOLDS, as_path(folder))


def open_pairs(given: Sequence[StoragePath], root: StoragePath | None = None, number: int | None = None, seed: int = 0) -> tuple[PairSet, ...]:
    """Returns the sets of pairs that paths name.

    Args:
        given: folders of class folders, `.bin` files, text lists.
        root: the folder of the images of text lists; None: that of each list.
        number, seed: of the pairs that are drawn from folders.

    Raises:
        DistillError: a path is none of these, names images that are missing, or has not pairs of both kinds; an option has nothing to say.
    """
    if (twice := next((path for row, path in enumerate(given) if path in given[:row]), None)) is not None:
        raise DistillError(f"--pairs {twice} is given twice. Give each once.")
    if number is not None and given and not any(path.is_dir() for path in given):
        raise DistillError(f"--number {number} says how many pairs are drawn from a folder; {given[0]} names its own. Leave it out.")
    found = tuple(_open(path, root, number, seed) for path in given)
    if root is not None and not any(one.root is not None and not as_path(one.name).is_dir() for one in found):
        raise DistillError(f"--pairs-root {root} names the images of a text list of pairs, and none is given. Leave it out.")
    for one in found:
        _check_kinds(one)
    return found


def _open(path: StoragePath, root: StoragePath | None, number: int | None, seed: int) -> PairSet:
    if path.is_dir():
        return drawn_set(path, number, seed)
    if not path.is_file():
        raise DistillError(f"{path}: no folder and no file.{close_to(path)} Expected a folder of class folders, a .bin file, or a text list of pairs.")
    if path.suffix.lower() == ".bin":
        images, same = read_bin(path)
        named = {f"image {row}": image for row, image in enumerate(images)}
        keys = tuple(named)
        return PairSet(str(path), Pairs(keys[::2], keys[1::2], same), named.__getitem__, None)
    root = path.parent if root is None else root
    found = read_pair_list(path, root)
    return PairSet(str(path), found.pairs, partial(_read, str(root)), found.identities, found.folds or FOLDS, root)


def _read(root: str, key: str) -> bytes:
    from distill.data.archives.reader import read_bytes

    return read_bytes(root, key)


def _check_kinds(found: PairSet) -> None:
    """Raises DistillError where a set has no figure: too few pairs, or pairs of one kind alone."""
    genuine = int(found.pairs.same.sum())
    impostors = len(found.pairs) - genuine
    if not genuine or not impostors:
        known = "" if found.identities is None else f", of {many(len({*found.identities[0], *found.identities[1]}), 'identities')}"
        raise DistillError(f"{found.name}: {genuine:,} genuine and {impostors:,} impostor pairs{known}: figures need some of each. Give other pairs.")
