"""Which rows come when: pure functions of sizes, seed and epoch, without a file or a source. All yield int64 [B], the last batch may be short;
but for `balanced_pools`, which yields int64 [n, B], the batches of a pool at a time.

Rows are numbered through all groups in order: with groups of 4 and 3 rows, row 5 is the second of the second group. Where a row comes in V views
an epoch, the number is row * V + place of the view.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from distill.config.stage import Balanced

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


# ------------------------------------------------------------------------------------------- so many identities, so many images of each


def balanced_steps(labels: np.ndarray, batch: Balanced) -> int:
    """Returns how many batches a balanced epoch has: as many as the rows fill, but no more than those in which no identity has to come twice.

    Args:
        labels: int [rows], from 0 on.

    >>> balanced_steps(np.array([0, 0, 0, 0, 1, 1, 2, 2]), Balanced(identities=2, images=2))
    2
    >>> balanced_steps(np.array([0] * 100 + [1, 1]), Balanced(identities=2, images=2))
    1
    """
    return max(1, _most_batches(np.bincount(labels), batch.identities, batch.images))


def balanced_pools(
    sizes: Sequence[int] | np.ndarray, labels: np.ndarray, batch: Balanced, seed: int, epoch: int, *, pool: int = POOL_GROUPS
) -> Iterator[np.ndarray]:
    """Yields the batches of an epoch, a pool of groups at a time: different identities, so many images of each, which stand side by side.

    Within a pool each identity's rows are shuffled and cut into chunks of `images`. The rows that are left of it, or all where it has fewer, become
    a chunk that is completed by rows of the same identity; as many such chunks come as those rows fill, the other rows wait for another epoch. So a row comes
    once an epoch in the mean. Chunks that find no batch come with the next pool. `pool` groups are a pool, more where they have too few identities.

    Args:
        sizes: rows of each group.
        labels: int [rows], from 0 on, of all groups' rows.

    >>> labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    >>> [made.tolist() for made in balanced_pools([4, 4], labels, Balanced(identities=2, images=2), seed=0, epoch=0)]
    [[[7, 5, 1, 2], [6, 4, 0, 3]]]
    """
    starts, identities = np.concatenate([[0], np.cumsum(sizes)]), int(np.count_nonzero(np.bincount(labels)))
    if identities < batch.identities:
        raise ValueError(f"batches of {batch.identities} identities, but there are {identities}")
    rng = np.random.default_rng([seed, epoch, 2])
    missing, turn, again = balanced_steps(labels, batch), int(rng.integers(batch.images)), False
    waiting = _Chunks(np.empty(0, labels.dtype), np.empty((0, batch.images), np.int64))
    while missing:
        left = rng.permutation(len(sizes))
        while len(left) and missing:
            groups = left[: _pool_size(left, starts, labels, batch, min(2 * batch.identities, identities), pool, 2 * missing * batch.rows)]
            rows = _rows_of(groups, starts)
            chunks, turn = _cut(rows, labels[rows], batch.images, rng, turn, again)
            made, waiting = _mix(waiting, chunks, batch.identities, missing, rng)
            left, missing = left[len(groups) :], missing - len(made)
            if len(made):
                yield made
        again = True  # what pools lost to identities that have far more rows than others comes from a second look at some groups


@dataclass(frozen=True)
class _Chunks:
    """Rows of one identity each. labels: int [n]; rows: int64 [n, images]."""

    labels: np.ndarray
    rows: np.ndarray


def _rows_of(groups: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return np.concatenate([np.arange(starts[group], starts[group + 1]) for group in groups])


def _pool_size(left: np.ndarray, starts: np.ndarray, labels: np.ndarray, batch: Balanced, identities: int, pool: int, wanted: int) -> int:
    """Returns how many of the groups that are left the next pool takes: more than `pool` where these have fewer than so many identities, or no two
    batches of rows; fewer where `wanted` rows are enough."""
    rows = np.cumsum(starts[left + 1] - starts[left])
    taken = min(pool, int(np.searchsorted(rows, wanted)) + 1)
    if len(left) - taken < pool // 2 and taken == pool:
        return len(left)
    while taken < len(left):
        found = labels[_rows_of(left[:taken], starts)]
        if len(found) >= 2 * batch.rows and (taken >= max(pool, 2 * batch.identities) or len(np.unique(found)) >= identities):
            break
        taken += -(-taken // 4)
    return min(taken, len(left))


def _cut(rows: np.ndarray, labels: np.ndarray, images: int, rng: np.random.Generator, turn: int, every: bool) -> tuple[_Chunks, int]:
    """Cuts the rows of a pool into chunks of `images` rows of one identity.

    Args:
        turn: rows that the identities before have left over, short of a chunk.
        every: each identity's rest is a chunk; else every `images` rows that are left over are one.
    Returns:
        the chunks, and `turn` for the next pool.
    """
    order = rng.permutation(len(rows))
    order = order[np.argsort(labels[order], kind="stable")]
    begins = _begins(labels[order])
    some = rng.permutation(len(begins))
    counts, begins = np.diff(begins, append=len(rows))[some], begins[some]
    rest = counts % images
    until = turn + np.cumsum(rest)
    completed = rest > 0 if every else until // images - (until - rest) // images
    chunks = counts // images + completed
    owner = np.repeat(np.arange(len(chunks)), chunks)
    at = (_places(chunks)[:, None] * images + np.arange(images)) % counts[owner, None]  # beyond the last row the first ones again
    chosen = order[begins[owner, None] + at]
    return _Chunks(labels[chosen[:, 0]], rows[chosen]), int(until[-1]) % images


def _mix(waiting: _Chunks, new: _Chunks, identities: int, most: int, rng: np.random.Generator) -> tuple[np.ndarray, _Chunks]:
    """Puts chunks together to as many batches as there can be, `most` at most, those that waited first.

    The chunks lie identity by identity in a table of a column a batch, row after row: an identity that has no more chunks than there are batches
    comes in none twice. Those of identities that lie within a row are shuffled there, so that identities meet others each time.

    Returns:
        int64 [batches, rows of a batch], and the chunks that wait for the next pool: fewer than a batch has, each identity's first before its second.
    """
    labels, rows = np.concatenate([waiting.labels, new.labels]), np.concatenate([waiting.rows, new.rows])
    _, which, counts = np.unique(labels, return_inverse=True, return_counts=True)
    batches = min(_most_batches(counts, identities), most)
    order = np.argsort(rng.permutation(len(counts))[which], kind="stable")
    use = _places(np.diff(_begins(which[order]), append=len(order))) < batches
    spare = rng.permutation(np.flatnonzero(use))
    spare = spare[np.argsort(order[spare] < len(waiting.labels), kind="stable")]
    use[spare[: len(spare) - batches * identities]] = False
    rest = order[~use]
    rest = rest[np.argsort(_places(np.diff(_begins(which[rest]), append=len(rest))), kind="stable")[: identities - 1]]
    table = _shuffle_rows(order[use].reshape(identities, batches), which, rng)
    return rows[table.T[rng.permutation(batches)]].reshape(batches, identities * rows.shape[1]), _Chunks(labels[rest], rows[rest])


def _shuffle_rows(table: np.ndarray, owners: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Shuffles each row of a table of chunks, but for those whose owner has chunks in the row before or after as well."""
    if not table.size:
        return table
    owner = owners[table]
    before, after = (np.full((len(table), 1), -1) for _ in range(2))
    before[1:], after[:-1] = owner[:-1, -1:], owner[1:, :1]
    free = np.flatnonzero((owner != before) & (owner != after))
    shuffled = np.lexsort((rng.random(len(free)), free // table.shape[1]))
    table = table.ravel()
    table[free] = table[free[shuffled]]
    return table.reshape(owner.shape)


def _begins(values: np.ndarray) -> np.ndarray:
    """Returns where another value begins: [7, 7, 3] gives [0, 2]."""
    return np.flatnonzero(np.concatenate([np.ones(min(1, len(values)), bool), values[1:] != values[:-1]]))


def _places(counts: np.ndarray) -> np.ndarray:
    """Returns 0, 1, ... for each: [2, 3] gives [0, 1, 0, 1, 2]."""
    return np.asarray(np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts))


def _most_batches(counts: np.ndarray, identities: int, images: int = 1) -> int:
    """Returns the largest number of batches for which each identity, once a batch at most, has enough: sum min(count, n images) >= n identities images."""
    low, high = 0, int(counts.sum()) // (identities * images)
    while low < high:
        middle = (low + high + 1) // 2
        enough = np.minimum(counts, middle * images).sum() >= middle * identities * images
        low, high = (middle, high) if enough else (low, middle - 1)
    return low
