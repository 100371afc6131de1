from __future__ import annotations

import random
from collections import Counter
from itertools import product

import pytest

from dao.dataloaders.splits import assign_splits, largest_remainder, ratio_problem

RATIOS = {"train": 0.7, "val": 0.2, "test": 0.1}
NAMES = [f"picture {i}" for i in range(100)]


def test_each_class_is_divided_by_the_ratios_exactly():
    labels = [(0,)] * 70 + [(1,)] * 20 + [(2,)] * 10
    counts = Counter(zip(assign_splits(NAMES, labels, RATIOS), labels))
    for (label, total), (split, ratio) in product({0: 70, 1: 20, 2: 10}.items(), RATIOS.items()):
        assert counts[split, (label,)] == round(total * ratio)


@pytest.mark.parametrize("groups", [None, [f"g{i // 7}" for i in range(100)]])
def test_listing_order_changes_nothing_and_the_seed_does(groups):
    labels = [(i % 3,) for i in range(100)]
    first = dict(zip(NAMES, assign_splits(NAMES, labels, RATIOS, 5, groups)))
    order = random.Random(0).sample(range(100), 100)
    shuffled = groups and [groups[i] for i in order]
    again = assign_splits([NAMES[i] for i in order], [labels[i] for i in order], RATIOS, 5, shuffled)
    assert dict(zip([NAMES[i] for i in order], again)) == first
    assert dict(zip(NAMES, assign_splits(NAMES, labels, RATIOS, 6, groups))) != first


def test_the_division_is_fixed_for_all_platforms_and_versions():
    """A changed hash would silently move training pictures into everybody's validation set."""
    got = assign_splits([f"{i}.png" for i in range(12)], [(0,)] * 12, {"train": 0.75, "val": 0.25})
    assert [i for i, split in enumerate(got) if split == "val"] == [2, 8, 10]


def test_groups_never_lie_on_both_sides_and_classes_stay_near_their_ratios():
    rng = random.Random(1)
    groups, labels = [], []
    for group in range(120):
        kind = rng.choices([0, 1, 2], [6, 3, 1])[0]
        size = rng.randint(1, 6)
        groups += [f"part {group}"] * size
        labels += [(kind,)] * size
    names = [str(i) for i in range(len(groups))]
    splits = assign_splits(names, labels, RATIOS, 0, groups)
    side: dict[str, set[str]] = {}
    for group, split in zip(groups, splits):
        side.setdefault(group, set()).add(split)
    assert all(len(found) == 1 for found in side.values())
    totals, counts = Counter(labels), Counter(zip(labels, splits))
    for label, split in product(totals, RATIOS):
        assert abs(counts[label, split] - RATIOS[split] * totals[label]) <= 6  # the largest group


def test_ungrouped_pictures_stand_alone_beside_grouped_ones():
    splits = assign_splits(list("abcdefgh"), [(0,)] * 8, {"a": 0.5, "b": 0.5}, 0, ["g", "g", "g", "g"] + [None] * 4)
    assert len(set(splits[:4])) == 1 and Counter(splits) == {"a": 4, "b": 4}


def test_several_labels_a_picture_are_stratified():
    labels = [((0,), (0, 1), (1, 2), ())[i % 4] for i in range(100)]
    splits = assign_splits(NAMES, labels, RATIOS)
    for label in range(3):
        mine = [split for split, found in zip(splits, labels) if label in found]
        for split, ratio in RATIOS.items():
            assert abs(mine.count(split) - ratio * len(mine)) <= 2


@pytest.mark.parametrize("total", range(12))
def test_largest_remainder_adds_up_and_is_within_one(total):
    counts = largest_remainder(total, RATIOS)
    assert sum(counts.values()) == total
    assert all(abs(counts[s] - total * r) < 1 for s, r in RATIOS.items())


@pytest.mark.parametrize("ratios", [{}, {"a": 0.5}, {"a": 1.2, "b": -0.2}, {"a": 0.0, "b": 1.0}])
def test_bad_ratios(ratios):
    assert ratio_problem(ratios)
    with pytest.raises(ValueError):
        assign_splits(["x"], [(0,)], ratios)


def parts(classes, pictures, ratios, groups=None):
    names = [f"{c}/{i}.png" for c in range(classes) for i in range(pictures)]
    labels = [(c,) for c in range(classes) for _ in range(pictures)]
    splits = assign_splits(names, labels, ratios, 0, names if groups else None)
    return Counter(splits), Counter(zip(labels, splits))


@pytest.mark.parametrize("groups", [False, True])
def test_splits_of_equal_ratio_fill_alike_where_every_class_ties(groups):
    """50 classes of 5 at .8/.1/.1: a half is due to val and to test in each class, and all of them went to val."""
    totals, _ = parts(50, 5, {"train": 0.8, "val": 0.1, "test": 0.1}, groups)
    assert totals == {"train": 200, "val": 25, "test": 25}


def test_a_split_that_no_class_alone_would_fill_gets_its_share_of_all_pictures():
    """50 classes of 3 at .8/.1/.1: 2.4, .3 and .3 a class, which largest remainders make 3, 0 and 0."""
    totals, by_class = parts(50, 3, {"train": 0.8, "val": 0.1, "test": 0.1})
    assert totals == {"train": 120, "val": 15, "test": 15}
    assert all(by_class[(c,), "train"] for c in range(50))  # none of them loses all it learns from


def test_the_only_picture_of_a_class_is_learnt_from_and_two_halves_of_odd_classes_are_equal():
    totals, _ = parts(3, 1, {"train": 0.8, "val": 0.2})
    assert totals == {"train": 3}
    totals, by_class = parts(10, 5, {"train": 0.5, "val": 0.5})
    assert totals == {"train": 25, "val": 25} and set(by_class.values()) == {2, 3}
