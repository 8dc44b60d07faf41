"""Rank-1 identification: of all people, is a photo nearest to its own? Plain NumPy.

The gallery has the first image of each identity, in the order of the image list; every other image is a probe, and found where its own person's image in
the gallery is nearer than that of anybody else (by the cosine). A tie is not found, so that a model that answers always the same finds nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from distill.errors import DistillError
from distill.evaluation.pairs import list_images
from distill.runtime.lines import many
from distill.storage.path import StoragePath


@dataclass(frozen=True)
class People:
    """The images of a folder of class folders: their keys, and the number of each one's identity, int64 [N]."""

    name: str
    keys: tuple[str, ...]
    numbers: np.ndarray

    @property
    def identities(self) -> set[str]:
        """The names of those that are shown."""
        return {key.split("/")[0] for key in self.keys}

    @property
    def gallery(self) -> np.ndarray:
        """Rows of the first image of each identity, by its number, int64."""
        return np.unique(self.numbers, return_index=True)[1]


def open_people(folder: StoragePath) -> People:
    """Returns the images of a folder. Raises DistillError where nobody can be mistaken, or nobody is shown twice."""
    keys, numbers = list_images(folder)
    _, numbers = np.unique(numbers, return_inverse=True)
    people = int(numbers.max()) + 1 if len(numbers) else 0
    if people < 2 or people == len(keys):
        lacking = "nobody can be taken for another" if people < 2 else "none has two images, so nobody can be found again"
        raise DistillError(f"--identify {folder}: {many(len(keys), 'images')} of {many(people, 'identities')}: {lacking}. Give a larger folder.")
    return People(str(folder), tuple(keys), numbers)


@dataclass(frozen=True)
class Identification:
    """found: of each probe whether its own person was nearest, bool [probes]; numbers: the identity of each probe; gallery: how many people."""

    found: np.ndarray
    numbers: np.ndarray
    gallery: int

    @property
    def rank1(self) -> float:
        """The share of probes that were found."""
        return float(self.found.mean())

    def as_dict(self) -> dict[str, Any]:
        """Returns values for JSON, without the single probes."""
        return {"rank1": self.rank1, "probes": len(self.found), "gallery": self.gallery}


def identify(embeddings: np.ndarray, people: People) -> Identification:
    """Returns who was found by embeddings [N, D] of the images of `people`, in their order.

    Gallery (1, 0) of A and (0, 1) of B: the probe (3, 4) of A has the cosines .6 and .8, so it is taken for B.
    """
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = np.divide(embeddings, lengths, out=np.zeros(embeddings.shape, np.float32), where=lengths > 0)
    gallery = people.gallery
    probes = np.setdiff1d(np.arange(len(unit)), gallery)
    own = people.numbers[probes]
    found = np.zeros(len(probes), bool)
    step = max(1, 2**24 // len(gallery))  # 64 MiB of cosines at a time
    for start in range(0, len(probes), step):
        cosines = unit[probes[start : start + step]] @ unit[gallery].T
        rows, mine = np.arange(len(cosines)), own[start : start + step]
        own_cosines = cosines[rows, mine]
        cosines[rows, mine] = -np.inf
        found[start : start + step] = own_cosines > cosines.max(axis=1)
    return Identification(found, own, len(gallery))
