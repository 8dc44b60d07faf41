"""Which rows come when: pure functions of sizes, seed and epoch, without a file or a source. All yield int64 [B], the last batch may be short.

Rows are numbered through all groups in order: with groups of 4 and 3 rows, row 5 is the second of the second group. Where a row comes in V views
an epoch, the number is row * V + place of the view.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

POOL_GROUPS = 8  # about 8,000 rows, 30 MB of 112x112 JPEGs: enough identities for a mixed batch
MIXED_ROWS = 1024  # rows whose views come among one another: 38 MB of pixels of 112x112


def in_sequence(rows: int, batch: int) -> Iterator[np.ndarray]:
    """Yields the rows in their order.

    >>> [part.tolist() for part in in_sequence(5, batch=2)]
    [[0, 1], [2, 3], [4]]
    """
    for start in range(0, rows, batch):
        yield np.arange(start, min(start + batch, rows))


def shuffle(rows: int, batch: int, seed: int, epoch: int) -> Iterator[np.ndarray]:
    """Yields all rows in one random order, for rows that cost the same wherever they lie.

    >>> [part.tolist() for part in shuffle(5, batch=2, seed=0, epoch=0)]
    [[2, 4], [3, 0], [1]]
    """
    order = np.random.default_rng([seed, epoch, 0]).permutation(rows)
    for start in range(0, rows, batch):
        yield order[start : start + batch]


def pool_shuffle(sizes: Sequence[int] | np.ndarray, batch: int, seed: int, epoch: int, *, views: int = 1, pool: int = POOL_GROUPS) -> Iterator[np.ndarray]:
    """Yields rows so that few groups are in memory at a time: groups in random order, then the rows of `pool` of them together.

    Where a row comes in several views, they come within the same MIXED_ROWS rows, so that it is decoded once for all of them.

    Args:
        sizes: rows of each group.
        views: how often each row comes an epoch.

    >>> [part.tolist() for part in pool_shuffle([4, 4, 4], batch=5, seed=0, epoch=0)]
    [[11, 10, 8, 1, 0], [3, 9, 6, 7, 2], [5, 4]]
    """
    rng = np.random.default_rng([seed, epoch, 0])
    starts, waiting = np.concatenate([[0], np.cumsum(sizes)]), np.empty(0, np.int64)
    order = rng.permutation(len(sizes))
    for first in range(0, len(order), pool):
        rows = np.concatenate([np.arange(starts[group], starts[group + 1]) for group in order[first : first + pool]])
        if views > 1:
            rows = rng.permutation(rows)
        for part in np.split(rows, range(MIXED_ROWS, len(rows), MIXED_ROWS)) if views > 1 else [rows]:
            shown = (part[:, None] * views + np.arange(views)).ravel()
            shown = rng.permutation(np.concatenate([waiting, shown]))
            whole = len(shown) // batch * batch
            yield from shown[:whole].reshape(-1, batch)
            waiting = shown[whole:]
    if len(waiting):
        yield waiting


def views_of_groups(groups: int, views: int, mode: str, seed: int, epoch: int) -> np.ndarray:
    """Returns which views of its rows each group shows in an epoch, int64 [groups, 1, or `views` of mode "all"].

    Args:
        mode: "plain" shows view 0; "all" all of them; "one" another one in each epoch: in `views` epochs a group goes through all its views,
            in an order of its own.

    >>> [views_of_groups(2, 3, "one", seed=0, epoch=epoch)[:, 0].tolist() for epoch in range(3)]
    [[1, 1], [2, 2], [0, 0]]
    """
    if mode == "plain":
        return np.zeros((groups, 1), np.int64)
    every = np.tile(np.arange(views), (groups, 1))
    if mode == "all":
        return every
    turns = np.random.default_rng([seed, epoch // views, 1]).permuted(every, axis=1)
    return turns[:, [epoch % views]]
