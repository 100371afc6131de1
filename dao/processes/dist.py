"""The one file that imports torch.distributed. Every helper works alone as well: rank 0, world size 1."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as torch_dist
from torch import Tensor, nn

from dao.errors import ConfigError, Problem, RunError
from dao.processes import heartbeat

T = TypeVar("T")


def is_active() -> bool:
    """Whether this process belongs to a group."""
    return torch_dist.is_available() and torch_dist.is_initialized()


def rank() -> int:
    """This process's number among all machines' processes, from 0."""
    return torch_dist.get_rank() if is_active() else 0


def world_size() -> int:
    """How many processes train together, on all machines."""
    return torch_dist.get_world_size() if is_active() else 1


def is_main() -> bool:
    """Whether this process writes files and talks to the user."""
    return rank() == 0


def local_rank() -> int:
    """This process's number on its own machine, from 0."""
    return int(os.environ.get("LOCAL_RANK", "0"))


JOIN_SECONDS = heartbeat.seconds("AICORE_JOIN_SECONDS", 120)  # in which all processes must have come
_heartbeat: heartbeat.Heartbeat | None = None


def join(backend: str, init_method: str, world: int, this_rank: int, timeout: timedelta) -> None:
    """Join the process group; every process of the run must call it.

    init_method: tcp://host:port, or env:// for the place that an elastic agent or a scheduler names.
    Raises RunError when they do not find each other in time, ConfigError when no place is named.
    """
    global _heartbeat
    host, port, by_agent = _place(init_method)
    _choose_interface(host)
    store: torch_dist.Store = _meet(host, port, world, this_rank, by_agent)
    run = ""
    if by_agent:  # its store outlives a restart of the processes
        run = f"aicore/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
        store = torch_dist.PrefixStore(run, store)
    torch_dist.init_process_group(backend=backend, store=store, world_size=world, rank=this_rank, timeout=timeout)
    if heartbeat.PATIENCE > 0:
        _heartbeat = heartbeat.Heartbeat(host, port, this_rank, world, run=run)
        _heartbeat.start()
    barrier()


def _place(init_method: str) -> tuple[str, int, bool]:
    """Host and port where the processes meet, and whether torchrun's agent keeps the store there."""
    if init_method != "env://":
        host, port = init_method.removeprefix("tcp://").rsplit(":", 1)
        return host, int(port), False
    host, port = (os.environ.get(name, "") for name in ("MASTER_ADDR", "MASTER_PORT"))
    if not host or not port.isdigit():
        raise ConfigError(
            Problem("MASTER_ADDR, MASTER_PORT", f"RANK is set, so these must name machine 0; got '{host}' and '{port}'")
        )
    return host, int(port), os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def _meet(host: str, port: int, world: int, this_rank: int, by_agent: bool = False) -> torch_dist.TCPStore:
    """The store that process 0 opens, unless an agent has, and all others connect to."""
    wait = timedelta(seconds=JOIN_SECONDS)
    try:
        if by_agent:
            return torch_dist.TCPStore(host, port, None, False, timeout=wait, wait_for_workers=False)
        return torch_dist.TCPStore(host, port, world, this_rank == 0, timeout=wait)
    except (RuntimeError, ValueError) as error:
        said = str(error).splitlines()[0]
    if "EADDRINUSE" in said or "in use" in said:
        raise RunError(
            f"port {port} is taken on this machine: choose another one in --dist-url, the same on all machines"
        )
    if "clients joined" in said or (this_rank == 0 and not by_agent):
        raise RunError(
            f"not all of the {world} processes came to {host}:{port} within {JOIN_SECONDS:g} seconds ({said}). Is the command "
            "running on every machine, with the same --devices and --num_machines and a --machine_rank of its own, from 0 "
            "on? AICORE_JOIN_SECONDS waits longer"
        )
    raise RunError(
        f"rank {this_rank} could not reach machine 0 at {host}:{port} within {JOIN_SECONDS:g} seconds ({said}). Is the "
        "command running there, is that its address, and does no firewall stand between?"
    )


def _choose_interface(host: str) -> None:
    """Speak over the network card that leads to machine 0, where the user names none; a guess by name often is loopback."""
    import socket

    import psutil

    if host in ("127.0.0.1", "localhost"):
        return
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((host, 9))
            own = probe.getsockname()[0]
    except OSError:
        return
    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address == own for address in addresses):
            for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
                os.environ.setdefault(variable, name)


def leave(failure: str = "") -> None:
    """Leave the process group, if any; ``failure``: what the other processes are told ended this one."""
    global _heartbeat
    if _heartbeat is not None:
        _heartbeat.fail(failure) if failure else _heartbeat.stop()
        _heartbeat = None
    if is_active():
        torch_dist.destroy_process_group()


BROKEN = (
    "connection reset by peer",
    "connection closed by peer",
    "broken pipe",
    "remote process exited",
    "gloo/transport",
)


def connection_broke(error: BaseException) -> bool:
    """Whether an error says no more than that another process is gone. Waits a little: the heartbeat may know why."""
    if not is_active() or not isinstance(error, RuntimeError):
        return False
    if not any(words in str(error).lower() for words in BROKEN):
        return False
    if _heartbeat is not None:
        time.sleep(2 * heartbeat.INTERVAL)
    return True


def barrier() -> None:
    """Wait until every process is here."""
    if is_active():
        torch_dist.barrier()


def all_gather_object(value: T) -> list[T]:
    """Every process's value, in rank order, on every process."""
    if not is_active():
        return [value]
    gathered: list[Any] = [None] * world_size()
    torch_dist.all_gather_object(gathered, value)
    return gathered


def broadcast_object(value: T) -> T:
    """Rank 0's value, on every process."""
    if not is_active():
        return value
    box = [value]
    torch_dist.broadcast_object_list(box, src=0)
    return box[0]


def all_reduce_sum(value: Tensor) -> Tensor:
    """Sum of a tensor over all processes, in place."""
    if is_active():
        torch_dist.all_reduce(value, op=torch_dist.ReduceOp.SUM)
    return value


class _Sum(torch.autograd.Function):
    """Sum over all processes. Each of them goes on with it, so its gradient is the sum of all their gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return all_reduce_sum(value.clone(memory_format=torch.contiguous_format))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return all_reduce_sum(grads[0].clone(memory_format=torch.contiguous_format))


def sum_with_gradient(value: Tensor) -> Tensor:
    """Sum of a tensor over all processes, to be differentiated; the tensor itself where there is one process."""
    return _Sum.apply(value) if world_size() > 1 else value


def mean_of_processes(value: Tensor) -> Tensor:
    """Mean of a tensor over all processes, without gradient; the tensor itself where there is one process."""
    return all_reduce_sum(value.detach().clone()) / world_size() if world_size() > 1 else value


def any_rank(flag: bool) -> bool:
    """Whether the flag is set on any process (all must ask)."""
    return any(all_gather_object(flag)) if is_active() else flag


def broadcast_buffers(*models: nn.Module) -> None:
    """Rank 0's buffers (batch-norm statistics) on every process."""
    if is_active():
        for model in models:
            for buffer in model.buffers():
                torch_dist.broadcast(buffer, src=0)


def wrap_model(
    model: nn.Module, device: torch.device, find_unused: bool = False, static_graph: bool = False
) -> nn.Module:
    """The model as DistributedDataParallel when several processes train it, else as it is.

    find_unused: not every weight has a gradient in every iteration. static_graph: every iteration uses the same layers,
    so that DDP may plan ahead.
    """
    if not is_active() or not any(p.requires_grad for p in model.parameters()):
        return model
    ids = [device.index] if device.type == "cuda" else None
    return nn.parallel.DistributedDataParallel(
        model, device_ids=ids, find_unused_parameters=find_unused, static_graph=static_graph
    )
