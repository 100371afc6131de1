"""What torchvision's detectors keep fixed when they start from trained weights: batch norms, and the backbone's first stages.

Their builders decide it while they build, by whether they download weights. Ours may come from a file, so it is done here.
"""

from __future__ import annotations

from torch import nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.ssd import SSDFeatureExtractorVGG

from dao.errors import ConfigError, Problem
from dao.models.pretrained import stay_in_eval

WHERE = "model.kwargs.trainable_layers"
RESNET_LAYERS, FPN_LAYERS, VGG_LAYERS = (
    5,
    3,
    4,
)  # stages of a ResNet; those that train by default with an FPN, and in SSD


def stages_of(backbone: nn.Module) -> list[list[nn.Module]]:
    """The backbone's stages as torchvision counts them, from the picture on; empty where all of it always trains."""
    if isinstance(backbone, SSDFeatureExtractorVGG):
        chain = [*backbone.features, *list(backbone.extra[0])[:-1]]
        return _cut(chain, [0] + [i for i, part in enumerate(chain) if isinstance(part, nn.MaxPool2d)])
    if not isinstance(backbone, BackboneWithFPN):
        return []
    parts = dict(backbone.body.named_children())
    if "layer1" in parts:
        return [[parts["conv1"], parts["bn1"]], *([parts[f"layer{i}"]] for i in range(1, RESNET_LAYERS))]
    chain = list(parts.values())
    strided = [i for i, part in enumerate(chain) if getattr(part, "_is_cn", False)]
    return _cut(chain, [0, *strided, len(chain) - 1])


def _cut(chain: list[nn.Module], starts: list[int]) -> list[list[nn.Module]]:
    """A chain cut before each of ``starts``."""
    return [chain[start:end] for start, end in zip(starts, [*starts[1:], len(chain)])]


def freeze_first_stages(backbone: nn.Module, trainable: int | None) -> None:
    """Only the last ``trainable`` stages learn; None: as many as torchvision trains. Raises ConfigError beyond them."""
    stages = stages_of(backbone)
    if trainable is None:
        trainable = VGG_LAYERS if isinstance(backbone, SSDFeatureExtractorVGG) else FPN_LAYERS
        trainable = min(trainable, len(stages))
    elif not stages:
        raise ConfigError(Problem(WHERE, "torchvision trains all of this model; choose by 'freeze' instead"))
    elif not 0 <= trainable <= len(stages):
        raise ConfigError(Problem(WHERE, f"must lie in 0..{len(stages)}, the stages of this backbone; got {trainable}"))
    for stage in stages[: len(stages) - trainable]:
        for part in stage:
            part.requires_grad_(False)


def freezes_batch_norm(model_name: str, backbone: nn.Module) -> bool:
    """Whether torchvision's builder fixes the backbone's batch norms: those with an FPN, before their second versions."""
    return isinstance(backbone, BackboneWithFPN) and not model_name.endswith("_v2")


def freeze_batch_norm(backbone: nn.Module) -> None:
    """Its batch norms answer by their statistics and learn nothing."""
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.requires_grad_(False)
            stay_in_eval(module)
