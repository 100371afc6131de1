"""Tensors of several processes on one of them, and one process's on all; pieces of every size, in order, nothing twice."""

import pytest
import torch
import torch.distributed as torch_dist
from torch.multiprocessing import start_processes

from dao.models.anomaly.patchcore import PatchCore
from dao.models.anomaly.spade import SPADE
from dao.processes import gather
from dao.processes.gather import from_main, processes_here, rows_on_main


def parts_of(rank):
    """Numbers 0..8 dealt in turn, 7 on two processes, 8 in two parts, none on process 2."""
    if rank == 2:
        return {}
    own = {n: [torch.full((n % 3 + 1, 4), float(n), dtype=torch.float16)] for n in range(8) if n % 2 == rank or n == 7}
    return {**own, 8: [torch.full((1, 4), 8.0).half(), torch.full((2, 4), 9.0).half()]} if rank == 0 else own


def one(rank, folder):
    gather.PIECE = 16  # bytes: less than a row or two
    torch_dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=3)
    try:
        parts = parts_of(rank)
        found = rows_on_main(parts)
        assert not parts and (found is None) == (rank != 0)
        back = from_main(None if found is None else found[:5].float())
        empty = rows_on_main({})
        torch.save((found, back, empty), f"{folder}/{rank}.pt")
    finally:
        torch_dist.destroy_process_group()


def wanted():
    rows = [torch.full((n % 3 + 1, 4), float(n)) for n in range(8)]
    return torch.cat([*rows, torch.full((1, 4), 8.0), torch.full((2, 4), 9.0)]).half()


def test_all_rows_come_to_process_0_in_order_and_its_own_to_all(tmp_path):
    start_processes(one, args=(str(tmp_path),), nprocs=3, start_method="spawn")
    answers = [torch.load(tmp_path / f"{rank}.pt") for rank in range(3)]
    assert torch.equal(answers[0][0], wanted()) and all(found is None for found, *_ in answers[1:])
    assert all(torch.equal(back, wanted()[:5].float()) and empty is None for _, back, empty in answers)


def test_alone_it_is_the_same():
    both = {**parts_of(1), **parts_of(0)}
    assert torch.equal(rows_on_main(both), wanted()) and not both
    value = torch.ones(3)
    assert from_main(value) is value


@pytest.mark.parametrize("kind", [PatchCore, SPADE])
def test_work_is_sized_for_all_processes_of_the_machine(kind, monkeypatch):
    """With everything kept, PatchCore holds all, and once more on each; SPADE what is collected, and that on each."""
    model = kind(backbone="test_resnet", layers=["layer1", "layer2"], **({"coreset": 1.0} if kind is PatchCore else {}))
    one_process = 2
    said = []
    monkeypatch.setattr(f"{kind.__module__}.logger.info", lambda text, *values: said.append(values[-1]))
    for count in (1, 4):
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(count))
        assert processes_here() == count
        model.expect(100, (32, 32))
    share = said[1] / said[0]
    assert share == pytest.approx((one_process + 3) / one_process, rel=0.01)
