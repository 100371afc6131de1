"""The pruned greedy chooses what the literal one chooses, ties included."""

import numpy as np
import pytest

from dao.models.anomaly import coreset
from dao.models.anomaly.coreset import brute_force_k_centre, greedy_k_centre


@pytest.fixture(autouse=True, params=[(1, 1), (7, 3), (32, 8)], ids=lambda sizes: f"pool{sizes[0]}")
def sizes(request, monkeypatch):
    """Pools far smaller than the set, so that most points lie outside; with the shipped ones all of a small set fits in."""
    pool, block = request.param
    monkeypatch.setattr(coreset, "POOL", pool)
    monkeypatch.setattr(coreset, "BLOCK", block)
    return pool


@pytest.fixture
def steps(monkeypatch):
    """How often each step of the algorithm was taken."""
    taken = dict.fromkeys(("_compete", "_farthest", "_update_block"), 0)

    def counting(name, own):
        def step(*args):
            taken[name] += 1
            return own(*args)

        return step

    for name in taken:
        monkeypatch.setattr(coreset._LazyGreedy, name, counting(name, getattr(coreset._LazyGreedy, name)))
    return taken


def literal(points, count, first):
    """Straight from the definition, one point at a time, in float64 sums of float32 differences where it matters not."""
    chosen = [first]
    while len(chosen) < count:
        gaps = points[:, None] - points[chosen][None]
        nearest = np.einsum("nkd,nkd->nk", gaps, gaps).min(1)
        chosen.append(int(np.argmax(nearest)))
    return np.array(chosen)


def clusters(seed, n=400, d=8, groups=15):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, d))
    return (centres[rng.integers(0, groups, n)] + 0.2 * rng.normal(size=(n, d))).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_clustered_points(seed, steps):
    points = clusters(seed)
    found, work = greedy_k_centre(points, 80, first=seed)
    assert np.array_equal(found, literal(points, 80, seed))
    assert np.array_equal(found, brute_force_k_centre(points, 80, seed))
    assert steps["_compete"] > 1 and steps["_update_block"] > 1


def test_most_pairs_of_clustered_points_are_never_looked_at(steps):
    points = clusters(0, n=3000)
    found, work = greedy_k_centre(points, 200)
    assert np.array_equal(found, brute_force_k_centre(points, 200))
    assert work.literal == 3000 * 200 and work.products + work.differences < 0.5 * work.literal


def test_whole_numbers_where_almost_everything_ties(steps):
    grid = np.stack(np.meshgrid(*[np.arange(5)] * 3), -1).reshape(-1, 3).astype(np.float32)
    for first in (0, 62, 124):
        assert np.array_equal(greedy_k_centre(grid, 110, first)[0], literal(grid, 110, first))
    assert steps["_farthest"] > 1  # the farthest of the pool is no farther than what lies outside


def test_copies_of_points_and_more_centres_than_different_points():
    points = np.repeat(clusters(0, n=6), 7, axis=0)
    assert np.array_equal(greedy_k_centre(points, 20)[0], brute_force_k_centre(points, 20))


def test_points_in_high_dimension_where_nothing_can_be_pruned():
    points = np.random.default_rng(0).normal(size=(200, 64)).astype(np.float32)
    assert np.array_equal(greedy_k_centre(points, 50)[0], literal(points, 50, 0))


def test_all_of_them():
    points = clusters(3, n=60)
    assert sorted(greedy_k_centre(points, 60)[0]) == list(range(60))
