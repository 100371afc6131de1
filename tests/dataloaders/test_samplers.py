from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from dao.dataloaders.samplers import EvalSampler, TrainSampler, label_weights
from dao.errors import RunError

WORLDS = (1, 2, 3, 4)


def batches(sampler) -> list[list[int]]:
    return [key.indices for key in sampler]


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("count", [4, 7, 24, 25, 26, 27, 31])
def test_training_shards(world, count):
    """Equally many batches everywhere, every picture once, and none alone in a batch: it would have no statistics."""
    ranks = [batches(TrainSampler(count, 3, seed=1, rank=r, world_size=world)) for r in range(world)]
    assert (
        len({len(shard) for shard in ranks})
        == 1
        == len({len(TrainSampler(count, 3, 1, r, world)) for r in range(world)})
    )
    least = 2 if count >= 6 * world else 1
    assert all(least <= len(batch) <= 3 + 2 for shard in ranks for batch in shard)
    for parts in zip(*ranks):
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
    seen = [i for shard in ranks for batch in shard for i in batch]
    assert len(seen) == len(set(seen))
    assert len(seen) == count


@pytest.mark.parametrize(("world", "table"), [(1, [[8, 3]]), (2, [[10], [9]]), (3, [[9], [9], [8]])])
def test_sizes_by_hand(world, table):
    """11, 19 and 26 pictures at 8 a batch: rests of 3, 3 and 2, the last two too small for batches of their own."""
    count = {1: 11, 2: 19, 3: 26}[world]
    got = [[len(b) for b in batches(TrainSampler(count, 8, 0, r, world))] for r in range(world)]
    assert got == table


def test_global_batches_do_not_depend_on_the_number_of_processes():
    alone = batches(TrainSampler(24, 12, 3))
    shared = [batches(TrainSampler(24, 3, 3, r, 4)) for r in range(4)]
    assert [set(b) for b in alone] == [set().union(*parts) for parts in zip(*shared)]


def test_order_is_a_function_of_seed_and_epoch():
    def order(seed: int, epoch: int) -> list[int]:
        sampler = TrainSampler(50, 8, seed)
        sampler.set_epoch(epoch)
        return [i for batch in batches(sampler) for i in batch]

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(s, e)) for s in range(3) for e in range(3)}) == 9
    assert sorted(order(1, 2)) == list(range(50))


@pytest.mark.parametrize("start", [0, 1, 4, 7])
def test_resuming_gives_the_tail(start):
    whole, resumed = TrainSampler(50, 8, 1), TrainSampler(50, 8, 1)
    whole.set_epoch(5)
    resumed.set_epoch(5, start)
    assert list(resumed) == list(whole)[start:]
    assert len(resumed) == 7 - start and resumed.iters_per_epoch == 7
    assert all(key.epoch == 5 for key in resumed)


def test_balanced_draws_every_class_equally_often():
    labels = [(0,)] * 900 + [(1,)] * 90 + [(2,)] * 10
    counts: Counter[int] = Counter()
    for epoch in range(9):
        sampler = TrainSampler(1000, 50, 0, weights=label_weights(labels))
        sampler.set_epoch(epoch)
        counts.update(labels[i][0] for batch in batches(sampler) for i in batch)
    assert sum(counts.values()) == 9000
    assert all(abs(counts[label] - 3000) < 200 for label in range(3))  # 4.5 standard deviations


def test_weights_of_several_labels_are_those_of_the_rarest():
    weights = label_weights([(0,), (0,), (0, 1), ()])
    assert np.allclose(weights, [1 / 3, 1 / 3, 1, 1])


def test_too_few_pictures_for_the_processes():
    with pytest.raises(RunError, match="2 training pictures cannot be shared among 3 processes"):
        TrainSampler(2, 8, 0, 0, 3)


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("count", [0, 1, 5, 12, 13])
def test_evaluation_sees_every_picture_once(world, count):
    ranks = [batches(EvalSampler(count, 4, r, world)) for r in range(world)]
    assert sorted(i for shard in ranks for batch in shard for i in batch) == list(range(count))
    assert all(i % world == r for r, shard in enumerate(ranks) for batch in shard for i in batch)
    assert [len(shard) for shard in ranks] == [len(EvalSampler(count, 4, r, world)) for r in range(world)]
