"""The order of rows as numbers: each row exactly once an epoch, whatever the sizes; equal seeds equal; few groups at a time."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config.stage import Balanced
from distill.data.sources.order import MIXED_ROWS, balanced_pools, balanced_steps, in_sequence, pool_shuffle, shuffle, views_of_groups

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


# --------------------------------------------------------------------------------------------------------------------- balanced


def balanced(sizes, labels, batch, seed=0, epoch=0, **options):
    return [made for pool in balanced_pools(sizes, np.array(labels, np.int32), batch, seed, epoch, **options) for made in pool]


def test_two_identities_of_three_rows():
    """Rows 0 to 2 are of identity 0, 3 to 5 of identity 1: each gives one chunk of two, and the row left over waits for another epoch."""
    batch = Balanced(identities=2, images=2)
    epochs = [lists(balanced([3, 3], [0, 0, 0, 1, 1, 1], batch, epoch=epoch)) for epoch in range(3)]
    assert epochs == [[[5, 3, 0, 1]], [[5, 4, 2, 1]], [[2, 1, 4, 5]]]


@pytest.mark.parametrize(
    ("counts", "identities", "images", "steps"),
    [
        ([4, 4, 4], 3, 4, 1),
        ([5, 5, 5], 3, 4, 1),  # 15 rows are no two batches of 12
        ([8, 8, 8], 3, 4, 2),
        ([8, 8, 7], 3, 4, 1),  # the third has not enough for two, and there is no fourth
        ([8, 8, 4, 4], 3, 4, 2),
        ([1000, 8, 8], 2, 4, 4),  # the first one comes in each batch, the others twice each
        ([1, 1, 1], 3, 4, 1),  # repeated, so that there is a batch
    ],
)
def test_an_epoch_has_as_many_batches_as_rows_fill_without_an_identity_twice(counts, identities, images, steps):
    labels = np.repeat(np.arange(len(counts)), counts)
    assert balanced_steps(labels, Balanced(identities=identities, images=images)) == steps


@st.composite
def labelled_groups(draw):
    """Sizes of groups, a label a row (each identity's side by side, or anywhere), and batches that they can make."""
    counts = draw(st.lists(st.integers(1, 12), min_size=2, max_size=15))
    labels = np.repeat(np.arange(len(counts)) * 3, counts)  # not all numbers are labels
    if draw(st.booleans()):
        labels = np.random.default_rng(draw(st.integers(0, 9))).permutation(labels)
    size = draw(st.integers(1, 20))
    sizes = [min(size, len(labels) - first) for first in range(0, len(labels), size)]
    return sizes, labels, Balanced(identities=draw(st.integers(2, len(counts))), images=draw(st.integers(2, 6)))


@given(groups=labelled_groups(), seed=SEED, epoch=EPOCH, pool=st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_each_batch_is_of_so_many_identities_with_so_many_rows_each(groups, seed, epoch, pool):
    sizes, labels, batch = groups
    made = balanced(sizes, labels, batch, seed, epoch, pool=pool)
    assert len(made) == balanced_steps(labels, batch)
    for rows in made:
        assert rows.dtype == np.int64 and rows.shape == (batch.rows,) and rows.min() >= 0 and rows.max() < len(labels)
        chunks = rows.reshape(batch.identities, batch.images)
        shown = labels[chunks]
        assert (shown == shown[:, :1]).all() and len(set(shown[:, 0])) == batch.identities
    assert lists(balanced(sizes, labels, batch, seed, epoch, pool=pool)) == lists(made)


@given(groups=labelled_groups(), seed=SEED, pool=st.integers(1, 9))
@settings(max_examples=50, deadline=None)
def test_each_row_comes_in_some_epoch(groups, seed, pool):
    sizes, labels, batch = groups
    left = set(range(len(labels)))
    for epoch in range(500):
        left.difference_update(np.concatenate(balanced(sizes, labels, batch, seed, epoch, pool=pool)).tolist())
        if not left:
            break
    assert not left


def test_rows_come_once_an_epoch_in_the_mean():
    """60 identities of 5 rows: a chunk of 4 each, and of the rows left over one in four is shown with three others again."""
    labels, batch = np.repeat(np.arange(60), 5), Balanced(identities=6, images=4)
    shown = np.zeros(300)
    for epoch in range(200):
        shown += np.bincount(np.concatenate(balanced([50] * 6, labels, batch, epoch=epoch, pool=2)), minlength=300)
    assert balanced_steps(labels, batch) == 12 and abs(shown / 200 - 12 * 24 / 300).max() < 0.25


@pytest.mark.parametrize(("count", "different"), [(7, 3), (2, 2), (1, 1)])
def test_rows_of_an_identity_repeat_only_where_it_has_too_few(count, different):
    """Ten identities in batches of three images: of 7 rows no chunk shows one twice, of 2 each shows both."""
    for rows in balanced([count] * 10, np.repeat(np.arange(10), count), Balanced(identities=4, images=3), pool=10):
        assert [len(set(chunk)) for chunk in rows.reshape(4, 3).tolist()] == [different] * 4


@pytest.mark.parametrize("sorted_by_identity", [True, False])
@pytest.mark.parametrize("batch", [Balanced(identities=30, images=4), Balanced(identities=64, images=8)], ids=str)
def test_balanced_batches_read_at_most_twice_the_groups(sorted_by_identity, batch):
    """200 groups of 1,024 rows, identities of 1 to 135 rows. A reader has open what a pool and the one before it need."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3500), rng.integers(1, 136, 3500))[: 200 * 1024]
    assert len(labels) == 200 * 1024
    labels = labels if sorted_by_identity else rng.permutation(labels)
    read, most, before = 0, 0, set()
    for pool in balanced_pools([1024] * 200, labels, batch, 0, 0):
        needed = set((pool // 1024).ravel().tolist())
        read, most, before = read + len(needed - before), max(most, len(needed | before)), needed
    assert 0.9 * 200 <= read <= 1.1 * 200 and most <= 40


def test_identities_meet_others_in_each_batch():
    """Identity 0 has 60 rows, in 15 batches of 10 identities: 9 others each, of 100."""
    labels, batch = np.repeat(np.arange(100), 60), Balanced(identities=10, images=4)
    made = [set(labels[rows].tolist()) for rows in balanced([1000] * 6, labels, batch)]
    assert len(set().union(*(one for one in made if 0 in one))) > 60


def test_more_identities_than_there_are_is_an_error():
    with pytest.raises(ValueError, match="batches of 3 identities, but there are 2"):
        balanced([4], [0, 0, 5, 5], Balanced(identities=3, images=2))
