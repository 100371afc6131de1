"""YOLOX (Ge et al. 2021) in its six sizes, on YOLOv3's Darknet-53, and with any backbone under its neck and head."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from loguru import logger
from torch import Tensor, nn

from dao.checkpoints import checkpoint
from dao.errors import CheckpointError, ConfigError, Problem
from dao.models.detection.answers import Answers, AnswerSettings, check_answers, choose, not_finite
from dao.models.detection.boxes import cxcywh_to_xyxy
from dao.models.detection.darknet import CSPDarknet, Darknet53
from dao.models.detection.head import DecoupledHead, DenseOutput
from dao.models.detection.necks import FPN, PAFPN
from dao.models.expected import Settings, starts_trained
from dao.models.pretrained import freeze_modules, load_local_weights
from dao.register import Registers
from dao.words.counted import counted

Size = Literal["nano", "tiny", "s", "m", "l", "x"]
# depth and width factors, table 3 and section 2.2 of the paper
SIZES: dict[str, tuple[float, float]] = {
    "nano": (0.33, 0.25),
    "tiny": (0.33, 0.375),
    "s": (0.33, 0.50),
    "m": (0.67, 0.75),
    "l": (1.0, 1.0),
    "x": (1.33, 1.25),
}
HIDDEN = 256  # channels of the head's branches at width 1
COARSEST = 32  # input sides must be multiples of the coarsest stride
CLASS_BRANCH = "head.cls_preds."


class YOLOX(nn.Module):
    """A backbone inside its neck, and a decoupled head: (B, C, H, W) -> `DenseOutput`.

    answers: how boxes are chosen from what the head says.
    """

    def __init__(self, neck: nn.Module, head: DecoupledHead, answers: AnswerSettings) -> None:
        super().__init__()
        self.backbone, self.head, self.answers = neck, head, answers

    def forward(self, images: Tensor) -> DenseOutput:
        """Raises ValueError when the sides are not multiples of 32: the neck joins maps of doubled size."""
        height, width = images.shape[-2:]
        if height % COARSEST or width % COARSEST:
            raise ValueError(f"both sides must be multiples of {COARSEST}, got {height} x {width}")
        return self.head(self.backbone(images))

    def detect(self, images: Tensor, settings: AnswerSettings) -> Answers:
        """(B, C, H, W) -> the boxes it answers with, in pixels of the input; safe to trace.

        The score of a class is its probability times that of an object.
        """
        said = self(images)
        scores, labels = (said.classes.float().sigmoid() * said.objectness.float().sigmoid()[..., None]).max(dim=-1)
        boxes = cxcywh_to_xyxy(said.boxes_cxcywh())
        hw = (images.shape[-2], images.shape[-1])
        lost = not_finite(said.classes) | not_finite(said.objectness)
        return choose(boxes, scores, labels, said.classes.shape[-1], hw, settings, lost)

    def dense(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, A, 5 + K): centre, size, probability of an object and of each class, at all positions."""
        said = self(images)
        chances = torch.cat((said.objectness[..., None], said.classes), dim=-1).float().sigmoid()
        return torch.cat((said.boxes_cxcywh(), chances), dim=-1)


@Registers.det_models.register("YOLOX")
def yolox(
    size: Size = "s",
    num_classes: int = 80,
    in_chans: int = 3,
    depthwise: bool | None = None,
    checkpoint_path: str | None = None,
    freeze: list[str] | None = None,
    score_threshold: float = 0.01,
    nms_threshold: float = 0.65,
    max_detections: int = 300,
    shown_threshold: float = 0.3,
) -> nn.Module:
    """YOLOX by size; state dicts have the published names and shapes.

    depthwise: split 3x3 convolutions into depthwise and pointwise ones; by default in nano only, as published.
    checkpoint_path: published weights, or a checkpoint of ours; with another number of classes everything but the class
    branch is loaded. freeze: modules whose weights stay, by name or regular expression ("backbone\\.backbone").
    score_threshold, nms_threshold, max_detections: boxes below the score are not answered; of two of a class that
    overlap by more (IoU) the better stays; at most so many a picture. shown_threshold: the least score that is drawn.
    """
    depth, width = SIZES[size]
    depthwise = size == "nano" if depthwise is None else depthwise
    backbone = CSPDarknet(depth, width, depthwise, in_chans=in_chans)
    neck = PAFPN(backbone, backbone.channels, depth=depth, depthwise=depthwise)
    head = DecoupledHead(num_classes, neck.channels, int(HIDDEN * width), depthwise)
    model = YOLOX(neck, head, AnswerSettings(score_threshold, nms_threshold, max_detections, shown_threshold))
    return _finished(model, checkpoint_path, freeze, whole=True)


@Registers.det_models.register("YOLOv3Darknet53")
def yolov3_darknet53(
    num_classes: int = 80,
    in_chans: int = 3,
    checkpoint_path: str | None = None,
    freeze: list[str] | None = None,
    score_threshold: float = 0.01,
    nms_threshold: float = 0.65,
    max_detections: int = 300,
    shown_threshold: float = 0.3,
) -> nn.Module:
    """YOLOX on the backbone and neck of YOLOv3 ("YOLOX-Darknet53", table 2 of the paper). Keywords as of `yolox`."""
    backbone = Darknet53(in_chans)
    neck = FPN(backbone, backbone.channels)
    head = DecoupledHead(num_classes, neck.channels, HIDDEN, act="lrelu")
    model = YOLOX(neck, head, AnswerSettings(score_threshold, nms_threshold, max_detections, shown_threshold))
    return _finished(model, checkpoint_path, freeze, whole=True)


@Registers.det_models.register("YOLOXWithBackbone")
def yolox_with_backbone(
    backbone: dict[str, Any],
    neck: Literal["pafpn", "fpn"] = "pafpn",
    size: Size = "s",
    num_classes: int = 80,
    in_chans: int = 3,
    depthwise: bool = False,
    checkpoint_path: str | None = None,
    freeze: list[str] | None = None,
    score_threshold: float = 0.01,
    nms_threshold: float = 0.65,
    max_detections: int = 300,
    shown_threshold: float = 0.3,
) -> nn.Module:
    """The neck and head of YOLOX on another backbone, whose maps are brought to the neck's width first.

    backbone: {"type", "kwargs"} of a registered backbone with maps at strides 8, 16, 32, such as TimmFeatures.
    size: of the neck and the head. The other keywords are those of `yolox`.
    """
    depth, width = SIZES[size]
    features = Registers.backbones.build(backbone, "model.kwargs.backbone", in_chans=in_chans)
    if len(getattr(features, "channels", ())) != 3:
        message = "gives no maps at strides 8, 16 and 32 (a backbone says so in its `channels`)"
        raise ConfigError(Problem("model.kwargs.backbone.type", f"'{backbone['type']}' {message}"))
    widths = tuple(int(channels * width) for channels in (256, 512, 1024))
    if neck == "pafpn":
        joined: nn.Module = PAFPN(features, features.channels, widths, depth, depthwise)
    else:
        joined = FPN(features, features.channels, widths, act="silu")
    head = DecoupledHead(num_classes, joined.channels, int(HIDDEN * width), depthwise)
    model = YOLOX(joined, head, AnswerSettings(score_threshold, nms_threshold, max_detections, shown_threshold))
    return _finished(model, checkpoint_path, freeze, whole=False)


def _check_with_backbone(kwargs: Mapping[str, Any], where: str) -> list[Problem]:
    section, place = kwargs["backbone"], f"{where}.backbone"
    if not isinstance(section.get("type"), str) or section["type"] not in Registers.backbones:
        return [Problem(f"{place}.type", Registers.backbones.unknown(section.get("type")))]
    component = Registers.backbones.get(section["type"])
    inner = Registers.backbones.check_kwargs(component, section.get("kwargs") or {}, f"{place}.kwargs")
    return [*inner, *check_answers(kwargs, where)]


yolox.check_config = yolov3_darknet53.check_config = check_answers  # type: ignore[attr-defined]
yolox_with_backbone.check_config = _check_with_backbone  # type: ignore[attr-defined]


PUBLISHED: Settings = {  # the picture in the corner of a grey square, blue first, 0 to 255
    "mean": [0.0, 0.0, 0.0], "std": [1 / 255] * 3, "channel_order": "bgr", "position": "top_left", "pad_value": 114,
}  # fmt: skip


def _of_published(kwargs: Mapping[str, Any]) -> Settings:
    return dict(PUBLISHED) if starts_trained(kwargs) else {}


def _of_backbone(kwargs: Mapping[str, Any]) -> Settings:
    """A file of the whole detector says nothing of how it was trained; a backbone of its own says it itself."""
    inner = kwargs.get("backbone") or {}
    expects = getattr(Registers.backbones.get(inner["type"]), "expects", None) if inner.get("type") else None
    return expects(inner.get("kwargs") or {}) if expects else {}


yolox.expects = yolov3_darknet53.expects = _of_published  # type: ignore[attr-defined]
yolox_with_backbone.expects = _of_backbone  # type: ignore[attr-defined]


def _finished(model: nn.Module, checkpoint_path: str | None, freeze: list[str] | None, whole: bool) -> nn.Module:
    if checkpoint_path:
        load_detector_weights(model, checkpoint_path, whole)
    freeze_modules(model, freeze or [])
    return model


def load_detector_weights(model: nn.Module, path: str, whole: bool) -> None:
    """Fill a detector from a file and say what fitted.

    whole: everything but the class branch must fit, and the file must hold nothing else. Raises CheckpointError.
    """
    if not whole:
        load_local_weights(model, path)
        return
    weights = _fit_first_convolution(model, checkpoint.load_weights(path))
    report = checkpoint.fit(model, weights)
    misfits = [name for name in (*report.missing, *report.mismatched) if not name.startswith(CLASS_BRANCH)]
    if misfits or report.unexpected or report.by_order:
        raise CheckpointError(f"{path} is of another model: {report.render()}")
    if report.mismatched:
        logger.warning("weights from {}: all but the class branch, whose number of classes differs", path)
    else:
        logger.info("weights from {}: all {}", path, counted(len(report.loaded), "tensor"))


def _fit_first_convolution(model: nn.Module, weights: checkpoint.StateDict) -> checkpoint.StateDict:
    """RGB weights for a grey input: kernels summed over colour, in each of the stem's four pixel blocks."""
    name = next(n for n, p in model.named_parameters() if p.ndim == 4)
    own, given = dict(model.named_parameters())[name], weights.get(name)
    if given is None or given.ndim != 4 or given.shape[1] != 3 * own.shape[1]:
        return weights
    blocks = given.float().unflatten(1, (own.shape[1], 3))
    return {**weights, name: blocks.sum(dim=2)}
