"""Update rules: the arithmetic of accumulation by tables, and against one big batch."""

import copy

import pytest
import torch
from torch import nn

from dao.trainers.update import GradientUpdate, NoUpdate, is_update_iter, updates_per_epoch, window_size


@pytest.mark.parametrize(
    ("iters", "accumulate", "updates", "windows"),
    [
        (7, 4, [3, 6], [4, 4, 4, 4, 3, 3, 3]),
        (8, 4, [3, 7], [4] * 8),
        (3, 1, [0, 1, 2], [1, 1, 1]),
        (2, 5, [1], [2, 2]),
    ],
)
def test_windows(iters, accumulate, updates, windows):
    assert [i for i in range(iters) if is_update_iter(i, iters, accumulate)] == updates
    assert [window_size(i, iters, accumulate) for i in range(iters)] == windows
    assert updates_per_epoch(iters, accumulate) == len(updates)


def test_accumulated_steps_equal_one_step_on_their_mean_gradient():
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    twin = copy.deepcopy(model)
    data = torch.randn(3, 4, 3)
    update = GradientUpdate(torch.optim.SGD(model.parameters(), 0.1), model, torch.device("cpu"), accumulate=2)
    stepped = [update(model(x).square().mean(), i, 3) for i, x in enumerate(data)]
    assert stepped == [False, True, True]
    sgd = torch.optim.SGD(twin.parameters(), 0.1)
    for window in (data[:2], data[2:]):
        sgd.zero_grad()
        torch.stack([twin(x).square().mean() for x in window]).mean().backward()
        sgd.step()
    torch.testing.assert_close(model.weight, twin.weight)


def test_clipping_bounds_the_gradient():
    model = nn.Linear(3, 1, bias=False)
    before = model.weight.detach().clone()
    update = GradientUpdate(torch.optim.SGD(model.parameters(), 1.0), model, torch.device("cpu"), clip_norm=0.5)
    update((model(torch.full((1, 3), 100.0)) ** 2).sum(), 0, 1)
    assert (model.weight - before).norm().item() == pytest.approx(0.5, rel=1e-4)


def test_no_update_never_steps():
    assert NoUpdate()(None, 0, 1) is False


def test_a_batch_without_a_loss_is_left_out():
    """Neither weights nor momentum nor weight decay move for it; in a window the others' gradients still count."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, weight_decay=0.1)
    update = GradientUpdate(optimizer, model, torch.device("cpu"))
    x = torch.ones(4, 3)
    assert update(model(x).square().mean(), 0, 4)
    before = model.weight.detach().clone()
    assert not update(None, 1, 4) and torch.equal(model.weight, before)
    update.accumulate = 2
    assert not update(model(x).square().mean(), 2, 4)
    assert update(None, 3, 4) and not torch.equal(model.weight, before)
