"""Batch norm over two processes equals torch's own over the whole batch: outputs, gradients, running statistics."""

import copy

import timm
import torch
import torch.distributed as torch_dist
from torch import nn
from torch.multiprocessing import start_processes

from dao.models.sync_bn import PortableSync, PortableSyncAct, synchronised

SHARES = (slice(0, 1), slice(1, 4))  # one picture alone has no statistics of its own


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5, momentum=None)
    ).double()  # in floats the sums of some hundreds differ by their order


def answer(net, part):
    pictures = 50 + torch.randn((4, 3, 9, 8), generator=torch.Generator().manual_seed(1)).double()
    wanted = torch.randn((4, 5, 5, 4), generator=torch.Generator().manual_seed(2)).double()
    out = net(pictures[part])
    ((out - wanted[part]) ** 2).sum().backward()
    state = {name: value for name, value in net.state_dict().items() if "running" in name or "batches" in name}
    return {"out": out.detach(), "grads": [p.grad for p in net.parameters()], "state": state}


def work(rank, store, results):
    torch.set_num_threads(1)
    torch_dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    net = synchronised(network(), torch.device("cpu"))
    torch.save(answer(net, SHARES[rank]), f"{results}/{rank}.pt")
    torch_dist.destroy_process_group()


def test_two_processes_equal_one_with_the_whole_batch(tmp_path):
    start_processes(work, args=(str(tmp_path / "store"), str(tmp_path)), nprocs=2, start_method="spawn")
    parts = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    whole = answer(network(), slice(None))
    torch.testing.assert_close(torch.cat([part["out"] for part in parts]), whole["out"], rtol=1e-10, atol=1e-10)
    for first, second, both in zip(parts[0]["grads"], parts[1]["grads"], whole["grads"], strict=True):
        torch.testing.assert_close(first + second, both, rtol=1e-10, atol=1e-10)
    for part in parts:
        for name, value in whole["state"].items():
            torch.testing.assert_close(part["state"][name], value, rtol=1e-10, atol=1e-10)


def test_names_activations_and_answers_of_a_timm_model_stay():
    plain = timm.create_model("test_efficientnet", num_classes=3).eval()
    net = synchronised(copy.deepcopy(plain), torch.device("cpu")).eval()
    kinds = {type(module) for module in net.modules()}
    assert PortableSyncAct in kinds and not kinds & {nn.SyncBatchNorm, nn.BatchNorm2d}
    assert issubclass(PortableSyncAct, PortableSync)
    x = torch.randn(2, 3, 64, 64)
    assert torch.equal(net(x), plain(x)) and net.state_dict().keys() == plain.state_dict().keys()
    net.train(), plain.train()  # alone, it is an ordinary batch norm
    torch.testing.assert_close(net(x), plain(x), rtol=1e-4, atol=1e-4)
