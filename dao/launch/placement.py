"""Where the processes of a run are: which devices, which ranks, and how they find each other."""

from __future__ import annotations

import argparse
import os
import re
import socket
from dataclasses import dataclass

from dao.errors import ConfigError, Problem

MOST_PROCESSES = 256  # on one machine
MOST_MACHINES = 65_536


@dataclass(frozen=True, slots=True)
class ProcessPlace:
    """Where one process runs: its number among all, on its machine, and how it finds the others."""

    device: str
    rank: int = 0
    local_rank: int = 0
    world_size: int = 1
    local_world_size: int = 1
    init_method: str = ""
    backend: str = "gloo"


def from_torchrun() -> bool:
    """Whether torchrun, or a scheduler that speaks its variables, started this process."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ and "LOCAL_RANK" in os.environ


def place(args: argparse.Namespace) -> list[ProcessPlace]:
    """The processes of this machine. Started by torchrun it is only this one: the others exist already."""
    if from_torchrun():
        return [_torchrun_placement(args)]
    local = _process_count(args)
    if not 1 <= args.num_machines <= MOST_MACHINES:
        raise ConfigError(Problem("--num_machines", f"expected 1 to {MOST_MACHINES}, got {args.num_machines}"))
    world = local * args.num_machines
    if not 0 <= args.machine_rank < args.num_machines:
        message = (
            f"must lie in 0..{args.num_machines - 1} with --num_machines {args.num_machines}, got {args.machine_rank}"
        )
        raise ConfigError(Problem("--machine_rank", message))
    url = _init_method(args, world)
    return [
        ProcessPlace(
            device=device_for(args, i),
            rank=args.machine_rank * local + i,
            local_rank=i,
            world_size=world,
            local_world_size=local,
            init_method=url,
            backend=_backend(args, device_for(args, i)),
        )
        for i in range(local)
    ]


def _torchrun_placement(args: argparse.Namespace) -> ProcessPlace:
    local = int(os.environ["LOCAL_RANK"])
    device = device_for(args, local)
    return ProcessPlace(
        device=device,
        rank=int(os.environ["RANK"]),
        local_rank=local,
        world_size=int(os.environ["WORLD_SIZE"]),
        local_world_size=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        init_method="env://",
        backend=_backend(args, device),
    )


def _process_count(args: argparse.Namespace) -> int:
    import torch

    if args.devices == "auto":
        return max(1, torch.cuda.device_count()) if _uses_cuda(args) else 1
    if not args.devices.isdigit() or int(args.devices) < 1:
        raise ConfigError(Problem("--devices", f"expected a number from 1 on, or auto; got '{args.devices}'"))
    count = int(args.devices)
    if count > MOST_PROCESSES:
        raise ConfigError(
            Problem("--devices", f"{count} processes on one machine make no sense; at most {MOST_PROCESSES}")
        )
    if _uses_cuda(args) and count > torch.cuda.device_count():
        raise ConfigError(
            Problem(
                "--devices", f"{count} GPUs asked for, {torch.cuda.device_count()} found; --device cpu trains without"
            )
        )
    if args.gpu is not None and count > 1:
        raise ConfigError(
            Problem("--gpu", "names one GPU, so it goes with --devices 1; CUDA_VISIBLE_DEVICES chooses several")
        )
    return count


def _uses_cuda(args: argparse.Namespace) -> bool:
    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            Problem("--device", "cuda was asked for and torch finds no usable GPU; --device cpu runs without")
        )
    return args.device != "cpu" and torch.cuda.is_available()


def device_for(args: argparse.Namespace, local: int) -> str:
    """The device of this machine's process number ``local``, as torch writes it. Raises ConfigError when it is not there."""
    if not _uses_cuda(args):
        return "cpu"
    import torch

    index = args.gpu if args.gpu is not None else local
    if index >= torch.cuda.device_count():
        raise ConfigError(Problem("--gpu", f"GPU {index} does not exist; found {torch.cuda.device_count()}"))
    return f"cuda:{index}"


def _backend(args: argparse.Namespace, device: str) -> str:
    if args.dist_backend != "auto":
        return args.dist_backend
    return "nccl" if device.startswith("cuda") else "gloo"


def _init_method(args: argparse.Namespace, world: int) -> str:
    if args.dist_url == "auto":
        if args.num_machines > 1:
            raise ConfigError(
                Problem("--dist-url", "several machines need machine 0's address: --dist-url tcp://HOST:PORT")
            )
        return f"tcp://127.0.0.1:{free_port()}" if world > 1 else ""
    found = re.fullmatch(r"tcp://[^:/]+:(\d+)", args.dist_url)
    if not found or not 0 < int(found[1]) < 65536:
        raise ConfigError(
            Problem("--dist-url", f"expected tcp://HOST:PORT with a port up to 65535, got '{args.dist_url}'")
        )
    refuse_unknown_host(args.dist_url)
    return args.dist_url


def refuse_unknown_host(url: str) -> None:
    """Raise ConfigError for a host that nobody knows, before torch looks for it in its own many words."""
    host = url.removeprefix("tcp://").rsplit(":", 1)[0]
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        message = f"no machine is known by the name '{host}' here ({reason}); give its address, or see /etc/hosts"
        raise ConfigError(Problem("--dist-url", message)) from None


def free_port() -> int:
    """A TCP port that nobody listens on at the moment."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]
