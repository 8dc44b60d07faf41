"""Rows of a committed set of shards: which of them come, in which order, and what can be learned from them."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from distill.config.data import Holdout
from distill.config.stage import Balanced
from distill.data.archives.reader import read_bytes
from distill.data.shards import Rows, ShardSet, open_shards
from distill.data.shards.golden import check_golden
from distill.data.sources.balance import Balance, described
from distill.data.sources.holdout import check_labels, labels_of_part, mask_of_set, no_rows, part_of_set
from distill.data.sources.order import POOL_GROUPS, in_sequence, pool_shuffle, views_of_groups
from distill.data.sources.reader import EpochReader
from distill.data.sources.source import QUEUE, Batch, one_class, one_direction, open_threads
from distill.errors import DistillError
from distill.images.augmentation import Recipe
from distill.images.codec import ahead
from distill.images.views import check_size


class ShardSource:
    """Rows of a committed set of shards: embeddings, and labels where every row has one.

    part: "all", "train" (without the held-out rows) or "held_out" (only those, in the order of the set).
    root: where the images lie when the set was made with --images path; each file's sha256 is checked.
    views: "one" gives each row one of its views an epoch, another one in each of as many epochs as there are views; "all" gives each row
    once for each view; "plain" gives view 0. The held-out part is plain always.
    augment: a recipe by which each image is changed, anew each epoch, while its embedding stays that of the plain image.
    balanced: what each batch to learn from is made of, in place of `batch` rows of any identities.
    """

    name = "shards"
    left_out: Mapping[str, int] = {}  # one that cannot be read ends the epoch
    pool = POOL_GROUPS  # row groups whose rows are shuffled together

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        batch: int,
        seed: int,
        part: str = "all",
        holdout: Holdout | None = None,
        root: str | None = None,
        threads: int = 0,
        views: str = "one",
        augment: Recipe | None = None,
        balanced: Balanced | None = None,
    ) -> None:
        self.set: ShardSet = open_shards(path)
        if self.set.meta.images == "path" and root is None:
            raise DistillError(f"{path} holds no images, only their keys (--images path). Name the folder they lie in: root = FOLDER in [data].")
        check_golden(path, self.set.golden, self.set.meta)
        self.root, self.seed, self.threads, self.holdout = root, seed, threads, holdout
        self._plain_batch, self.balanced = batch, None if part == "held_out" else balanced
        self.views = "plain" if part == "held_out" or self.set.meta.views == 1 else views
        self.augment = None if part == "held_out" else augment
        self._check_possible(path)
        self.fields = ("embedding", "label") if self.set.labelled else ("embedding",)
        self.image_shape = (self.set.image.height, self.set.image.width, 3)
        self.dimension: int | None = self.set.dimension
        self.classes = len(self.set.classes) if self.set.labelled else 0
        self.class_names = self.set.classes if self.set.labelled else None
        self._masks = mask_of_set(self.set, holdout if part != "all" else None)
        self._take(part)

    def _check_possible(self, path: str | os.PathLike[str]) -> None:
        """DistillError where what is asked for does not go together with the set."""
        if self.augment and self.views != "plain":
            raise DistillError(
                f"{path} holds {self.set.meta.views} views of each picture with an embedding for each, so augment would only spoil them. "
                'Leave augment out, or take the plain pictures: views = "plain".'
            )
        if self.balanced and self.views == "all":
            raise DistillError(
                f'{path}: views = "all" gives each image in all its {self.set.meta.views} views, and {described(self.balanced)} takes different images. '
                'Use views = "one" (another one each epoch) or "plain" in [data], or leave balanced out.'
            )
        if self.balanced and not self.set.labelled:
            raise DistillError(f"{path} has rows without a label, so {described(self.balanced)} is impossible. Leave it out, or label every row.")
        if self.augment:
            check_size(self.augment, self.set.image.height, self.set.image.width)

    def other(self, part: str) -> ShardSource:
        """Returns the held-out rows beside those to learn from, or the reverse, without another look at all rows."""
        other = copy.copy(self)
        if part == "held_out":
            other.views, other.augment, other.balanced = "plain", None, None
        other._take(part)
        return other

    def _take(self, part: str) -> None:
        self.part = part
        self._part = part_of_set(self._masks, part)
        self.balance: Balance | None = None
        self.rows = len(self._part.rows) * (self.set.meta.views if self.views == "all" else 1)
        self.batch, self.steps = self._plain_batch, -(-self.rows // self._plain_batch)
        if not self.rows:
            raise no_rows(self.set.folder, part, self.set.rows, self.holdout)
        if self.balanced:
            self.balance = Balance(self.balanced, self._part.sizes, labels_of_part(self.set, self._part), self.seed, self.pool)
            self.balance.check(self.set.folder)
            self.rows, self.batch, self.steps = self.balance.rows, self.balanced.rows, self.balance.steps

    def identity(self) -> str:
        return self.set.identity

    def groups(self, columns: Sequence[str]) -> Iterator[tuple[Rows, np.ndarray]]:
        """Yields the row groups of the part in the order of the set, with these columns alone, and which of their rows belong to the part."""
        for (shard, number), some in zip(self._part.groups, np.split(self._part.rows, self._part.starts[1:]), strict=True):
            yield next(self.set.read(shard, [number], columns)), some

    def teaches_nothing(self, field: str) -> str:
        if field == "embedding":
            return one_direction(found.embeddings[some] for found, some in self.groups([field]))
        self._check_labels()
        changing = self.augment is not None or self.views != "plain"
        return one_class((found.labels[some] for found, some in self.groups([field])), len(self._part.rows), self.classes, changing)

    def _check_labels(self) -> None:
        """DistillError where a row would teach another class than its own, or none."""
        for (shard, _), (found, _) in zip(self._part.groups, self.groups(["label"]), strict=True):
            check_labels(found.labels, self.set, shard)

    def epoch(self, number: int, start: int = 0) -> Iterator[Batch]:
        views = views_of_groups(len(self._part.groups), self.set.meta.views, self.views, self.seed, number)
        with open_threads(self.threads) as decoders, open_threads(1) as maker:
            reader = EpochReader(self, number, views, decoders)
            tasks = reader.tasks(self._pools(number, views.shape[1]), start)
            yield from (wait() for wait in ahead(maker, lambda task: task(), tasks, QUEUE) if wait is not None)

    def order(self, number: int) -> Iterator[np.ndarray]:
        """Yields the rows of the batches of an epoch, int64 [B], numbered through the part; of plain pictures, where no row comes in several views."""
        yield from (rows for pool in self._pools(number, 1) for rows in pool)

    def keys(self, numbers: np.ndarray) -> list[str]:
        """Returns the keys of rows of the part. Reads a row group for each of them that lie in different ones."""
        return [found.keys[row] for found, row in self._of_rows(numbers, ["key"])]

    def labels(self, numbers: np.ndarray) -> np.ndarray:
        """Returns the labels of rows of the part, int64 [N], without reading images; -1 where there is none."""
        groups = np.searchsorted(self._part.starts, numbers, side="right") - 1
        found, order = np.empty(len(numbers), np.int64), np.argsort(groups, kind="stable")
        for some in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(order) else ():
            shard, at = self._part.groups[groups[some[0]]]
            found[some] = next(self.set.read(shard, [at], ["label"])).labels[self._part.rows[numbers[some]]]
        return found

    def encoded(self, numbers: np.ndarray) -> list[bytes]:
        """Returns the images of rows of the part as they are stored; reads as `keys` does. BadImage or DistillError where one lies elsewhere and is gone."""
        if self.set.meta.images == "inline":
            return [bytes(found.images[row]) for found, row in self._of_rows(numbers, ["image"])]
        return [read_bytes(str(self.root), key) for key in self.keys(numbers)]

    def _of_rows(self, numbers: np.ndarray, columns: Sequence[str]) -> list[tuple[Rows, int]]:
        """Returns for each row its group, with these columns alone, and its place in that."""
        groups = np.searchsorted(self._part.starts, numbers, side="right") - 1
        found: dict[int, Rows] = {}
        for group in np.unique(groups).tolist():
            shard, at = self._part.groups[group]
            found[group] = next(self.set.read(shard, [at], columns))
        return [(found[group], row) for group, row in zip(groups.tolist(), self._part.rows[numbers].tolist(), strict=True)]

    def _pools(self, number: int, views: int) -> Iterable[Iterable[np.ndarray]]:
        """The batches of an epoch, numbers of rows."""
        if self.balance:
            return self.balance.pools(number)
        if self.part == "held_out":
            return [in_sequence(self.rows, self.batch)]
        return [pool_shuffle(self._part.sizes, self.batch, self.seed, number, views=views, pool=self.pool)]

    def epoch_images(self, number: int) -> Iterator[np.ndarray]:
        yield from (images for images, _ in self.epoch(number))
