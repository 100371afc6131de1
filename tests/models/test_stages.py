"""What is computed anew gives the same gradients and the same statistics, bit for bit, with dropout and batch norm."""

import copy

import pytest
import timm
import torch
from torch import nn

from dao.errors import ConfigError
from dao.models.stages import recompute, stages
from dao.register import Registers, import_all_modules_for_register

import_all_modules_for_register()


def unet(**_):
    return Registers.seg_models.build(
        {"type": "Unet", "kwargs": {"encoder_name": "test_resnet", "encoder_depth": 3, "decoder_channels": [16, 8, 8]}},
        "model", num_classes=3, in_chans=3,
    )  # fmt: skip


def yolox(**_):
    return Registers.det_models.build({"type": "YOLOX", "kwargs": {"size": "nano"}}, "model", num_classes=3, in_chans=3)


MODELS = {
    "resnet": lambda: timm.create_model("test_resnet", num_classes=3, drop_rate=0.3, drop_path_rate=0.3),
    "vit": lambda: timm.create_model("test_vit", num_classes=3, img_size=64, attn_drop_rate=0.3),
    "unet": unet,
    "yolox": yolox,
}


def total(output):
    if isinstance(output, torch.Tensor):
        return output.square().mean()
    return sum(total(part) for part in output if isinstance(part, torch.Tensor) and part.is_floating_point())


def trained(model, steps=2):
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    kept = []
    for step in range(steps):
        torch.manual_seed(step)
        loss = total(model.train()(torch.rand(2, 3, 64, 64)))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        kept.append(loss.item())
    return kept, model.state_dict()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("own", [True, False])
def test_losses_weights_and_statistics_are_the_same(name, own, monkeypatch):
    torch.manual_seed(0)
    plain = MODELS[name]()
    saving = copy.deepcopy(plain)
    if not own:  # as if the model had no method of its own
        monkeypatch.setattr("dao.models.stages._by_itself", lambda model: False)
    recompute(saving)
    calls = []
    for module in saving.modules():
        if not any(True for _ in module.children()):
            module.register_forward_hook(lambda *_: calls.append(torch._C._current_graph_task_id()))
    losses, weights = trained(plain)
    again, others = trained(saving)
    assert losses == again and any(call != -1 for call in calls)  # something was computed anew
    for key, value in weights.items():
        assert torch.equal(value, others[key]), key
    del calls[:]
    saving.eval()
    torch.testing.assert_close(total(saving(torch.ones(1, 3, 64, 64))), total(plain.eval()(torch.ones(1, 3, 64, 64))))


def test_stages_do_not_lie_in_one_another_and_hold_most_of_the_model():
    for make in MODELS.values():
        model = make()
        found = stages(model)
        inside = {id(inner) for stage in found for inner in stage.modules() if inner is not stage}
        assert len(found) > 1 and not inside & {id(stage) for stage in found}
        held = sum(p.numel() for stage in found for p in stage.parameters())
        assert held > 0.5 * sum(p.numel() for p in model.parameters())


def test_a_model_without_stages_is_refused():
    with pytest.raises(ConfigError, match="no stages"):
        recompute(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 2)))
