"""How weights change: a gradient step, or not at all."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor, nn


def is_update_iter(i: int, iters: int, accumulate: int) -> bool:
    """Whether iteration ``i`` (from 0) of ``iters`` ends an accumulation window; the last iteration always does."""
    return (i + 1) % accumulate == 0 or i + 1 == iters


def window_size(i: int, iters: int, accumulate: int) -> int:
    """How many iterations iteration ``i``'s window holds: ``accumulate``, or what is left for the last one.

    >>> [window_size(i, 7, 3) for i in range(7)]
    [3, 3, 3, 3, 3, 3, 1]
    """
    start = i - i % accumulate
    return min(accumulate, iters - start)


def updates_per_epoch(iters: int, accumulate: int) -> int:
    """How often the weights change in an epoch of ``iters`` iterations."""
    return -(-iters // accumulate)


class Update(Protocol):
    """What the loop asks of an update rule."""

    def autocast(self) -> AbstractContextManager[Any]:
        """Context for forward and loss."""

    def sync(self, i: int, iters: int) -> AbstractContextManager[Any]:
        """Context for forward and backward of iteration ``i``: gradients travel only when a window ends."""

    def __call__(self, loss: Tensor | None, i: int, iters: int) -> bool:
        """Take in one loss, None where a batch had nothing to learn from; True when the weights changed."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class NoUpdate:
    """For models that are fitted rather than descended: the pass only collects."""

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.no_grad()

    def sync(self, i: int, iters: int) -> AbstractContextManager[Any]:
        return nullcontext()

    def __call__(self, loss: Tensor | None, i: int, iters: int) -> bool:
        return False

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        return None


class GradientUpdate:
    """Backward, accumulate, clip, step; mixed precision where asked.

    net: the module that is trained (perhaps wrapped for DDP); accumulate: iterations per weight update, their mean
    gradient is taken, also in a short last window; clip_norm: largest total gradient norm, None for no clipping;
    amp: bfloat16 on CPUs and on GPUs that have it, float16 with loss scaling elsewhere.
    sharded: whether the net is one of `dao.trainers.sharding`; its state is whole all the same, and asked for by all.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        net: nn.Module,
        device: torch.device,
        accumulate: int = 1,
        clip_norm: float | None = None,
        amp: bool = False,
        sharded: bool = False,
    ) -> None:
        self.optimizer, self.net, self.device = optimizer, net, device
        self.accumulate, self.clip_norm, self.amp = accumulate, clip_norm, amp
        self.sharded = sharded
        self.dtype = amp_dtype(device)
        self.gathered = False  # gradients that no step has been taken by
        self.scaler = torch.amp.GradScaler(device.type, enabled=amp and self.dtype is torch.float16)

    def autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, dtype=self.dtype, enabled=True) if self.amp else nullcontext()

    def sync(self, i: int, iters: int) -> AbstractContextManager[Any]:
        if self.sharded:
            from dao.trainers import sharding

            sharding.sync_gradients(self.net, is_update_iter(i, iters, self.accumulate))
        wrapped = isinstance(self.net, nn.parallel.DistributedDataParallel)
        return self.net.no_sync() if wrapped and not is_update_iter(i, iters, self.accumulate) else nullcontext()

    def __call__(self, loss: Tensor | None, i: int, iters: int) -> bool:
        divisor = window_size(i, iters, self.accumulate)
        if loss is not None:
            self.scaler.scale(loss / divisor if divisor > 1 else loss).backward()
            self.gathered = True
        if not self.gathered or not is_update_iter(i, iters, self.accumulate):
            return False
        self.gathered = False
        if self.clip_norm is not None:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.net.parameters(), self.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return True

    def state_dict(self) -> dict[str, Any]:
        state = self.optimizer.state_dict()
        if self.sharded:
            from dao.trainers import sharding

            state = sharding.whole(state)
        return {"optimizer": state, "scaler": self.scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self.sharded:
            from dao.trainers import sharding

            sharding.load_optimizer(self.optimizer, state["optimizer"])
        else:
            self.optimizer.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


def amp_dtype(device: torch.device) -> torch.dtype:
    """The half precision of a device."""
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return torch.float16
    return torch.bfloat16
