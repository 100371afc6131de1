"""YOLOX: the published state dicts, blocks against their definitions, weights of other makers, foreign backbones."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from loguru import logger

from dao.errors import CheckpointError, ConfigError
from dao.models.detection.answers import AnswerSettings
from dao.models.detection.boxes import cxcywh_to_xyxy
from dao.models.detection.layers import ConvBnAct, Focus, SPPBottleneck

SHARED = Path(__file__).resolve().parents[3].parent / "shared"
REFERENCE = SHARED / "reference/yolox_state_dicts.json"
# of the official models at 80 classes: parameters, tensors, and a checksum of all names with their shapes
PUBLISHED = {
    "nano": (912159, 642, "3bb40b0511a5f905"),
    "tiny": (5055855, 462, "94b84951f5111594"),
    "s": (8968255, 462, "d0fc0633634b486c"),
    "m": (25326495, 606, "446823ef5ea1313d"),
    "l": (54208895, 750, "51ced5da4d6556be"),
    "x": (99071455, 894, "946f1400621891b7"),
}


def on_meta(build, kind, **kwargs):
    """A model without memory: names and shapes alone."""
    with torch.device("meta"):
        return build(kind, num_classes=80, **kwargs)


def parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("size", PUBLISHED)
def test_names_and_shapes_are_the_published_ones(build, size):
    model = on_meta(build, "YOLOX", size=size)
    shapes = sorted((name, tuple(value.shape)) for name, value in model.state_dict().items())
    text = "\n".join(f"{name} {shape}" for name, shape in shapes)
    assert (parameters(model), len(shapes), hashlib.sha256(text.encode()).hexdigest()[:16]) == PUBLISHED[size]
    if REFERENCE.is_file():
        wanted = json.loads(REFERENCE.read_text())[size]
        assert {name: list(shape) for name, shape in shapes} == wanted["state_dict"]


def test_darknet53_has_the_parameters_of_the_paper(build):
    assert round(parameters(on_meta(build, "YOLOv3Darknet53")) / 1e6, 1) == 63.7  # table 2


def test_settings_of_batch_norm_and_first_biases(build):
    model = build("YOLOX", size="nano")
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert {(m.eps, m.momentum) for m in norms} == {(1e-3, 0.03)}
    for layer in (*model.head.cls_preds, *model.head.obj_preds):
        torch.testing.assert_close(layer.bias.sigmoid(), torch.full_like(layer.bias, 0.01))


def test_focus_takes_pixels_in_the_published_order():
    focus = Focus(3, 4).eval()
    x = torch.randn(2, 3, 8, 12)
    sliced = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
    torch.testing.assert_close(focus(x), focus.conv(sliced))


def test_pyramid_pooling_equals_separate_windows():
    block, x = SPPBottleneck(8, 6).eval(), torch.randn(1, 8, 15, 11)
    y = block.conv1(x)
    pools = [torch.nn.functional.max_pool2d(y, k, 1, k // 2) for k in (5, 9, 13)]
    torch.testing.assert_close(block(x), block.conv2(torch.cat([y, *pools], 1)))


def test_decoding_at_every_stride(build):
    model = build("YOLOX", size="nano").eval()
    said = model(torch.randn(1, 3, 64, 96))
    assert said.offsets.shape == (1, 8 * 12 + 4 * 6 + 2 * 3, 4) and said.classes.shape[-1] == 3
    boxes = said.boxes_cxcywh()[0]
    for index, stride, column, row in ((0, 8, 0, 0), (13, 8, 1, 1), (96 + 7, 16, 1, 1), (96 + 24 + 5, 32, 2, 1)):
        x, y, w, h = said.offsets[0, index]
        wanted = torch.stack([(x + column) * stride, (y + row) * stride, w.exp() * stride, h.exp() * stride])
        torch.testing.assert_close(boxes[index], wanted)


def test_input_sides_must_be_multiples_of_32(build):
    with pytest.raises(ValueError, match="multiples of 32, got 40 x 64"):
        build("YOLOX", size="nano")(torch.zeros(1, 3, 40, 64))


def test_depthwise_is_a_choice_of_its_own(build):
    plain, split = (
        on_meta(build, "YOLOX", size="nano", depthwise=False),
        on_meta(build, "YOLOX", size="s", depthwise=True),
    )
    assert parameters(plain) > PUBLISHED["nano"][0] and parameters(split) < PUBLISHED["s"][0]
    convs = [
        m for m in split.modules() if isinstance(m, ConvBnAct) and m.conv.kernel_size == (3, 3) and m.conv.groups == 1
    ]
    assert len(convs) == 1  # the stem


# -- weights -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def messages():
    found = []
    sink = logger.add(lambda message: found.append(str(message)), level="INFO")
    yield found
    logger.remove(sink)


def saved(model, path):
    torch.save({"model": model.state_dict(), "start_epoch": 300}, path)
    return str(path)


def test_published_file_loads_whole_or_without_the_class_branch(build, tmp_path, messages):
    source = build("YOLOX", size="nano", num_classes=5)
    with torch.no_grad():
        for p in source.parameters():
            p.add_(torch.randn_like(p))
    path = saved(source, tmp_path / "w.pth")
    same = build("YOLOX", size="nano", num_classes=5, checkpoint_path=path)
    assert all(torch.equal(a, b) for a, b in zip(same.state_dict().values(), source.state_dict().values()))
    assert "all 538 tensors" in messages[-1]
    other = build("YOLOX", size="nano", num_classes=2, checkpoint_path=path)
    assert "all but the class branch" in messages[-1]
    theirs = source.state_dict()
    for name, value in other.state_dict().items():
        assert name.startswith("head.cls_preds") or torch.equal(value, theirs[name])


def test_weights_of_another_size_are_refused(build, tmp_path):
    path = saved(build("YOLOX", size="nano"), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="of another model"):
        build("YOLOX", size="tiny", checkpoint_path=path)


def test_colour_weights_for_a_grey_input_answer_alike(build, tmp_path):
    colour = build("YOLOX", size="nano").eval()
    grey = build("YOLOX", size="nano", in_chans=1, checkpoint_path=saved(colour, tmp_path / "w.pth")).eval()
    x = torch.randn(1, 1, 64, 64)
    torch.testing.assert_close(grey(x).classes, colour(x.repeat(1, 3, 1, 1)).classes, atol=1e-4, rtol=1e-4)


def test_frozen_backbone(build):
    model = build("YOLOX", size="nano", freeze=["backbone\\.backbone"]).train()
    assert not any(p.requires_grad for p in model.backbone.backbone.parameters())
    assert all(p.requires_grad for p in model.head.parameters())
    assert not model.backbone.backbone.training and model.head.training


@pytest.mark.skipif(not (SHARED / "data/weights/yolox_nano.pth").is_file(), reason="the acceptance data is not here")
def test_nano_finds_dog_bicycle_and_car(build):
    import cv2

    from dao.preprocess import Preprocess
    from dao.tasks.detection import DetectionTask

    model = build("YOLOX", size="nano", num_classes=80, checkpoint_path=str(SHARED / "data/weights/yolox_nano.pth"))
    preprocess = Preprocess(
        size=[416, 416], position="top_left", channel_order="bgr", mean=[0.0], std=[1 / 255], antialias=False
    )
    task = DetectionTask(model.eval(), preprocess, [str(i) for i in range(80)])
    image = cv2.imread(str(SHARED / "data/photos/dog.jpg"))[:, :, ::-1].copy()
    found = task.answer(task.run, image, task.card())
    best = {label: float(found.box_scores[found.box_labels == label].max()) for label in (16, 1, 2)}  # COCO's order
    assert best == pytest.approx({16: 0.86, 1: 0.80, 2: 0.80}, abs=0.02)


# -- other backbones ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("neck", ["pafpn", "fpn"])
@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050"])
def test_any_timm_model_under_neck_and_head(build, neck, name):
    backbone = {"type": "TimmFeatures", "kwargs": {"model_name": name}}
    model = build("YOLOXWithBackbone", backbone=backbone, neck=neck, size="nano").train()
    said = model(torch.randn(2, 3, 64, 64))
    assert said.classes.shape == (2, 64 + 16 + 4, 3)
    (said.classes.sum() + said.offsets.sum()).backward()
    first = next(model.backbone.backbone.parameters())
    assert first.grad.abs().sum() > 0


def test_a_transformer_with_channels_last_maps(build):
    from dao.models.backbones.timm_features import TimmFeatures

    features = TimmFeatures("swin_tiny_patch4_window7_224")
    assert [tuple(y.shape[1:]) for y in features(torch.zeros(1, 3, 224, 224))] == [
        (192, 28, 28),
        (384, 14, 14),
        (768, 7, 7),
    ]


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        ({"type": "TimmFeatures", "kwargs": {"model_name": "resnet19"}}, "Nearest"),
        ({"type": "TimmFeatures", "kwargs": {"model_name": "vit_tiny_patch16_224"}}, "strides"),
        ({"type": "TimmFeature", "kwargs": {}}, "TimmFeatures"),
        ({"type": "TimmFeatures", "kwargs": {"model_name": "resnet10t", "strides": [16, 32]}}, "strides 8, 16 and 32"),
    ],
)
def test_unfit_backbones_are_refused(build, backbone, message):
    with pytest.raises(ConfigError, match=message):
        build("YOLOXWithBackbone", backbone=backbone, size="nano")


# -- answers -----------------------------------------------------------------------------------------------------------


def test_settings_are_checked_before_anything_starts(registered):
    from dao.config.schema import validate

    def problems(model):
        return {p.where for p in validate({"type": "det", "model": model}) if p.where.startswith("model")}

    backbone = {"type": "TimmFeatures", "kwargs": {"model": "resnet10t"}}
    found = problems({"type": "YOLOXWithBackbone", "kwargs": {"backbone": backbone, "max_detections": 0}})
    assert found == {
        "model.kwargs.backbone.kwargs.model",
        "model.kwargs.backbone.kwargs.model_name",
        "model.kwargs.max_detections",
    }
    assert problems({"type": "YOLOXWithBackbone", "kwargs": {"backbone": {"type": "Tim"}}}) == {
        "model.kwargs.backbone.type"
    }
    assert problems({"type": "YOLOX", "kwargs": {"size": "xl"}}) == {"model.kwargs.size"}
    assert problems({"type": "YOLOX", "kwargs": {"nms_threshold": 2.0}}) == {"model.kwargs.nms_threshold"}
    tv = {"model_name": "fcos_resnet50_fpn", "score_threshold": -1.0}
    assert problems({"type": "TorchvisionDetector", "kwargs": tv}) == {"model.kwargs.score_threshold"}


def test_a_model_that_brings_its_loss_needs_no_loss_section_and_takes_none(registered):
    from dao.config.schema import validate

    def about_loss(model, **rest):
        raw = {"type": "det", "trainer": {"type": "TrainVal"}, "model": model, **rest}
        return [p.what for p in validate(raw) if p.where == "loss"]

    own = {"type": "TorchvisionDetector", "kwargs": {"model_name": "fcos_resnet50_fpn"}}
    assert about_loss(own) == []
    assert "brings its own" in about_loss(own, loss={"type": "YOLOXLoss"})[0]
    assert "section is missing" in about_loss({"type": "YOLOX"})[0]
    assert about_loss({"type": "YOLOX"}, loss={"type": "YOLOXLoss"}) == []


def test_thresholds_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="max_detections"):
        AnswerSettings(max_detections=0).checked("model.kwargs")
    with pytest.raises(ConfigError, match=r"score_threshold.*0\.\.1"):
        AnswerSettings(score_threshold=2).checked("model.kwargs")


def test_detect_is_threshold_and_suppression_of_the_dense_output(build):
    from torchvision.ops import batched_nms

    model, settings = build("YOLOX", size="nano").eval(), AnswerSettings(0.0001, 0.3, 7)
    with torch.no_grad():
        for layer in (*model.head.cls_preds, *model.head.obj_preds):  # different scores everywhere
            layer.weight.normal_(0, 3)
        x = torch.randn(3, 3, 64, 64)
        found, dense = model.detect(x, settings), model.dense(x)
    for b in range(3):
        scores, labels = (dense[b, :, 5:] * dense[b, :, 4:5]).max(-1)
        boxes = cxcywh_to_xyxy(dense[b, :, :4])
        above = scores >= settings.score_threshold
        kept = batched_nms(boxes[above], scores[above], labels[above], settings.nms_threshold)[:7]
        torch.testing.assert_close(found.scores[b, : len(kept)], scores[above][kept])
        torch.testing.assert_close(found.boxes[b, : len(kept)], boxes[above][kept])
        assert found.labels[b].tolist() == labels[above][kept].tolist() + [-1] * (7 - len(kept))
