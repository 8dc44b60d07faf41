"""The balanced order of a source's rows: whether they can have one, how long an epoch is, and how many identities show two images in a batch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from distill.config.stage import Balanced
from distill.data.sources.order import balanced_pools, balanced_steps
from distill.errors import DistillError
from distill.runtime.lines import many


@dataclass(frozen=True)
class Balance:
    """Rows in groups, a label each, and what a batch of them is made of; as `balanced_pools` takes them.

    sizes: int64 [groups]; labels: int32 [rows]; pool: groups whose rows are shuffled together.
    """

    batch: Balanced
    sizes: np.ndarray
    labels: np.ndarray
    seed: int
    pool: int

    @property
    def rows(self) -> int:
        """Rows of an epoch, those that come again too."""
        return self.steps * self.batch.rows

    @cached_property
    def steps(self) -> int:
        return balanced_steps(self.labels, self.batch)

    def pools(self, epoch: int) -> Iterator[np.ndarray]:
        """Yields the batches of an epoch, int64 [n, rows of a batch], those of a pool at a time."""
        return balanced_pools(self.sizes, self.labels, self.batch, self.seed, epoch, pool=self.pool)

    @cached_property
    def first(self) -> np.ndarray:
        """The first pool of the first epoch."""
        return next(self.pools(0))

    @property
    def groups(self) -> int:
        """Groups that are open for a pool."""
        return len(np.unique(np.searchsorted(np.cumsum(self.sizes), self.first, side="right")))

    @cached_property
    def paired(self) -> float:
        """How many of the identities in a batch show two different images or more, by `first`: the others show one again and again."""
        chunks = self.first.reshape(-1, self.batch.images)
        return float((chunks != chunks[:, :1]).any(axis=1).mean())

    def check(self, where: object) -> None:
        """DistillError where there are too few identities, or no two images of one come together."""
        counts, asked = np.bincount(self.labels), f"{where}: {described(self.batch)}"
        identities = np.count_nonzero(counts)
        if identities < self.batch.identities:
            way = f"Use identities = {identities} or fewer" if identities > 1 else "Leave balanced out"
            raise DistillError(f"{asked} takes {self.batch.identities} different identities a batch, but the rows to learn from show {identities:,}. {way}.")
        if counts.max() < 2:
            raise DistillError(f"{asked} takes {self.batch.images} images of each identity, but each identity has one. Leave balanced out.")
        if not self.paired and len(self.sizes) > self.pool:
            raise DistillError(
                f"{asked} takes {self.batch.images} images of each identity, but in the first {many(len(self.first), 'batches')} no identity has two: those of one "
                "lie too far apart to be shuffled together. Use a set of a list that is in the order of its identities, or leave balanced out."
            )

    def warnings(self) -> list[str]:
        """Returns what is to be said before the first step, a line each."""
        if self.paired >= 0.5:
            return []
        return [
            f"warning: of the identities in a batch {1 - self.paired:.0%} show one image {self.batch.images} times, because no other image of theirs is among those "
            "that are shuffled together. Use a set of a list that is in the order of its identities, with several images of each."
        ]


def described(batch: Balanced) -> str:
    """Returns what stands in the run file."""
    return f"balanced = {{ identities = {batch.identities}, images = {batch.images} }}"
