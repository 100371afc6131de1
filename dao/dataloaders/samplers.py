"""Which pictures make up which batch, on which process.

Both samplers yield lists of indices, one list a batch, with the epoch they belong to: workers live on from epoch to
epoch, and augmentation depends on the epoch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dao.dataloaders.datasets.base import ImageDataset
from dao.errors import RunError
from dao.words.counted import counted


class BatchKey(NamedTuple):
    """What a worker is asked for: the pictures of one batch, in one epoch, with or without augmentation."""

    epoch: int
    indices: list[int]
    augment: bool = True


class TrainSampler:
    """Shuffled batches; their order is a function of (seed, epoch) alone.

    num_samples: pictures in the dataset; batch_size: pictures a batch on each process.
    weights: (num_samples,) positive; with them pictures are drawn with replacement, so many as there are.

    Every epoch takes each picture once. ``world_size * batch_size`` consecutive pictures of the shuffled order make up
    a global batch, dealt to the processes in turn, so that every process has equally many batches (DDP waits for all).
    The last global batch may be smaller: its shares differ by at most one picture. If it holds fewer pictures than
    there are processes, it is dropped: at most world_size - 1 pictures of this epoch, others in the next.
    complete: keep it all the same; then a process's last batch may be empty (models that are fitted want every picture).
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        weights: NDArray[np.float64] | None = None,
        complete: bool = False,
    ) -> None:
        if num_samples < world_size:
            raise RunError(
                f"{counted(num_samples, 'training picture')} cannot be shared among {world_size} processes; "
                "start fewer processes (--devices)"
            )
        self.num_samples, self.batch_size, self.seed = num_samples, batch_size, seed
        self.rank, self.world_size, self.complete = rank, world_size, complete
        self._cumulative = None if weights is None else np.cumsum(weights / weights.sum())
        self.epoch = self.start_iter = 0
        self.augment = True

    @property
    def iters_per_epoch(self) -> int:
        """Batches of a whole epoch, on every process."""
        whole, rest = divmod(self.num_samples, self.batch_size * self.world_size)
        if self.complete:
            return whole + (rest > 0)
        return whole + (rest >= self.world_size and not self.joins_rest)

    @property
    def joins_rest(self) -> bool:
        """Whether what is left over joins the batch before: one picture alone has no batch statistics."""
        whole, rest = divmod(self.num_samples, self.batch_size * self.world_size)
        return not self.complete and whole > 0 and self.batch_size > 1 and 0 < rest < 2 * self.world_size

    def set_epoch(self, epoch: int, start_iter: int = 0, augment: bool = True) -> None:
        """Which epoch the next iteration runs through, from which of its batches, with or without augmentation."""
        self.epoch, self.start_iter, self.augment = epoch, start_iter, augment

    def __len__(self) -> int:
        return max(0, self.iters_per_epoch - self.start_iter)

    def __iter__(self) -> Iterator[BatchKey]:
        order, epoch, augment = self.order(), self.epoch, self.augment
        step = self.batch_size * self.world_size
        for i in range(self.start_iter, self.iters_per_epoch):
            last = i + 1 == self.iters_per_epoch and self.joins_rest
            share = order[i * step : None if last else (i + 1) * step][self.rank :: self.world_size]
            yield BatchKey(epoch, share.tolist(), augment)

    def order(self) -> NDArray[np.int64]:
        """(num_samples,) indices in the order of this epoch, the same on every process."""
        rng = np.random.default_rng((self.seed, self.epoch))
        if self._cumulative is None:
            return rng.permutation(self.num_samples)
        drawn = np.searchsorted(self._cumulative, rng.random(self.num_samples), side="right")
        return np.minimum(drawn, self.num_samples - 1)  # the sum of the weights may round to just below 1


class EvalSampler:
    """Every picture exactly once over all processes: rank r takes r, r + world_size, ...; nothing is padded.

    Processes may differ by one batch, so nothing that waits for the others may run inside the loop.
    """

    def __init__(self, num_samples: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.batch_size = batch_size
        self._indices = range(rank, num_samples, world_size)
        self.epoch = self.start_iter = 0

    @property
    def iters_per_epoch(self) -> int:
        """Batches of a whole pass on this process."""
        return -(-len(self._indices) // self.batch_size)

    def set_epoch(self, epoch: int, start_iter: int = 0, augment: bool = True) -> None:
        """Which epoch (it seeds transforms, if there are any) and from which batch."""
        self.epoch, self.start_iter, self.augment = epoch, start_iter, augment

    def __len__(self) -> int:
        return max(0, self.iters_per_epoch - self.start_iter)

    def __iter__(self) -> Iterator[BatchKey]:
        for i in range(self.start_iter, self.iters_per_epoch):
            yield BatchKey(self.epoch, list(self._indices[i * self.batch_size : (i + 1) * self.batch_size]))


def balanced_weights(dataset: ImageDataset) -> NDArray[np.float64]:
    """(num_samples,) weights by which every class is drawn equally often.

    A picture weighs 1 / (pictures of its class); one with several classes weighs as its rarest; those without any
    count as a class of their own.
    """
    return label_weights(dataset.picture_labels())


def label_weights(labels: Sequence[tuple[int, ...]]) -> NDArray[np.float64]:
    """`balanced_weights` of bare label tuples."""
    keys = [label or (-1,) for label in labels]
    counts: dict[int, int] = {}
    for key in keys:
        for label in key:
            counts[label] = counts.get(label, 0) + 1
    return np.array([1 / min(counts[label] for label in key) for key in keys], np.float64)
