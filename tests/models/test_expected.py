"""Preprocessing that belongs to pretrained weights: taken where a config is silent, warned of where it says otherwise."""

import json
from types import SimpleNamespace

import pytest
import timm
import torch
from loguru import logger
from torchvision.models import list_models

from dao.config.reading import freeze
from dao.models.expected import preprocess_of
from dao.preprocess import Preprocess
from dao.register import Registers, import_all_modules_for_register
from dao.trainers.building import resolve_preprocess

import_all_modules_for_register()
HALF, IMAGENET = [0.5, 0.5, 0.5], [0.485, 0.456, 0.406]
VIT = {"model_name": "vit_base_patch16_224"}


@pytest.fixture
def said():
    lines = []
    handle = logger.add(lambda message: lines.append(f"{message.record['level'].name} {message.record['message']}"))
    yield lines
    logger.remove(handle)


def resolved(kind, name, kwargs, given=None, **more):
    return preprocess_of(getattr(Registers, kind), {"type": name, "kwargs": kwargs}, given or {}, **more)


@pytest.mark.parametrize(
    ("kind", "name", "kwargs", "mean"),
    [
        ("cls_models", "TimmClassifier", {**VIT, "pretrained": True}, HALF),
        ("cls_models", "TimmClassifier", {**VIT, "checkpoint_path": "w.pth"}, HALF),
        ("cls_models", "TimmClassifier", {"model_name": "vit_base_patch16_224.dino", "pretrained": True}, IMAGENET),
        ("cls_models", "TimmClassifier", {"model_name": "resnet18", "pretrained": True}, IMAGENET),
        ("seg_models", "Unet", {"encoder_name": "vit_base_patch16_224", "encoder_weights": "imagenet"}, HALF),
        ("det_models", "TorchvisionDetector", {"model_name": "ssdlite320_mobilenet_v3_large", "pretrained": True}, HALF),
        ("det_models", "TorchvisionDetector", {"model_name": "fcos_resnet50_fpn", "pretrained": True}, IMAGENET),
        ("det_models", "YOLOX", {"checkpoint_path": "yolox_s.pth"}, [0.0, 0.0, 0.0]),
        (
            "det_models", "YOLOXWithBackbone",
            {"backbone": {"type": "TimmFeatures", "kwargs": {**VIT, "pretrained": True}}}, HALF,
        ),
        ("anomaly_models", "PatchCore", {"backbone": "vit_base_patch16_224", "pretrained": True}, HALF),
        ("anomaly_models", "EfficientAD", {"pretrained": True}, IMAGENET),
    ],
)  # fmt: skip
def test_a_silent_config_takes_what_the_weights_were_made_with(kind, name, kwargs, mean, said):
    found = resolved(kind, name, kwargs)
    assert found["mean"] == pytest.approx(mean) and "resize" not in found
    assert len(said) == 1 and said[0].startswith("INFO preprocessing of the model's weights")
    Preprocess(**found)
    kwargs = {k: v for k, v in kwargs.items() if k not in ("pretrained", "checkpoint_path", "encoder_weights")}
    if name != "YOLOXWithBackbone":
        assert resolved(kind, name, kwargs) == {}  # random weights expect nothing


def test_yolox_published_weights_take_bgr_of_0_to_255_in_a_corner():
    found = resolved("det_models", "YOLOX", {"checkpoint_path": "yolox_s.pth"}, {"size": [64, 64]})
    pixels = torch.randint(0, 256, (1, 3, 64, 48), dtype=torch.uint8)
    seen = Preprocess(**found)(pixels)
    assert (
        torch.allclose(seen[..., :48], pixels.flip(1).float(), atol=1e-3) and (seen[..., 48:] - 114).abs().max() < 1e-3
    )
    assert "position" not in resolved("det_models", "YOLOX", {"checkpoint_path": "y.pth"}, {"resize": "crop"})


@pytest.mark.parametrize("name", [n for n in list_models() if n in ("resnet18", "mobilenet_v3_small")])
def test_timm_says_what_timm_itself_resolves(name):
    """Truth: timm's own resolution of a model's data settings."""
    name = name.replace("mobilenet_v3_small", "mobilenetv3_small_100")
    theirs = timm.data.resolve_data_config({}, model=timm.create_model(name))
    found = resolved("cls_models", "TimmClassifier", {"model_name": name, "pretrained": True})
    assert (tuple(found["mean"]), tuple(found["std"])) == (theirs["mean"], theirs["std"])


def test_a_config_that_says_otherwise_is_obeyed_and_warned(said):
    kwargs = {**VIT, "pretrained": True}
    found = resolved("cls_models", "TimmClassifier", kwargs, {"mean": IMAGENET, "size": [224, 224]})
    assert found["mean"] == IMAGENET and found["std"] == HALF
    assert any(
        line.startswith("WARNING") and "mean [0.5, 0.5, 0.5], and the config says mean [0.485" in line for line in said
    )
    said.clear()
    resolved("cls_models", "TimmClassifier", kwargs, {"mean": [0.5], "std": HALF})  # the same, said shorter
    assert said == []


def test_a_grey_input_takes_the_mean_of_the_three():
    found = resolved("det_models", "YOLOX", {"checkpoint_path": "y.pth"}, {"in_channels": 1})
    assert found["mean"] == [0.0] and "channel_order" not in found
    Preprocess(**found)


def test_our_own_checkpoint_says_what_it_was_trained_with(tmp_path):
    card = {"preprocess": {"mean": [0.1], "std": [0.2], "channel_order": "bgr", "size": [32, 32]}}
    torch.save({"card": json.dumps(card)}, tmp_path / "best.ckpt")
    kwargs = {"model_name": "resnet18", "checkpoint_path": str(tmp_path / "best.ckpt")}
    expected = {"mean": [0.1], "std": [0.2], "channel_order": "bgr"}
    assert resolved("cls_models", "TimmClassifier", kwargs) == expected
    assert (
        resolved("cls_models", "TimmClassifier", {"model_name": "resnet18"}, ckpt=str(tmp_path / "best.ckpt"))
        == expected
    )


def test_a_run_trains_with_it_and_keeps_it_in_its_config():
    raw = {
        "type": "cls",
        "model": {"type": "TimmClassifier", "kwargs": {**VIT, "pretrained": True}},
        "preprocess": {"size": [32, 32]},
    }
    trainer = SimpleNamespace(config=freeze(raw), ckpt=None)
    resolve_preprocess(trainer)
    assert trainer.preprocess.to_dict()["mean"] == HALF and trainer.config.preprocess.mean == HALF
    assert trainer.config.preprocess.size == [32, 32]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"input_space": "RGB", "input_range": [0, 1], "mean": HALF, "std": HALF}, (HALF, HALF, "rgb")),
        (  # as Caffe's weights are: blue first, 0 to 255
            {"input_space": "BGR", "input_range": [0, 255], "mean": [102.0, 51.0, 25.5], "std": [255.0] * 3},
            ([0.1, 0.2, 0.4], [1.0] * 3, "bgr"),
        ),
    ],
)
def test_smps_own_encoders_say_it_where_they_are_downloaded_from(told, expected, monkeypatch):
    monkeypatch.setattr("segmentation_models_pytorch.encoders.get_preprocessing_params", lambda name, weights: told)
    found = resolved("seg_models", "Unet", {"encoder_weights": "imagenet"})
    assert (found["mean"], found["std"], found["channel_order"]) == (
        pytest.approx(expected[0]),
        expected[1],
        expected[2],
    )
    assert resolved("seg_models", "Unet", {"checkpoint_path": "encoder.pth"}) == {}
