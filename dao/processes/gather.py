"""Large tensors between processes: all of them on process 0 alone, or its own on every process. Nothing is pickled."""

from __future__ import annotations

import os

import torch
import torch.distributed as torch_dist
from torch import Tensor

from dao.processes import dist

PIECE = 2**26  # bytes that are on their way at once


def processes_here() -> int:
    """How many processes share this machine's memory."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", dist.world_size()))


def rows_on_main(parts: dict[int, list[Tensor]]) -> Tensor | None:
    """(N, ...) all processes' rows in the order of their numbers, on process 0; None on the others, and of nothing.

    parts: CPU tensors (n, ...) of one kind by number (a picture's place in its set); emptied here as they are sent or
    copied, so that what is held at once is little more than all of them. Of a number that several processes have, one
    counts. Every process must call it.
    """
    mine = {number: [len(part) for part in own] for number, own in parts.items()}
    shape = next(((tuple(own[0].shape[1:]), own[0].dtype) for own in parts.values()), None)
    everyone = dist.all_gather_object((mine, shape))
    known = next((shape for _, shape in everyone if shape is not None), None)
    if known is None:
        return None
    owner = {number: rank for rank, (sizes, _) in enumerate(everyone) for number in sizes}
    pieces = [(number, rank, size) for number, rank in sorted(owner.items()) for size in everyone[rank][0][number]]
    if not dist.is_main():
        for number, rank, _ in pieces:
            if rank == dist.rank():
                _send(parts[number].pop(0))
        parts.clear()
        return None
    return _joined(parts, pieces, *known)


def _joined(
    parts: dict[int, list[Tensor]], pieces: list[tuple[int, int, int]], shape: tuple[int, ...], dtype: torch.dtype
) -> Tensor:
    """What process 0 has and receives. pieces: number, rank and rows of each, in order."""
    out = torch.empty((sum(size for *_, size in pieces), *shape), dtype=dtype)
    start = 0
    for number, rank, size in pieces:
        place = out[start : start + size]
        place.copy_(parts[number].pop(0)) if rank == 0 else _receive(place, rank)
        start += size
    parts.clear()
    return out


def from_main(value: Tensor | None) -> Tensor:
    """Process 0's tensor on every process, on the CPU; the others give None."""
    if not dist.is_active():
        if value is None:
            raise RuntimeError("process 0 has to give a tensor")
        return value
    shape, dtype = dist.broadcast_object(None if value is None else (tuple(value.shape), value.dtype))
    own = torch.empty(shape, dtype=dtype) if value is None else value.cpu().contiguous()
    for part in own.split(max(1, len(own) // max(1, own.nbytes // PIECE))) if own.numel() else ():
        carried = part.view(torch.uint8).to(_carrier())
        torch_dist.broadcast(carried, src=0)
        if not dist.is_main():
            part.view(torch.uint8).copy_(carried)
    return own


def _carrier() -> torch.device:
    """Where a tensor must lie to be sent: NCCL takes none from the CPU."""
    by_gpu = "nccl" in str(torch_dist.get_backend())
    return torch.device("cuda", torch.cuda.current_device()) if by_gpu else torch.device("cpu")


def _send(part: Tensor) -> None:
    torch_dist.send(part.contiguous().view(torch.uint8).to(_carrier()), dst=0)


def _receive(place: Tensor, rank: int) -> None:
    """Into (n, ...) contiguous rows."""
    carried = place.view(torch.uint8)
    if _carrier().type == "cpu":
        torch_dist.recv(carried, src=rank)
        return
    buffer = torch.empty_like(carried, device=_carrier())
    torch_dist.recv(buffer, src=rank)
    carried.copy_(buffer)
