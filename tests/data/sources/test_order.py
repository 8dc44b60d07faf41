"""The order of rows as numbers: each row exactly once an epoch, whatever the sizes; equal seeds equal; few groups at a time."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.data.sources.order import MIXED_ROWS, in_sequence, pool_shuffle, shuffle, views_of_groups

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=30)
BATCH, SEED, EPOCH = st.integers(1, 100), st.integers(0, 2**32), st.integers(0, 1000)


def lists(batches):
    return [batch.tolist() for batch in batches]


def test_in_sequence():
    assert lists(in_sequence(5, batch=2)) == [[0, 1], [2, 3], [4]] and lists(in_sequence(4, batch=4)) == [[0, 1, 2, 3]]


def test_three_groups_of_four_rows():
    """Rows 0 to 3 are the first group, 4 to 7 the second, 8 to 11 the third."""
    assert lists(pool_shuffle([4, 4, 4], batch=5, seed=0, epoch=0)) == [[11, 10, 8, 1, 0], [3, 9, 6, 7, 2], [5, 4]]
    # one group at a time, the third first, then the first: row 8 is left over and comes with later ones
    assert lists(pool_shuffle([4, 4, 4], batch=3, seed=0, epoch=0, pool=1)) == [[11, 10, 9], [3, 0, 1], [5, 4, 8], [7, 6, 2]]


def test_rows_of_two_views():
    """2 * row + view: row 2 is the only one of the second group."""
    assert lists(pool_shuffle([2, 1], batch=4, seed=0, epoch=0, views=2)) == [[3, 1, 0, 2], [5, 4]]


def test_views_turn():
    """Two groups of three views: another one in each of three epochs, then again, in another order."""
    turns = [views_of_groups(2, 3, "one", seed=0, epoch=epoch)[:, 0].tolist() for epoch in range(6)]
    assert turns == [[1, 1], [2, 2], [0, 0], [0, 0], [1, 2], [2, 1]]
    assert views_of_groups(2, 3, "all", seed=0, epoch=1).tolist() == [[0, 1, 2], [0, 1, 2]]
    assert views_of_groups(2, 3, "plain", seed=0, epoch=1).tolist() == [[0], [0]]


@given(sizes=SIZES, batch=BATCH, seed=SEED, epoch=EPOCH, views=st.integers(1, 3), pool=st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_each_row_and_view_once_an_epoch_in_whole_batches(sizes, batch, seed, epoch, views, pool):
    def made(start=0):
        return lists(islice(pool_shuffle(sizes, batch, seed, epoch, views=views, pool=pool), start, None))

    batches, rows = made(), sum(sizes) * views
    assert sorted(sum(batches, [])) == list(range(rows))
    assert [len(one) for one in batches[:-1]] == [batch] * (len(batches) - 1) and len(batches) == -(-rows // batch)
    assert made() == batches and made(start=1) == batches[1:]


@given(rows=st.integers(1, 500), batch=BATCH, seed=SEED, epoch=EPOCH)
@settings(max_examples=100, deadline=None)
def test_rows_without_groups_come_once_too(rows, batch, seed, epoch):
    shuffled, plain = lists(shuffle(rows, batch, seed, epoch)), lists(in_sequence(rows, batch))
    assert sorted(sum(shuffled, [])) == sum(plain, []) == list(range(rows)) and list(map(len, shuffled)) == list(map(len, plain))
    assert lists(shuffle(rows, batch, seed, epoch)) == shuffled


@pytest.mark.parametrize("order", [lambda seed, epoch: pool_shuffle([50, 50], 10, seed, epoch), lambda seed, epoch: shuffle(100, 10, seed, epoch)])
def test_another_seed_or_epoch_is_another_order(order):
    assert len({str(lists(order(seed, epoch))) for seed, epoch in ((0, 0), (0, 1), (1, 0))}) == 3


@given(sizes=st.lists(st.integers(1, 40), min_size=12, max_size=40), batch=st.integers(1, 30), seed=SEED, pool=st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_few_groups_have_rows_that_came_and_rows_still_to_come(sizes, batch, seed, pool):
    """Those of one pool, and of the rows that were left over before it, which are fewer than a batch."""
    batches = list(pool_shuffle(sizes, batch, seed, 0, pool=pool))
    groups = [set((np.searchsorted(np.cumsum(sizes), one, side="right")).tolist()) for one in batches]
    for step in range(1, len(groups)):
        open_groups = set().union(*groups[:step]) & set().union(*groups[step:])
        assert len(open_groups) <= pool + batch - 1


def test_the_views_of_a_row_come_within_few_rows():
    """4,096 rows in two views: both of a row lie in the same 2,048 numbers, but for those left over, which are fewer than a batch of 100 each time."""
    numbers = np.concatenate(list(pool_shuffle([1024] * 4, batch=100, seed=0, epoch=0, views=2)))
    found = np.argsort(numbers // 2, kind="stable").reshape(-1, 2)
    assert (found[:, 1] - found[:, 0] < 2 * MIXED_ROWS).mean() > 0.9
