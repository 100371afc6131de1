"""A network's stages: the larger blocks between which memory can be saved, by recomputing or by sharding them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from dao.errors import ConfigError, Problem

LARGE, SMALL = (
    1 / 8,
    1 / 100,
)  # of the whole network's parameters: more is looked into, less stays with what is round it
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)  # their items are called, they themselves perhaps not


def stages(model: nn.Module) -> list[nn.Module]:
    """Modules inside the model, none within another, that are called as a whole and hold most of its parameters."""
    return _stages(model, sum(p.numel() for p in model.parameters()))


def _stages(module: nn.Module, total: int) -> list[nn.Module]:
    found: list[nn.Module] = []
    for child in module.children():
        share = sum(p.numel() for p in child.parameters()) / max(total, 1)
        if share < SMALL or not any(True for _ in child.children()):
            continue
        inner = _stages(child, total) if isinstance(child, CONTAINERS) or share > LARGE else []
        found += inner or ([] if isinstance(child, CONTAINERS) else [child])
    return found


def recompute(model: nn.Module) -> None:
    """Keep what passes between stages only, and compute what is inside anew for the gradient (Chen et al. 2016).

    By the model's own method where it has one (timm's). Raises ConfigError for a model without stages.
    """
    if not _by_itself(model):
        found = stages(model)
        if not found:
            message = f"{type(model).__name__} has no stages that could be computed anew; leave the setting out"
            raise ConfigError(Problem("trainer.kwargs.grad_checkpointing", message))
        for stage in found:
            own = type(stage)
            stage.__class__ = type(own.__name__, (own,), {"forward": _recomputed(own)})
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.register_forward_pre_hook(_stop_counting)
            module.register_forward_hook(_count_again)


def _by_itself(model: nn.Module) -> bool:
    if not hasattr(model, "set_grad_checkpointing"):
        return False
    try:
        model.set_grad_checkpointing(True)
    except (AssertionError, NotImplementedError):  # timm's way of saying that this model has it only by name
        return False
    return True


def _recomputed(own: type[nn.Module]) -> Any:
    def forward(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not (self.training and torch.is_grad_enabled()):
            return own.forward(self, *args, **kwargs)
        return checkpoint(own.forward, self, *args, use_reentrant=False, **kwargs)

    return forward


# A batch norm that is computed anew has counted this batch already: its running statistics must not move twice.


def _stop_counting(module: Any, _: Any) -> None:
    if module.training and torch._C._current_graph_task_id() != -1:  # inside a backward pass
        module.counted_before = module.momentum
        module.momentum = 0.0


def _count_again(module: Any, _: Any, __: Any) -> None:
    if "counted_before" in vars(module):
        module.momentum = vars(module).pop("counted_before")
        if module.num_batches_tracked is not None:
            module.num_batches_tracked -= 1
