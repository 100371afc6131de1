"""torchvision's detectors: Faster R-CNN, RetinaNet, FCOS, SSD, SSDLite. They bring their own losses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from loguru import logger
from torch import Tensor, nn
from torchvision.models import detection as zoo
from torchvision.models import get_model, get_model_weights, list_models
from torchvision.models.detection.image_list import ImageList

from dao.checkpoints import checkpoint
from dao.errors import ConfigError, Problem, nearest
from dao.models.detection import torchvision_stages as stages
from dao.models.detection.answers import Answers, AnswerSettings, check_answers, not_finite
from dao.models.expected import Settings, starts_trained
from dao.models.pretrained import download, freeze_modules, load_local_weights
from dao.register import Registers
from dao.structures import BoxTargets

BACKGROUND_FIRST = (zoo.FasterRCNN, zoo.ssd.SSD)  # families whose class 0 is "nothing"
MASKS_OR_POINTS = ("maskrcnn", "keypointrcnn")


class AsGiven(nn.Module):
    """Stands in for torchvision's own resizing and normalising: here `dao.preprocess` does both."""

    def forward(self, images: Tensor, targets: Any = None) -> tuple[ImageList, Any]:
        """images: (B, C, H, W), handed through."""
        return ImageList(images, [(images.shape[-2], images.shape[-1])] * len(images)), targets

    def postprocess(self, found: list[dict[str, Tensor]], *_: Any) -> list[dict[str, Tensor]]:
        """Boxes are in the input's pixels already."""
        return found


@Registers.det_models.register()
class TorchvisionDetector(nn.Module):
    """A detector of torchvision by its name there.

    model_name: "fasterrcnn_resnet50_fpn", "fasterrcnn_mobilenet_v3_large_320_fpn", "retinanet_resnet50_fpn_v2",
    "fcos_resnet50_fpn", "ssdlite320_mobilenet_v3_large", ...
    pretrained: download COCO weights; checkpoint_path: a local file instead; what fits is loaded, the rest is listed.
    trainable_layers: how many of the backbone's last stages learn; None: as torchvision has it, which is all of them from
    random weights, else three (four of SSD's five, all of SSDLite's).
    freeze_batch_norm: the backbone's batch norms keep their statistics and learn nothing; None: as torchvision has it, from
    trained weights and not in its second versions (batches are small). With checkpoint_path as with pretrained.
    freeze: modules whose weights stay, by name or regular expression ("backbone").
    score_threshold, nms_threshold, max_detections: see AnswerSettings. shown_threshold: the least score that is drawn.
    """

    brings = ("loss",)  # sections of a config that this model makes needless
    not_exportable = (
        "torchvision's detectors decide in Python, picture by picture, what to keep, and cannot be traced; "
        "train a YOLOX to get a file that runs without this code"
    )

    check_config = staticmethod(check_answers)

    @staticmethod
    def expects(kwargs: Mapping[str, Any]) -> Settings:
        """Mean and deviation are kept inside torchvision's models; see `dao.models.expected`."""
        if not starts_trained(kwargs):
            return {}
        _check(kwargs["model_name"], 3, False, None)
        with torch.device("meta"):
            inside = get_model(kwargs["model_name"], weights=None, weights_backbone=None).transform
        return {"mean": list(inside.image_mean), "std": list(inside.image_std)}

    def __init__(
        self,
        model_name: str,
        num_classes: int = 91,
        pretrained: bool = False,
        checkpoint_path: str | None = None,
        trainable_layers: int | None = None,
        freeze_batch_norm: bool | None = None,
        freeze: list[str] | None = None,
        score_threshold: float = 0.01,
        nms_threshold: float = 0.5,
        max_detections: int = 300,
        shown_threshold: float = 0.3,
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        _check(model_name, in_chans, pretrained, checkpoint_path)
        self.answers = AnswerSettings(score_threshold, nms_threshold, max_detections, shown_threshold)
        self.net = _create(model_name, num_classes)
        self.net.transform = AsGiven()
        self.shift = 1 if isinstance(self.net, BACKGROUND_FIRST) else 0
        if pretrained:
            weights = download(lambda: get_model_weights(model_name).DEFAULT.get_state_dict(), model_name, "pretrained")
            logger.info("{} from COCO: {}", model_name, checkpoint.fit(self.net, weights).render())
        if checkpoint_path:
            load_local_weights(self.net, checkpoint_path)
        trained = pretrained or checkpoint_path is not None
        backbone = self.net.backbone
        if trained or trainable_layers is not None:
            stages.freeze_first_stages(backbone, trainable_layers)
        if freeze_batch_norm or (
            freeze_batch_norm is None and trained and stages.freezes_batch_norm(model_name, backbone)
        ):
            stages.freeze_batch_norm(backbone)
        freeze_modules(self.net, freeze or [])

    def forward(self, images: Tensor, targets: BoxTargets | None = None) -> Any:
        """Training: named losses and "loss", their sum. Otherwise torchvision's answers, one dict a picture.

        images: (B, C, H, W) normalised; targets: their objects in input pixels.
        """
        if targets is None:
            return self.net(images)
        losses = self.net(images, self._targets(targets))
        return {**{name: value.detach() for name, value in losses.items()}, "loss": sum(losses.values())}

    def _targets(self, targets: BoxTargets) -> list[dict[str, Tensor]]:
        return [
            {"boxes": boxes[labels >= 0], "labels": labels[labels >= 0] + self.shift}
            for boxes, labels in zip(targets.boxes_xyxy, targets.labels, strict=True)
        ]

    def detect(self, images: Tensor, settings: AnswerSettings) -> Answers:
        """(B, C, H, W) -> the boxes it answers with, in pixels of the input."""
        self._answer_by(settings)
        with Witness(self.net, len(images)) as witness:
            padded = [_padded(found, settings.max_detections, self.shift) for found in self.net(images)]
        boxes, scores, labels = (torch.stack(column) for column in zip(*padded, strict=True))
        return Answers(boxes, torch.where(witness.lost[:, None], torch.nan, scores), labels)

    def _answer_by(self, settings: AnswerSettings) -> None:
        """torchvision keeps these with the model, in its region head where it has one."""
        head = getattr(self.net, "roi_heads", self.net)
        head.score_thresh, head.nms_thresh = settings.score_threshold, settings.nms_threshold
        head.detections_per_img = settings.max_detections


class Witness:
    """Sees what a detector's heads say, of which torchvision drops in silence whatever is NaN, and cuts what is infinite.

    lost: (B,) bool, pictures of which something was not finite.
    """

    def __init__(self, net: nn.Module, pictures: int) -> None:
        self.net, self.lost = net, torch.zeros(pictures, dtype=torch.bool, device=next(net.parameters()).device)
        self.counts: list[int] = []  # proposals of each picture, which a second stage judges all together
        self.hooks: list[Any] = []

    def __enter__(self) -> Witness:
        if hasattr(self.net, "roi_heads"):
            watched = {self.net.rpn.head: self._by_picture, self.net.rpn: self._count,
                       self.net.roi_heads.box_predictor: self._by_proposal}  # fmt: skip
        else:
            watched = {self.net.head: self._by_picture}
        self.hooks = [module.register_forward_hook(hook) for module, hook in watched.items()]
        return self

    def __exit__(self, *_: Any) -> None:
        for hook in self.hooks:
            hook.remove()

    def _count(self, module: nn.Module, given: Any, found: Any) -> None:
        self.counts = [len(one) for one in found[0]]

    def _by_picture(self, module: nn.Module, given: Any, found: Any) -> None:
        for values in _tensors(found):
            self.lost |= not_finite(values)

    def _by_proposal(self, module: nn.Module, given: Any, found: Any) -> None:
        for values in _tensors(found):
            rows = not_finite(values)
            self.lost |= torch.stack([part.any() for part in rows.split(self.counts)])


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for one in value.values() if isinstance(value, Mapping) else value:
            yield from _tensors(one)


def _padded(found: dict[str, Tensor], count: int, shift: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes (count, 4), scores (count,) and labels (count,) of a picture, the best first, padded as `Answers` are."""
    missing = count - len(found["scores"])
    return (
        F.pad(found["boxes"].float(), (0, 0, 0, missing)),
        F.pad(found["scores"].float(), (0, missing)),
        F.pad(found["labels"] - shift, (0, missing), value=-1),
    )


def _check(model_name: str, in_chans: int, pretrained: bool, checkpoint_path: str | None) -> None:
    """Raises ConfigError for what cannot be built."""
    known: Sequence[str] = [name for name in list_models(module=zoo) if not name.startswith(MASKS_OR_POINTS)]
    if model_name not in known:
        raise ConfigError(
            Problem(
                "model.kwargs.model_name", f"torchvision has no detector '{model_name}'. {nearest(model_name, known)}"
            )
        )
    if in_chans != 3:
        message = f"{model_name} takes 3 channels; leave preprocess.in_channels at 3 (grey pictures are repeated)"
        raise ConfigError(Problem("preprocess.in_channels", message))
    if pretrained and checkpoint_path:
        message = "give either pretrained: true (download) or checkpoint_path (local file), not both"
        raise ConfigError(Problem("model.kwargs.checkpoint_path", message))


def _create(model_name: str, num_classes: int) -> nn.Module:
    """Random weights, with a class for "nothing" where the family has one."""
    with torch.device("meta"):
        extra = 1 if isinstance(get_model(model_name, weights=None, weights_backbone=None), BACKGROUND_FIRST) else 0
    return get_model(model_name, weights=None, weights_backbone=None, num_classes=num_classes + extra)
