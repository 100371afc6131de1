import copy

import pytest
import torch
from torch import nn

from dao.errors import ConfigError
from dao.optimizers import sgd  # noqa: F401  (it registers)
from dao.register import Registers


def tiny():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))


def build(model, **kwargs):
    return Registers.optimizers.build(
        {"type": "sgd_warmup_bias_bn_weight", "kwargs": {"lr": 0.1, **kwargs}}, "optimizer", model=model
    )


def test_groups_and_their_settings():
    optimizer = build(tiny(), momentum=0.8, weight_decay=1e-3)
    seen = [(g["name"], len(g["params"]), g["lr"], g["weight_decay"]) for g in optimizer.param_groups]
    assert seen == [("norm", 1, 0.1, 0.0), ("weight", 2, 0.1, 1e-3), ("bias", 3, 0.1, 0.0)]
    assert all(g["momentum"] == 0.8 and g["nesterov"] for g in optimizer.param_groups)


def test_two_steps_by_hand():
    """Nesterov momentum and coupled decay, written out; biases do not decay."""
    model = tiny()
    start, optimizer = copy.deepcopy(model.state_dict()), build(model, weight_decay=0.01)
    velocity = {name: 0.0 for name, _ in model.named_parameters()}
    expected = dict(start)
    for _ in range(2):
        for p in model.parameters():
            p.grad = torch.full_like(p, 0.5)
        optimizer.step()
        for name in velocity:
            decay = 0.01 if name in ("0.weight", "3.weight") else 0.0
            gradient = 0.5 + decay * expected[name]
            velocity[name] = 0.9 * velocity[name] + gradient
            expected[name] = expected[name] - 0.1 * (gradient + 0.9 * velocity[name])
    assert all(torch.allclose(p, expected[name]) for name, p in model.named_parameters())


def test_mistakes():
    with pytest.raises(ConfigError, match=r"optimizer\.kwargs.*[Nn]esterov"):
        build(tiny(), momentum=0.0)
    with pytest.raises(ConfigError, match="learning rate"):
        build(tiny(), lr=-0.1)
    with pytest.raises(ConfigError, match=r"optimizer\.kwargs\.lr .*needs 'lr'"):
        Registers.optimizers.build({"type": "sgd_warmup_bias_bn_weight"}, "optimizer", model=tiny())
