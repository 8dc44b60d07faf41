"""Leaks: what an evaluation shows that a model has learned from. Identities by their names, equal files by their bytes, and files that show the same picture
by the cosine of their embeddings. Memory is that of the images of the evaluation, however many rows the set has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from distill.config.data import Holdout
from distill.data.shards import Rows, ShardSet
from distill.data.sources.holdout import mask_of_set
from distill.evaluation.embed import Progress

BOUND = 0.95  # docs/judging.md says how it was chosen
SHORT = 64  # numbers that rule out most pairs
SLACK = 1e-3  # of what single precision loses there: 3e-4 where nothing is left of both
MANY = 500  # of so many pairs more than one left: all are compared
_COLUMNS = 1 << 13  # images of the evaluation that are compared with a row group at a time: 32 MiB of cosines


@dataclass(frozen=True)
class Evaluated:
    """The images of an evaluation, each distinct file once.

    Attributes:
        names: what people call each of them.
        digests: sha256 of its bytes, and how many these are: (bytes, int).
        embeddings: by the model that made the set, float32 [N, D] of length 1; None where nobody has them.
    """

    names: tuple[str, ...]
    digests: tuple[tuple[bytes, int], ...]
    embeddings: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Leak:
    """An image of the evaluation, the key of the row that is most like it, its cosine (1 of an equal file), and how many rows there are like that."""

    image: str
    row: str
    cosine: float
    rows: int


@dataclass(frozen=True)
class Leaks:
    """What was found among `rows` rows: equal files, and others whose cosine reaches the bound, the most alike first; None: not looked for."""

    rows: int
    equal: tuple[Leak, ...]
    near: tuple[Leak, ...] | None


def distinct(names: Sequence[str], files: Iterable[bytes], embeddings: np.ndarray | None = None) -> Evaluated:
    """Returns the images of an evaluation with each file once, by its first name.

    Args:
        names, files: of each image, its name and its encoded bytes.
        embeddings: float [N, D].
    """
    first: dict[tuple[bytes, int], int] = {}
    for row, data in enumerate(files):
        first.setdefault((hashlib.sha256(data).digest(), len(data)), row)
    rows = list(first.values())
    return Evaluated(tuple(names[row] for row in rows), tuple(first), None if embeddings is None else _unit(embeddings[rows]))


def find_leaks(shards: ShardSet, holdout: Holdout | None, evaluated: Evaluated, bound: float = BOUND, progress: Progress | None = None) -> Leaks:
    """Returns which images of an evaluation are among the rows of a set that a holdout leaves to learn from; one pass over the set.

    An equal file is none of the near ones. `progress(done, of)` is called after each row group with counts of rows.
    """
    kept = mask_of_set(shards, holdout)
    inline = shards.meta.images == "inline"
    columns = ["key", "image" if inline else "image_sha256", *(["embedding"] if evaluated.embeddings is not None else [])]
    same, alike = _Equal(evaluated, inline), None if evaluated.embeddings is None else _Near(evaluated.embeddings, bound)
    done = rows = 0
    for number, masks in enumerate(kept):
        for group, held in zip(shards.read(number, None, columns), masks, strict=True):
            equal = same.look(group, ~held)
            if alike is not None:
                alike.look(group, ~held, equal)
            done, rows = done + len(held), rows + int(np.count_nonzero(~held))
            if progress is not None:
                progress(done, shards.rows)
    return Leaks(rows, same.found(), None if alike is None else alike.found(evaluated.names))


class _Equal:
    """Looks for the bytes of images. A file that is stored whole is hashed only where an image of the evaluation has its length."""

    def __init__(self, evaluated: Evaluated, inline: bool) -> None:
        self.names, self.inline = evaluated.names, inline
        self.wanted = {digest: row for row, (digest, _) in enumerate(evaluated.digests)}
        self.lengths = {length for _, length in evaluated.digests}
        self.rows: dict[int, list[str]] = {}
        self.counts: dict[int, int] = {}

    def look(self, group: Rows, kept: np.ndarray) -> list[tuple[int, int]]:
        """Returns (row of the group, image) of equal ones."""
        equal = []
        for row in np.flatnonzero(kept).tolist():
            digest = self._digest(group, row)
            if digest is not None and (image := self.wanted.get(digest)) is not None:
                equal.append((row, image))
                self.rows.setdefault(image, [group.keys[row]])
                self.counts[image] = self.counts.get(image, 0) + 1
        return equal

    def _digest(self, group: Rows, row: int) -> bytes | None:
        if not self.inline:
            return bytes(group.image_sha256[row])
        return hashlib.sha256(group.images[row]).digest() if len(group.images[row]) in self.lengths else None

    def found(self) -> tuple[Leak, ...]:
        return tuple(Leak(self.names[image], keys[0], 1.0, self.counts[image]) for image, keys in sorted(self.rows.items()))


class _Near:
    """Looks for embeddings whose cosine reaches a bound: of each image the nearest row, and how many there are.

    With long embeddings most pairs are ruled out by a few numbers: x.y <= Px.Py + |x - Px| |y - Py| for a projection P to the directions in which the images
    differ most, so nothing is missed, and it takes a third of the time.
    """

    def __init__(self, embeddings: np.ndarray, bound: float) -> None:
        self.images, self.bound = embeddings, np.float32(bound)
        self.directions = _directions(embeddings, SHORT) if embeddings.shape[1] > 2 * SHORT else None
        self.short = None if self.directions is None else _shortened(embeddings, self.directions)
        self.cosines, self.counts = np.full(len(embeddings), -np.inf, np.float32), np.zeros(len(embeddings), np.int64)
        self.rows: dict[int, str] = {}

    def look(self, group: Rows, kept: np.ndarray, equal: list[tuple[int, int]]) -> None:
        places = np.flatnonzero(kept)
        known = np.array([row * len(self.images) + image for row, image in equal], np.int64)
        unit = _unit(group.embeddings[places])
        short = None if self.directions is None else _shortened(unit, self.directions)
        for start in range(0, len(self.images), _COLUMNS):
            at, images, cosines = self._reached(unit, short, start)
            new = ~np.isin(places[at] * len(self.images) + images, known)
            self._add(group, places[at[new]], images[new], cosines[new])

    def _add(self, group: Rows, rows: np.ndarray, images: np.ndarray, cosines: np.ndarray) -> None:
        """Counts pairs, in ascending order of rows; of equal cosines the first row stays. No Python object is made of a pair: all of them may reach the bound."""
        self.counts += np.bincount(images, minlength=len(self.images))
        before = self.cosines.copy()
        np.maximum.at(self.cosines, images, cosines)
        best = np.flatnonzero((cosines == self.cosines[images]) & (cosines > before[images]))
        for image, first in zip(*np.unique(images[best], return_index=True), strict=True):
            self.rows[int(image)] = group.keys[rows[best[first]]]

    def _reached(self, unit: np.ndarray, short: np.ndarray | None, start: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns rows, images and cosines of the pairs with some images that reach the bound."""
        part = slice(start, start + _COLUMNS)
        width = len(self.images[part])
        if short is not None and self.short is not None:
            at, images = np.divmod(np.flatnonzero(short @ self.short[part].T >= self.bound - SLACK), width)
            if len(at) <= len(unit) * width // MANY:
                cosines = np.einsum("nd,nd->n", unit[at], self.images[images + start])
                near = cosines >= self.bound
                return at[near], images[near] + start, cosines[near]
        products = unit @ self.images[part].T
        at, images = np.divmod(np.flatnonzero(products >= self.bound), width)
        return at, images + start, products[at, images]

    def found(self, names: Sequence[str]) -> tuple[Leak, ...]:
        order = sorted(self.rows, key=lambda image: (-self.cosines[image], image))
        return tuple(Leak(names[image], self.rows[image], min(1.0, float(self.cosines[image])), int(self.counts[image])) for image in order)


def _directions(embeddings: np.ndarray, number: int) -> np.ndarray:
    """Returns the orthonormal directions in which embeddings are longest, float32 [D, number]."""
    return np.asarray(np.linalg.eigh(embeddings.T @ embeddings)[1][:, -number:])


def _shortened(unit: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Returns embeddings along some directions, and the length of what is left of them, float32 [N, number + 1]."""
    along = unit @ directions
    left = (unit * unit).sum(axis=1) - (along * along).sum(axis=1)
    return np.concatenate([along, np.sqrt(np.maximum(left, 0))[:, None]], axis=1)


def _unit(embeddings: np.ndarray) -> np.ndarray:
    embeddings = np.asarray(embeddings, np.float32)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.divide(embeddings, lengths, out=np.zeros_like(embeddings), where=lengths > 0)
