"""What goes round a model while it is trained: batch norms over all processes, recomputing, compiling, DDP or FSDP.

A run's ``task.model`` is the model that answers and is saved, ``task.net`` what training calls. By FSDP these are two: the
net is kept in shares, and the model gets its weights when an epoch is done.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from loguru import logger
from torch import nn

from dao.errors import ConfigError, Problem
from dao.models.pretrained import freeze_modules
from dao.models.stages import recompute
from dao.models.sync_bn import synchronised
from dao.processes import dist
from dao.trainers.base import plain
from dao.trainers.update import GradientUpdate, amp_dtype

if TYPE_CHECKING:
    from dao.trainers.trainval import TrainVal


def wrap(trainer: TrainVal) -> None:
    """Everything goes round the model last; hooks and checkpoints see the bare one."""
    if trainer.sharded:
        trainer.task.net = trainer.trained
        trainer.task.model.to(trainer.device)  # a resumed run may owe a validation
        return
    net = trainer.task.model
    if trainer.sync_bn and dist.world_size() > 1:
        net = trainer.task.model = trainer.trained = _synchronised(trainer, net)
    if trainer.static_graph:
        refuse_for_phases(trainer, "static_graph")
    if trainer.grad_checkpointing:
        recompute(net)
    if trainer.compile:
        net = torch.compile(net)  # type: ignore[assignment]
    if isinstance(trainer.update, GradientUpdate):
        in_phases = getattr(trainer.task.model, "in_phases", False)  # then not every weight has a gradient each time
        net = dist.wrap_model(net, trainer.device, find_unused=in_phases, static_graph=trainer.static_graph)
        trainer.update.net = net
    trainer.task.net = net


def _synchronised(trainer: TrainVal, net: nn.Module) -> nn.Module:
    """Batch norms over all processes; they are new modules, so what was frozen is frozen anew."""
    net = synchronised(net, trainer.device)
    freeze_modules(net, plain(trainer.config.model).get("kwargs", {}).get("freeze") or [])
    return net


def shard(trainer: TrainVal, model: nn.Module) -> nn.Module:
    """A copy of the model to be trained, in shares. The optimizer is made for its parameters, so it comes first."""
    from dao.trainers import sharding

    net = copy.deepcopy(model.cpu())  # sharding brings it to the device stage by stage
    if trainer.sync_bn:
        net = _synchronised(trainer, net)
    if trainer.grad_checkpointing:
        recompute(net)
    return sharding.shard(net, trainer.device)


def spread_weights(trainer: TrainVal) -> None:
    """The model was given other weights: what is trained in shares gets them as well."""
    if trainer.sharded:
        from dao.trainers import sharding

        sharding.load_model(trainer.trained, trainer.task.model.state_dict())


def full_weights(trainer: TrainVal) -> dict[str, Any]:
    """The trained weights, whole; where they are trained in shares every process must ask."""
    if not trainer.sharded:
        return trainer.task.model.state_dict()
    from dao.trainers import sharding

    return sharding.whole(trainer.trained.state_dict())


def gather_weights(trainer: TrainVal) -> None:
    """An epoch is done: the model answers with the weights that were trained in shares."""
    if trainer.sharded:
        trainer.task.model.load_state_dict(full_weights(trainer))
        trainer.task.model.to(trainer.device)


def refuse_for_fitted(trainer: TrainVal) -> None:
    """Raise ConfigError for settings of a gradient step, which would be without effect."""
    needs = {"ema": "weights to average", "grad_checkpointing": "gradients", "static_graph": "gradients"}
    wrong = [name for name in needs if getattr(trainer, name)]
    problems = [Problem(f"trainer.kwargs.{name}", f"a model that is fitted has no {needs[name]}") for name in wrong]
    if trainer.strategy == "fsdp":
        message = "a model that is fitted has no gradients to share: leave fsdp out"
        problems.append(Problem("trainer.kwargs.strategy", message))
    if problems:
        raise ConfigError(problems)


def refuse_for_phases(trainer: TrainVal, setting: str) -> None:
    """Raise ConfigError for a model that trains its parts in turn, where ``setting`` expects the same of every iteration."""
    if getattr(trainer.task.model, "in_phases", False):
        name = type(trainer.task.model).__name__
        where = "strategy" if setting == "fsdp" else setting
        raise ConfigError(
            Problem(f"trainer.kwargs.{where}", f"{name} trains its parts in turn, which {setting} cannot do")
        )


def refuse_with_shares(trainer: TrainVal) -> None:
    """Raise ConfigError for settings that do not go together with fsdp, on however many processes."""
    from dao.trainers import sharding

    refuse_for_phases(trainer, "fsdp")
    half = amp_dtype(trainer.device) if trainer.amp else None
    settings = {"ema": trainer.ema, "compile": trainer.compile, "static_graph": trainer.static_graph}
    sharding.refuse(trainer.optimizer, half, settings)
    if not trainer.sharded:
        logger.info("strategy fsdp: one process has nobody to share with, and trains as ever")
