"""Every architecture builds by name, takes local weights, and refuses what it cannot do."""

import inspect

import pytest
import torch

from dao.errors import CheckpointError, ConfigError
from dao.models import pretrained
from dao.models.segmentation import smp_models  # noqa: F401 (registered)
from dao.register import Registers

TINY = {"encoder_name": "test_resnet", "encoder_depth": 3}
SMALL = {
    "Unet": {**TINY, "decoder_channels": [8, 8, 4]},
    "UnetPlusPlus": {**TINY, "decoder_channels": [8, 8, 4]},
    "MAnet": {**TINY, "decoder_channels": [8, 8, 4], "decoder_pab_channels": 4},
    "Linknet": TINY,
    "FPN": {"encoder_name": "test_resnet", "decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
    "PSPNet": {**TINY, "psp_out_channels": 8},
    "DeepLabV3": {"encoder_name": "test_resnet", "decoder_channels": 8},
    "DeepLabV3Plus": {"encoder_name": "test_resnet", "decoder_channels": 8},
    "PAN": {"encoder_name": "test_resnet", "decoder_channels": 8},
    "UPerNet": {"encoder_name": "test_resnet", "decoder_channels": 8},
    "Segformer": {"encoder_name": "test_resnet", "decoder_segmentation_channels": 8},
    "DPT": {"encoder_name": "test_vit", "encoder_depth": 2, "encoder_output_indices": [1, 3],
            "decoder_intermediate_channels": [8, 8], "decoder_fusion_channels": 8},
}  # fmt: skip


def make(name="Unet", in_chans=3, **kwargs):
    return Registers.seg_models.build({"type": name, "kwargs": kwargs}, "model", num_classes=4, in_chans=in_chans)


def test_every_architecture_of_the_library_is_offered():
    import segmentation_models_pytorch as smp

    names = {architecture.__name__ for architecture in smp.MODEL_ARCHITECTURES_MAPPING.values()}
    assert names <= set(Registers.seg_models) and names == set(SMALL)


@pytest.mark.parametrize("name", sorted(SMALL))
def test_a_class_for_every_pixel(name):
    side = 160 if name in ("DPT", "PAN") else 64
    with torch.no_grad():
        assert make(name, **SMALL[name]).eval()(torch.zeros(1, 3, side, side)).shape == (1, 4, side, side)


def test_signatures_show_the_architectures_own_settings():
    parameters = inspect.signature(Registers.seg_models.get("DeepLabV3")).parameters
    assert {"encoder_name", "checkpoint_path", "decoder_atrous_rates", "deep_supervision"} <= set(parameters)
    assert "activation" not in parameters and "classes" not in parameters


def test_weights_of_an_encoder_and_of_a_whole_network(tmp_path):
    torch.manual_seed(0)
    source = make(**SMALL["Unet"])
    torch.save(source.encoder.model.state_dict(), tmp_path / "encoder.pth")
    torch.save(source.state_dict(), tmp_path / "whole.pth")
    of_encoder = make(checkpoint_path=str(tmp_path / "encoder.pth"), **SMALL["Unet"])
    whole = make(checkpoint_path=str(tmp_path / "whole.pth"), **SMALL["Unet"])
    for name, value in source.state_dict().items():
        torch.testing.assert_close(whole.state_dict()[name], value)
        if name.startswith("encoder."):
            torch.testing.assert_close(of_encoder.state_dict()[name], value)
    with pytest.raises(CheckpointError, match="of another model"):
        torch.save({"x": torch.zeros(1)}, tmp_path / "other.pth")
        make(checkpoint_path=str(tmp_path / "other.pth"), **SMALL["Unet"])


def test_grey_pictures_and_a_frozen_encoder():
    model = make(in_chans=1, freeze=["encoder"], **SMALL["Unet"]).train()
    model(torch.zeros(2, 1, 32, 32)).sum().backward()
    assert all(p.grad is None for p in model.encoder.parameters()) and not model.encoder.training
    assert any(p.grad is not None for p in model.decoder.parameters())


@pytest.mark.parametrize(
    ("name", "kwargs", "words"),
    [
        ("Unet", {"encoder_name": "resnet81"}, "there is no encoder 'resnet81'. Nearest: resnet18"),
        ("Unet", {"encoder_nam": "resnet18"}, "takes no 'encoder_nam'"),
        ("Unet", {**TINY, "decoder_channels": [1]}, "cannot be built"),
        ("Unet", {"encoder_weights": "imagenet", "checkpoint_path": "x"}, "not both"),
        ("DPT", {**SMALL["DPT"], "deep_supervision": 0.4}, "deep_supervision"),
    ],
)
def test_refusals(name, kwargs, words):
    with pytest.raises(ConfigError, match=words):
        make(name, **kwargs)


def test_a_download_that_fails_names_the_local_setting(monkeypatch):
    def no_internet(*_, **__):
        raise OSError("cannot reach the hub")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", no_internet)
    assert pretrained.download  # the one door that every download goes through
    with pytest.raises(CheckpointError, match=r"cannot reach the hub(.|\n)*checkpoint_path(.|\n)*encoder_weights"):
        make(encoder_name="resnet18", encoder_weights="imagenet")
