"""A Gaussian for every position of a map: gathered in one pass, in memory that does not grow with the pictures."""

from __future__ import annotations

import torch
from torch import Tensor

from dao.utils import dist

POSITIONS_AT_ONCE = 512  # of which the triangular matrices are inverted together


class StreamedGaussians:
    """Sums from which mean and covariance of every position follow: P * d * (d + 1) float64 numbers, whatever N is.

    positions: P; dimensions: d.
    """

    def __init__(self, positions: int, dimensions: int, device: torch.device) -> None:
        self.count = torch.zeros(1, dtype=torch.float64, device=device)
        self.sums = torch.zeros((positions, dimensions), dtype=torch.float64, device=device)
        self.products = torch.zeros((positions, dimensions, dimensions), dtype=torch.float64, device=device)

    def update(self, features: Tensor) -> None:
        """features: (P, B, d), any float type."""
        x = features.double()
        self.count += x.shape[1]
        self.sums += x.sum(dim=1)
        self.products.baddbmm_(x.transpose(1, 2), x)

    def reduce(self) -> None:
        """Sum over all processes: each is left with all of it."""
        for part in (self.count, self.sums, self.products):
            dist.all_reduce_sum(part)

    def mean(self) -> Tensor:
        """(P, d) float64."""
        return self.sums / self.count

    def take_covariance(self, epsilon: float) -> Tensor:
        """(P, d, d) float64: the sample covariance plus ``epsilon`` on its diagonal, PaDiM eq. (1).

        Made in the place of the sums of products, which are gone after.
        """
        n = int(self.count.item())
        mean, cov = self.mean(), self.products
        cov.baddbmm_(mean.unsqueeze(2), mean.unsqueeze(1), alpha=-float(n))
        cov /= max(n - 1, 1)
        cov.diagonal(dim1=1, dim2=2).add_(epsilon)
        return cov


def whitening(covariance: Tensor) -> Tensor:
    """(P, d, d) float32 inverses of the lower Cholesky factors: ``W @ (x - mean)`` has length the distance of x.

    covariance: (P, d, d) float64, positive definite.
    """
    out = torch.empty(covariance.shape, dtype=torch.float32, device=covariance.device)
    eye = torch.eye(covariance.shape[1], dtype=covariance.dtype, device=covariance.device)
    for start in range(0, len(covariance), POSITIONS_AT_ONCE):
        part = slice(start, start + POSITIONS_AT_ONCE)
        factor = torch.linalg.cholesky(covariance[part])
        out[part] = torch.linalg.solve_triangular(factor, eye.expand_as(factor), upper=False)
    return out


def mahalanobis(features: Tensor, mean: Tensor, white: Tensor) -> Tensor:
    """Distance of every position to its own Gaussian, PaDiM eq. (2), in standard deviations.

    features: (P, B, d) float32; mean: (P, d); white: (P, d, d) of `whitening`. Returns (P, B).
    """
    centred = features - mean.unsqueeze(1)
    return torch.bmm(centred, white.transpose(1, 2)).square().sum(dim=2).sqrt()
