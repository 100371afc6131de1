"""FSDP: every process keeps a share of weights, gradients and optimizer state, and borrows the rest for a moment.

With `dao.processes.dist` the one place that knows torch.distributed. What leaves here is whole again: checkpoints of a sharded
run are those of any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from dao.errors import ConfigError, Problem
from dao.models.stages import stages
from dao.processes import dist

# what these compute for one weight depends on that weight alone, so that a share of a tensor is enough
ELEMENTWISE = {"SGD", "Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "Adagrad", "Adadelta", "Adamax"}


def shard(model: nn.Module, device: torch.device) -> nn.Module:
    """The model, in place, with the parameters of every stage and of what is left over dealt to all processes."""
    mesh = init_device_mesh(device.type, (dist.world_size(),))
    for stage in stages(model):
        stage.register_forward_hook(_no_views)
        fully_shard(stage, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def _no_views(_: nn.Module, __: Any, output: Any) -> Any:
    """FSDP loses a view's gradient hook, and with it the gradient, where somebody changes the view in place."""
    return output.clone() if isinstance(output, Tensor) and output._is_view() else output


def sync_gradients(model: nn.Module, wanted: bool) -> None:
    """Whether the next backward pass deals the gradients out, or keeps them whole for the passes to come."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(wanted)


def whole(value: Any) -> Any:
    """The same state with every sharded tensor put together, on the CPU; every process must ask, all get it."""
    if isinstance(value, DTensor):
        return value.full_tensor().cpu()
    if isinstance(value, Mapping):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(whole(item) for item in value)
    return value


@torch.no_grad()
def load_model(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Deal a whole state dict out, which every process has. Raises RuntimeError where names or shapes do not fit."""
    own = model.state_dict()
    if own.keys() != state.keys():
        raise RuntimeError(f"names differ: {', '.join(sorted(own.keys() ^ state.keys())[:5])}")
    for name, value in own.items():
        if value.shape != state[name].shape:
            raise RuntimeError(f"{name} has shape {tuple(value.shape)}, the file's {tuple(state[name].shape)}")
        value.copy_(_like(value, state[name]))


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Deal a whole optimizer state out: what has a parameter's shape is sharded as that parameter is."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = [number for group in state["param_groups"] for number in group["params"]]
    owner = dict(zip(numbers, parameters, strict=True))
    dealt = {
        number: {
            key: _like(owner[number], value)
            if isinstance(value, Tensor) and value.shape == owner[number].shape
            else value
            for key, value in entries.items()
        }
        for number, entries in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": dealt})


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    if not isinstance(parameter, DTensor):
        return value
    value = value.to(parameter.device, parameter.dtype).contiguous()
    return distribute_tensor(value, parameter.device_mesh, parameter.placements)


def refuse(optimizer: torch.optim.Optimizer, amp_dtype: torch.dtype | None, settings: Mapping[str, bool]) -> None:
    """Raise ConfigError for what does not go together with shares of weights; nothing has been trained yet.

    amp_dtype: None without mixed precision; settings: of the trainer, those that are on.
    """
    reasons = {
        "ema": "the average would be a whole copy of the weights on every card, which fsdp is there to spare",
        "compile": "a compiled model cannot be sharded here",
        "static_graph": "is a setting of ddp",
    }
    problems = [Problem(f"trainer.kwargs.{name}", f"does not go with strategy fsdp: {reasons[name]}")
                for name, on in settings.items() if on]  # fmt: skip
    if amp_dtype is torch.float16:
        problems.append(Problem("trainer.kwargs.amp", "strategy fsdp needs a GPU with bfloat16 for it"))
    if type(optimizer).__name__ not in ELEMENTWISE or not type(optimizer).__module__.startswith("torch.optim"):
        message = f"{type(optimizer).__name__} looks at whole tensors, and strategy fsdp has shares of them; use"
        problems.append(Problem("optimizer.type", f"{message} adamw, adam, sgd or another of torch's own"))
    if problems:
        raise ConfigError(problems)
