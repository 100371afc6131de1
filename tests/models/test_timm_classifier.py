"""Any timm model: weights of other makers, freezing, pooling, and what is refused."""

import pytest
import timm
import torch
import torchvision

from dao.errors import CheckpointError, ConfigError
from dao.models.classification import timm_classifier as module

make = module.timm_classifier


def first(model):
    """The first convolution's weight."""
    return next(iter(model.parameters()))


def test_state_dict_keeps_timms_names():
    ours = make("test_resnet", num_classes=3)
    assert ours.state_dict().keys() == timm.create_model("test_resnet", num_classes=3).state_dict().keys()


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_local_weights_with_another_head(tmp_path, suffix):
    source = timm.create_model("test_resnet", num_classes=10)
    path = tmp_path / f"w{suffix}"
    if suffix == ".pth":
        torch.save(source.state_dict(), path)
    else:
        from safetensors.torch import save_file

        save_file(source.state_dict(), path)
    model = make("test_resnet", num_classes=3, checkpoint_path=str(path))
    torch.testing.assert_close(first(model), first(source))
    assert model.fc.weight.shape[0] == 3


def test_torchvisions_names_give_torchvisions_features(tmp_path):
    """MobileNetV2 under torchvision's names fits timm's by order; the features are the same numbers."""
    torch.manual_seed(0)
    source = torchvision.models.mobilenet_v2(num_classes=7).eval()
    torch.save(source.state_dict(), tmp_path / "tv.pth")
    model = make("mobilenetv2_100", num_classes=3, checkpoint_path=str(tmp_path / "tv.pth")).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(model.forward_features(x), source.features(x), atol=1e-4, rtol=1e-4)


def test_grey_input_sums_the_colour_kernels(tmp_path):
    source = timm.create_model("test_resnet", num_classes=3)
    torch.save(source.state_dict(), tmp_path / "w.pth")
    model = make("test_resnet", num_classes=3, in_chans=1, checkpoint_path=str(tmp_path / "w.pth"))
    torch.testing.assert_close(first(model), first(source).sum(1, keepdim=True))


def test_frozen_modules_neither_learn_nor_move_their_statistics():
    model = make("test_resnet", num_classes=3, freeze=["conv1", "bn1", "layer1"]).train()
    before = model.bn1.running_mean.clone()
    model(torch.randn(4, 3, 32, 32) + 5).sum().backward()
    assert first(model).grad is None and model.layer2[0].conv1.weight.grad is not None
    torch.testing.assert_close(model.bn1.running_mean, before)
    assert not model.layer1.training and model.layer2.training


def test_a_regular_expression_freezes_what_it_matches():
    model = make("test_resnet", num_classes=3, freeze=[r"layer[12]"])
    frozen = {name.split(".")[0] for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {"layer1", "layer2"}


def test_pooling_by_maximum():
    model = make("test_resnet", num_classes=3, global_pool="max").eval()
    x = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(model(x), model.fc(model.forward_features(x).amax((2, 3))))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"model_name": "resnet81"}, "timm has no 'resnet81'. Nearest: resnet"),
        ({"model_name": "test_resnet", "freeze": ["layer9"]}, "no module is called 'layer9'"),
        ({"model_name": "test_resnet", "pretrained": True, "checkpoint_path": "x"}, "not both"),
    ],
)
def test_refusals(kwargs, message):
    with pytest.raises(ConfigError, match=message):
        make(num_classes=3, **kwargs)


def test_failed_download_names_the_local_setting(monkeypatch):
    def no_internet(*args, **kwargs):
        if kwargs.get("pretrained"):
            raise OSError("cannot reach the hub")

    monkeypatch.setattr(timm, "create_model", no_internet)
    with pytest.raises(CheckpointError, match=r"cannot reach the hub(.|\n)*model\.kwargs\.checkpoint_path"):
        make("resnet18", num_classes=3, pretrained=True)
