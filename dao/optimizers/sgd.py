"""Plain SGD with the three parameter groups that convolutional networks are usually trained with."""

from __future__ import annotations

import torch
from torch import nn

from dao.errors import ConfigError, Problem
from dao.optimizers.groups import parameter_groups
from dao.register import Registers


@Registers.optimizers.register()
def sgd_warmup_bias_bn_weight(
    model: nn.Module,
    *,
    lr: float,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    nesterov: bool = True,
    layer_decay: float | None = None,
) -> torch.optim.Optimizer:
    """SGD in three groups, as YOLOX: "norm" and "bias" without weight decay, "weight" with it.

    lr: the base rate; its warm-up start is the scheduler's (``warmup_epochs``, ``warmup_lr_ratio``).
    layer_decay: factor of the rate from one layer to the one before it; timm models only.
    Frozen parameters are left out. Raises ConfigError when all are frozen, or a setting is out of range.
    """
    groups = parameter_groups(model, lr, weight_decay, layer_decay)
    try:
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
    except ValueError as error:
        raise ConfigError(Problem("optimizer.kwargs", str(error))) from None
