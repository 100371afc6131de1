"""A Gaussian for every position of a map: gathered in one pass, in memory that does not grow with the pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from dao.processes import dist

POSITIONS_AT_ONCE = 256  # worked on together: what they need stays in the processor's cache
PICTURES_AT_ONCE = 32  # all sums are read and written once for so many pictures: memory traffic is what the pass costs


class StreamedGaussians:
    """Sums from which mean and covariance of every position follow: P * d * (d + 1) float64 numbers, whatever N is.

    positions: P; dimensions: d. Beside the sums, the features of up to PICTURES_AT_ONCE pictures wait their turn.
    """

    def __init__(self, positions: int, dimensions: int, device: torch.device) -> None:
        self.count = torch.zeros(1, dtype=torch.float64, device=device)
        self.sums = torch.zeros((positions, dimensions), dtype=torch.float64, device=device)
        sizes = [len(part) for part in self.sums.split(POSITIONS_AT_ONCE)]
        # many blocks and not one: each is let go as soon as it has been made use of
        self.products = [
            torch.zeros((size, dimensions, dimensions), dtype=torch.float64, device=device) for size in sizes
        ]
        self.waiting: list[Tensor] = []

    def update(self, features: Tensor) -> None:
        """features: (P, B, d), any float type."""
        self.count += features.shape[1]
        self.waiting.append(features)
        if sum(part.shape[1] for part in self.waiting) >= PICTURES_AT_ONCE:
            self._add_waiting()

    def _add_waiting(self) -> None:
        if not self.waiting:
            return
        blocks = zip(*(part.split(POSITIONS_AT_ONCE) for part in self.waiting), strict=True)
        for own, sums, products in zip(blocks, self.sums.split(POSITIONS_AT_ONCE), self.products, strict=True):
            x = torch.cat(own, dim=1).double()
            sums += x.sum(dim=1)
            products.baddbmm_(x.transpose(1, 2), x)
        self.waiting = []

    def reduce(self) -> None:
        """Sum over all processes: each is left with all of it."""
        self._add_waiting()
        for part in (self.count, self.sums, *self.products):
            dist.all_reduce_sum(part)

    def mean(self) -> Tensor:
        """(P, d) float64."""
        self._add_waiting()
        return self.sums / self.count

    def take_covariances(self, epsilon: float) -> Iterator[Tensor]:
        """(POSITIONS_AT_ONCE, d, d) float64 blocks, in order: the sample covariance plus ``epsilon`` on its diagonal.

        PaDiM eq. (1). Made in the place of the sums of products, each of which is gone after its turn.
        """
        n = int(self.count.item())
        for mean in self.mean().split(POSITIONS_AT_ONCE):
            cov = self.products.pop(0)
            cov.baddbmm_(mean.unsqueeze(2), mean.unsqueeze(1), alpha=-float(n))
            cov /= max(n - 1, 1)
            cov.diagonal(dim1=1, dim2=2).add_(epsilon)
            yield cov


def whitening(covariances: Iterable[Tensor], positions: int) -> Tensor:
    """(P, d, d) float32 upper triangular roots R of the precision: ``(x - mean) @ R`` is as long as x is far.

    R is the transposed inverse of the covariance's lower Cholesky factor; far: the Mahalanobis distance.
    covariances: blocks of (., d, d) float64, positive definite, ``positions`` = P of them in all.
    """
    out, start = torch.empty(0), 0
    for covariance in covariances:
        if not len(out):
            out = torch.empty((positions, *covariance.shape[1:]), dtype=torch.float32, device=covariance.device)
        factor = torch.linalg.cholesky(covariance)
        eye = torch.eye(factor.shape[1], dtype=factor.dtype, device=factor.device)
        inverse = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)
        out[start : start + len(factor)] = inverse.transpose(1, 2)
        start += len(factor)
    return out


def mahalanobis(features: Tensor, mean: Tensor, precision_root: Tensor) -> Tensor:
    """Distance of every position to its own Gaussian, PaDiM eq. (2), in standard deviations.

    features: (P, B, d) float32; mean: (P, d); precision_root: (P, d, d) of `whitening`. Returns (P, B).
    """
    return torch.bmm(features - mean.unsqueeze(1), precision_root).square().sum(dim=2).sqrt()
