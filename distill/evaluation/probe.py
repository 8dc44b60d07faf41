"""A linear classifier on the embeddings of labelled images: what a model is worth as a feature extractor. scikit-learn's logistic regression (extra `probe`).

Of each identity a fifth of the images is held out, at least one, and the classifier learns from the others; who has one image alone is left out.
Embeddings are brought to the length of the square root of their dimension, so that their numbers are of the size that its penalty (C = 1) expects
whatever the model, and nothing is tuned on what is held out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from distill.data.kinds import kind_of
from distill.data.shards import open_shards
from distill.data.sources import ShardSource
from distill.errors import DistillError, how_to_install
from distill.evaluation.embed import Model, Progress, embed_images, embedded, spec_for
from distill.evaluation.pairs import list_images
from distill.evaluation.request import EvaluationRequest
from distill.runtime.lines import many
from distill.storage.path import StoragePath

HELD_OUT = 0.2
C, STEPS = 1.0, 1000
MOST_SCORES = 4e9  # bytes of the classifier's answers, float64 of each held-out image and identity


@dataclass(frozen=True)
class Labelled:
    """Images with an identity each, some of them held out.

    Attributes:
        name: what was given.
        numbers: the identity of each row, int64 [N]; -1 for rows that are left out.
        names: of the identities.
        held_out: bool [N].
        keys: of a folder's images; None where `source` has them.
        source: of a set of shards; its rows are in the order in which it gives them.
        seed: that of the split.
    """

    name: str
    numbers: np.ndarray
    names: tuple[str, ...]
    held_out: np.ndarray
    keys: tuple[str, ...] | None = None
    source: ShardSource | None = None
    seed: int = 0

    def embeddings(self, model: Model, request: EvaluationRequest, progress: Progress) -> np.ndarray:
        """Returns those of all rows, float32 [N, D]."""
        if self.source is None:
            spec = spec_for(model, request.resize, request.size, request.exif)
            return embed_images(model, self.name, self.keys or (), spec, progress=progress, flip=request.flip)
        found, done = list[np.ndarray](), 0
        for pixels, _ in self.source.epoch(0):
            names = [f"row {done + row} of {self.source.name}" for row in range(len(pixels))]
            found.append(embedded(model, pixels, names, request.flip))
            done += len(pixels)
            progress(done, self.source.rows)
        return np.concatenate(found)

    @property
    def shown(self) -> set[str]:
        """The names of the identities that the classifier knows."""
        return {self.names[number] for number in np.unique(self.numbers[self.numbers >= 0])}

    @cached_property
    def stored(self) -> float | None:
        """The accuracy with the embeddings that the set stores, which its teacher gave; None of a folder."""
        if self.source is None:
            return None
        return float(self.right(np.concatenate([fields["embedding"] for _, fields in self.source.epoch(0)]))[0].mean())

    def right(self, embeddings: np.ndarray) -> tuple[np.ndarray, bool]:
        """Returns of each held-out row whether a classifier that learned from the others names its identity, bool, and whether it came to an end."""
        classifier = _classifier()
        used, lengths = self.numbers >= 0, np.linalg.norm(embeddings.astype(np.float64), axis=1, keepdims=True)
        unit = np.divide(embeddings, lengths, out=np.zeros(embeddings.shape), where=lengths > 0) * np.sqrt(embeddings.shape[1])
        train, test = used & ~self.held_out, used & self.held_out
        made = classifier(C=C, max_iter=STEPS).fit(unit[train], self.numbers[train])
        return made.predict(unit[test]) == self.numbers[test], bool(np.max(made.n_iter_) < STEPS)


def open_labelled(path: StoragePath, seed: int = 0, root: str | None = None) -> Labelled:
    """Returns the images of a folder of class folders, or of a set of shards, with a fifth of each identity held out.

    Args:
        seed: another one holds out other images.
        root: of the images, where a set holds none.

    Raises:
        DistillError: scikit-learn is not there, or fewer than two identities have two images.
    """
    _classifier()
    if path.is_dir() and kind_of(path) == "set":
        return _of_set(path, seed, root)
    keys, _ = list_images(path)
    names, numbers = np.unique([key.split("/")[0] for key in keys], return_inverse=True)
    return _split(Labelled(str(path), numbers, tuple(names.tolist()), np.zeros(0, bool), tuple(keys), None, seed))


def _of_set(path: StoragePath, seed: int, root: str | None) -> Labelled:
    shards = open_shards(path)
    if not shards.labelled:
        raise DistillError(f"--probe {path}: its rows have no labels. Give a set that was made of class folders, or a folder of class folders.")
    source = ShardSource(str(path), batch=256, seed=0, part="all", root=root, views="plain")
    numbers = source.labels(np.concatenate(list(source.order(0))))
    return _split(Labelled(str(path), numbers, tuple(shards.classes), np.zeros(0, bool), None, source, seed))


def _split(labelled: Labelled) -> Labelled:
    """Returns it with `held_out`, and -1 as the number of identities that have one image alone."""
    numbers, held_out, kept = labelled.numbers.copy(), np.zeros(len(labelled.numbers), bool), 0
    order = np.argsort(numbers, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else ():
        if (number := int(numbers[rows[0]])) < 0:
            continue
        if len(rows) < 2:
            numbers[rows] = -1
            continue
        kept += 1
        drawn = np.random.default_rng([labelled.seed, 0, number]).permutation(rows)
        held_out[drawn[: min(len(rows) - 1, max(1, round(HELD_OUT * len(rows))))]] = True
    if kept < 2:
        raise DistillError(f"--probe {labelled.name}: {many(kept, 'identities')} with two images or more; a classifier needs two such identities.")
    if (size := 8 * kept * int(held_out.sum())) > MOST_SCORES:
        much = f"{many(int(held_out.sum()), 'held-out images')} by {many(kept, 'identities')} are {size / 1e9:.1f} GB of scores, at most {MOST_SCORES / 1e9:.0f} are held"
        raise DistillError(f"--probe {labelled.name}: {much}. Give fewer identities.")
    return Labelled(labelled.name, numbers, labelled.names, held_out, labelled.keys, labelled.source, labelled.seed)


def probe(labelled: Labelled, model: Model, request: EvaluationRequest, progress: Progress) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Returns the figures of a model, of each held-out row whether it was named rightly, bool [held out], and the identity of each."""
    right, ended = labelled.right(labelled.embeddings(model, request, progress))
    used = labelled.numbers >= 0
    figures = {
        "name": labelled.name,
        "accuracy": float(right.mean()),
        "classes": len(np.unique(labelled.numbers[used])),
        "train": int((used & ~labelled.held_out).sum()),
        "test": int((used & labelled.held_out).sum()),
        "left_out": int((~used).sum()),
        "classifier": f"logistic regression, C = {C:g}",
        "converged": ended,
    }
    if labelled.stored is not None:
        figures["stored_accuracy"] = labelled.stored
    return figures, right, labelled.numbers[used & labelled.held_out]


def _classifier() -> Any:
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise DistillError(f"--probe needs scikit-learn: {how_to_install('probe')} ({error})") from error
    return LogisticRegression
