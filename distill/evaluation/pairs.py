"""Pairs of images for verification. A set of pairs depends on the keys of the folder, the number and the seed alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isqrt

import numpy as np

from distill.errors import DistillError
from distill.runtime.lines import many
from distill.storage.path import StoragePath, as_path


@dataclass(frozen=True)
class Pairs:
    """Pairs of keys: `first[i]` and `second[i]` show one person where `same[i]`. Keys are relative to the folder of the pairs."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    same: np.ndarray  # bool [N]

    def __len__(self) -> int:
        return len(self.first)

    def keys(self) -> list[str]:
        """Returns each key once, in order of first appearance."""
        return list(dict.fromkeys(key for pair in zip(self.first, self.second, strict=True) for key in pair))


NUMBER = 6000  # pairs that are drawn by default, as in LFW


def draw_pairs(folder: str | StoragePath, number: int | None = None, seed: int = 0) -> Pairs:
    """Returns pairs from a folder of class folders: half genuine, half impostors, alternating (genuine first).

    No pair comes twice and none pairs an image with itself. Identities count alike, however many images they have: genuine pairs
    are spread over identities, impostor pairs over pairs of identities, as evenly as their images allow. Alternating makes each of
    the contiguous folds of the LFW protocol balanced, as LFW's own list is (300 + 300 in each of ten).
    `number` is even; None takes NUMBER, or as many as there are. Raises DistillError when the folder has too few images.
    """
    if number is not None and (number < 2 or number % 2):
        raise DistillError(f"pairs: {number} asked for; half of them are genuine, so it must be an even number of at least 2.")
    keys, labels = list_images(folder)
    order = np.argsort(labels, kind="stable")
    sizes = np.bincount(labels)
    images = [group.tolist() for group in np.split(order, np.cumsum(sizes)[:-1])]
    sizes = sizes.astype(np.int64)
    genuine_room, impostor_room = int((sizes * (sizes - 1) // 2).sum()), int((sizes.sum() ** 2 - (sizes**2).sum()) // 2)
    most = min(genuine_room, impostor_room)
    if not most:
        lacking = "none has two images, so there is no genuine pair" if not genuine_room else "there is no second one, so there is no impostor pair"
        raise DistillError(f"{folder}: {many(len(keys), 'images')} of {many(int((sizes > 0).sum()), 'identities')}: {lacking}. Give a larger folder.")
    number = min(NUMBER, 2 * most) if number is None else number
    rng = np.random.default_rng([seed, number])
    if number // 2 > most:
        raise DistillError(
            f"{folder}: {many(len(keys), 'images')} of {many(int((sizes > 0).sum()), 'identities')} make {genuine_room} genuine and {impostor_room} impostor "
            f"pairs, {number // 2} of each were asked for. Ask for at most {2 * most} pairs or give a larger folder."
        )
    genuine = list(_draw_genuine(images, sizes, number // 2, rng))
    impostors = list(_draw_impostors(images, sizes, number // 2, rng))
    drawn = [pair for both in zip(_shuffled(genuine, rng), _shuffled(impostors, rng), strict=True) for pair in both]
    same = np.tile([True, False], number // 2)
    return Pairs(tuple(keys[one] for one, _ in drawn), tuple(keys[two] for _, two in drawn), same)


def list_images(folder: str | StoragePath) -> tuple[list[str], np.ndarray]:
    """Returns all keys of a folder of class folders and their class numbers int32, in the order of the image list."""
    from distill.data.lists.image_list import open_list

    if not as_path(folder).is_dir():
        raise DistillError(f"{folder}: no folder. Expected one that holds a folder for each identity.")
    keys: list[str] = []
    labels: list[np.ndarray] = []
    images = open_list(folder)
    if not images.classes:
        raise DistillError(f"{folder}: the photos lie in no folders, so nobody knows who is on them. Expected a folder for each identity.")
    for names, numbers in images.batches(100_000):
        keys.extend(names)
        labels.append(np.asarray(numbers))
    return keys, np.concatenate(labels)


def _shuffled(pairs: list, rng: np.random.Generator) -> list:
    return [pairs[place] for place in rng.permutation(len(pairs))]


def _draw_genuine(images: list[list[int]], sizes: np.ndarray, number: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    able = np.flatnonzero(sizes > 1)
    for at, inside in _spread(len(able), lambda group: int(sizes[able[group]] * (sizes[able[group]] - 1) // 2), number, rng):
        one, two = _triangle(inside)
        group = images[able[at]]
        yield group[one], group[two]


def _draw_impostors(images: list[list[int]], sizes: np.ndarray, number: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    able = np.flatnonzero(sizes > 0)

    def room(group: int) -> int:
        one, two = _triangle(group)
        return int(sizes[able[one]] * sizes[able[two]])

    for at, inside in _spread(len(able) * (len(able) - 1) // 2, room, number, rng):
        one, two = (images[able[side]] for side in _triangle(at))
        yield one[inside // len(two)], two[inside % len(two)]


def _spread(groups: int, room: Callable[[int], int], number: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Yields `number` distinct (group, index within group), as evenly over the groups as `room(group)` allows.

    With at least `number` groups no group is used twice and no list of all groups is made: a million identities have 5e11 pairs.
    """
    if groups >= number:
        for group in rng.choice(groups, number, replace=False).tolist():
            yield group, int(rng.integers(room(group)))
        return
    rooms = np.array([room(group) for group in range(groups)], np.int64)
    quota = np.zeros(groups, np.int64)
    while (left := number - int(quota.sum())) > 0:  # each round gives all open groups the same, so few rounds are needed
        open_groups = np.flatnonzero(quota < rooms)
        if left < len(open_groups):
            open_groups = rng.choice(open_groups, left, replace=False)
        quota[open_groups] = np.minimum(quota[open_groups] + max(1, left // len(open_groups)), rooms[open_groups])
    for group in np.flatnonzero(quota).tolist():
        for inside in rng.choice(int(rooms[group]), int(quota[group]), replace=False).tolist():
            yield group, inside


def _triangle(index: int) -> tuple[int, int]:
    """Returns the index-th pair of (0,1) (0,2) (1,2) (0,3) …, in integers, so exact for any size.

    >>> [_triangle(index) for index in range(4)]
    [(0, 1), (0, 2), (1, 2), (0, 3)]
    """
    high = (1 + isqrt(1 + 8 * index)) // 2
    return index - high * (high - 1) // 2, high
