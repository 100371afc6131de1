"""Batch norm over the batch of all processes, also where torch has none: its own takes GPU tensors only."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.layers import SyncBatchNormAct, convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from dao.processes import dist


def synchronised(net: nn.Module, device: torch.device) -> nn.Module:
    """The model with every batch norm over all processes; weights, statistics and their names stay.

    By timm's conversion: torch's own drops the activation that timm's batch norms carry. On CPUs the class is changed
    after it, to one that DDP, which refuses torch's on CPUs, does not know.
    """
    net = convert_sync_batchnorm(net)
    if device.type == "cpu":
        for module in net.modules():
            if isinstance(module, nn.SyncBatchNorm):
                module.__class__ = PortableSyncAct if isinstance(module, SyncBatchNormAct) else PortableSync
    return net


@contextmanager
def fixed_statistics(net: nn.Module) -> Iterator[None]:
    """Batch norms answer by their statistics inside the block, and learn none; those over all processes go on, as the
    others wait for them."""
    own = [
        module
        for module in net.modules()
        if isinstance(module, _BatchNorm)
        and module.training
        and not isinstance(module, nn.SyncBatchNorm | PortableSync)
    ]
    for module in own:
        module.eval()
    try:
        yield
    finally:
        for module in own:
            module.train()


class PortableSync(_BatchNorm):
    """Batch norm (Ioffe and Szegedy 2015) whose mean and variance are those of all processes' pictures, on any device."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions."""

    def forward(self, input: Tensor) -> Tensor:
        """input: (B, C, ...) float; B may differ between processes, and be 0. Returns the same shape and dtype."""
        if not self.training:
            return functional.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        mean, var, count = moments_of_all(x)
        self._remember(mean.detach(), var.detach(), count)
        scale = (var + self.eps).rsqrt() * (1.0 if self.weight is None else self.weight)
        normal = (x - per_channel(mean, x)) * per_channel(scale, x)
        return (normal if self.bias is None else normal + per_channel(self.bias, x)).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        if not self.track_running_stats:
            return
        self.num_batches_tracked += 1
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        unbiased = var * (count / (count - 1).clamp_min(1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)


class PortableSyncAct(PortableSync):
    """The same with what timm keeps in its batch norms: their dropping out, and their activation."""

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(input)))


def moments_of_all(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance (divided by n) of each channel over all processes, and n.

    x: (B, C, ...) float32 or more. Returns (C,), (C,) and a scalar; the differences are summed once the mean is known, as sums of
    squares would lose the digits that a small variance is made of.
    """
    others = [0, *range(2, x.ndim)]
    sums = torch.cat((x.sum(others), x.new_tensor([x.numel() / x.shape[1]])))
    sums = dist.sum_with_gradient(sums)
    count = sums[-1].detach()
    mean = sums[:-1] / count
    apart = x - per_channel(mean, x)
    return mean, dist.sum_with_gradient(apart.square().sum(others)) / count, count


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    """(C,) reshaped so that it broadcasts along dimension 1 of x."""
    return values.view(1, -1, *[1] * (x.ndim - 2))
