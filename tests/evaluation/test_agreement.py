"""How far a student agrees with its teacher: ranks and neighbours by hand and by SciPy, the rows of a set, and the images that are worst."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distill.config.data import Holdout
from distill.data.sources import ShardSource
from distill.errors import DistillError
from distill.evaluation.agreement import agreement, evaluate_shards
from distill.evaluation.similarities import ROWS, likeness, neighbour_overlap, rank_correlation, ranks, sample_rows, similarities
from distill.results.agreement import agreement_notes
from tests.builders import FirstColour, make_set


def at_angles(*degrees):
    """Unit vectors in the plane."""
    turned = np.radians(degrees)
    return np.stack([np.cos(turned), np.sin(turned)], axis=1)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=40))
def test_rank_correlation_is_scipys_with_ties(pairs):
    stats = pytest.importorskip("scipy.stats")
    one, two = np.array(pairs, np.float64).T
    assert ranks(one).tolist() == stats.rankdata(one).tolist()
    found = rank_correlation(one, two)
    if len(set(one)) == 1 or len(set(two)) == 1:
        assert found is None
    else:
        assert found == pytest.approx(stats.spearmanr(one, two).statistic, abs=1e-12)


def test_likeness_by_hand():
    """Rows at 0, 10, 40 and 80 degrees: pairs are 10, 40, 80, 30, 70 and 40 degrees apart. The second model moves the last row to 20 degrees:
    10, 40, 20, 30, 10 and 20 apart."""
    found = likeness(at_angles(0, 10, 40, 80), at_angles(0, 10, 40, 20), neighbours=(1, 2, 3))
    assert (found.rows, found.pairs, set(found.neighbour_overlap)) == (4, 6, {1, 2})  # of 3 others all are among the 3 nearest
    # nearest: 0 -> 1, 1 -> 0, 2 -> 1, 3 -> 2; then 0 -> 1, 1 -> 0 (as near as 3, which comes later), 2 -> 3, 3 -> 1
    assert found.neighbour_overlap[1] == pytest.approx(2 / 4)
    assert sorted(np.degrees(np.arccos(found.first)).round().tolist()) == [10, 30, 40, 40, 70, 80]
    assert sorted(np.degrees(np.arccos(found.second)).round().tolist()) == [10, 10, 20, 20, 30, 40]


def test_width_and_length_do_not_matter_and_a_collapsed_model_has_no_rank():
    rng = np.random.default_rng(0)
    first = rng.normal(size=(50, 8)).astype(np.float32)
    wide = np.concatenate([first, np.zeros((50, 3), np.float32)], axis=1) * rng.uniform(0.5, 4, (50, 1)).astype(np.float32)
    same = likeness(first, wide)
    assert same.rank_correlation == pytest.approx(1) and same.neighbour_overlap == {1: 1.0, 10: 1.0}
    collapsed = likeness(first, np.ones((50, 2)))
    assert collapsed.rank_correlation is None and collapsed.neighbour_overlap[10] < 0.4
    assert "rank correlation -" in agreement_notes(collapsed.as_dict())[0]
    zeros = similarities(np.zeros((3, 2)))
    assert zeros.tolist() == np.zeros((3, 3)).tolist()
    with pytest.raises(DistillError, match="three rows"):
        likeness(first[:2], wide[:2])


def test_neighbours_are_those_of_sorting_all():
    rng = np.random.default_rng(1)
    first, second = (similarities(rng.normal(size=(300, 4))) for _ in range(2))  # more rows than are sorted at a time
    shares = []
    for row in range(300):
        near = [set([other for other in np.argsort(-table[row], kind="stable") if other != row][:7]) for table in (first, second)]
        shares.append(len(near[0] & near[1]) / 7)
    assert neighbour_overlap(first, second, 7) == pytest.approx(np.mean(shares))


def test_a_sample_is_of_bounded_size_and_repeats():
    assert sample_rows(5).tolist() == [0, 1, 2, 3, 4]
    some = sample_rows(10**9)
    assert len(some) == len(set(some.tolist())) == ROWS and np.array_equal(some, sample_rows(10**9)) and (np.diff(some) > 0).all()


@pytest.mark.parametrize("format", ["parquet", "hdf5"])
@pytest.mark.parametrize("part", ["all", "held_out"])
def test_the_worst_images_of_a_set_are_named(tmp_path, format, part):
    """Rows come in the order of the epoch, which is shuffled for all rows; names, sample and figures are those of all embeddings side by side."""
    make_set(tmp_path / "set", (100, 50), format)
    holdout = Holdout(by="identity", fraction=0.5)
    source = ShardSource(str(tmp_path / "set"), batch=32, seed=0, part=part, holdout=holdout, views="plain")
    model, steps = FirstColour(), []
    found = evaluate_shards(model, source, lambda done, of: steps.append((done, of)))
    rows = [(key, embedding) for shard in range(2) for group in source.set.read(shard) for key, embedding in zip(group.keys, group.embeddings, strict=True)]
    keys = source.keys(np.arange(source.rows))
    stored = dict(rows)
    assert len(set(keys)) == source.rows == found.rows and steps[-1] == (source.rows, source.rows)
    numbers = np.concatenate(list(source.order(0)))
    images = np.concatenate([pixels for pixels, _ in source.epoch(0)])[np.argsort(numbers)]
    by_hand = agreement(np.array([stored[key] for key in keys], np.float32), model(images), keys)
    assert found.mean == pytest.approx(by_hand.mean) and {key for key, _ in found.worst} == {key for key, _ in by_hand.worst}
    assert found.likeness.rank_correlation == pytest.approx(by_hand.likeness.rank_correlation, abs=1e-6)
    assert found.likeness.neighbour_overlap == pytest.approx(by_hand.likeness.neighbour_overlap, abs=0.05)
    assert [cosine for _, cosine in found.worst] == sorted(found.cosines.tolist())[:10] and len(found.as_dict()["worst"]) == 10
    arrays = found.arrays()
    assert arrays["worst_keys"].tolist() == [key for key, _ in found.worst] and len(arrays["similarity_teacher"]) == len(arrays["similarity_student"])
    notes = agreement_notes(found.as_dict())
    assert found.worst[0][0] in notes[1] and notes[1].endswith("and 7 more in --json")
