"""Losses on the encoder's inner maps, so that early layers hear of the target without the whole decoder between."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from dao.errors import ConfigError, Problem

LEVELS = (-2, -3)  # the encoder's maps at a sixteenth and an eighth of the input, in most networks
HIDDEN = 64  # channels of a small head


class DeeplySupervised(nn.Module):
    """A network of smp with small heads on two inner maps of its encoder (Lee et al. 2015; Zhao et al. 2017, 3.3).

    forward: (B, C, H, W) -> (B, K, H, W) logits; in training a list of them, the network's own first.
    aux_weight: what the mean of the heads' losses counts beside the network's own.
    """

    def __init__(self, model: nn.Module, num_classes: int, aux_weight: float) -> None:
        super().__init__()
        if type(model).forward is not _plain_forward():
            message = f"{type(model).__name__} does not show its encoder's maps; leave it out"
            raise ConfigError(Problem("model.kwargs.deep_supervision", message))
        self.model, self.aux_weight = model, aux_weight
        channels = [model.encoder.out_channels[level] for level in LEVELS]
        self.heads = nn.ModuleList(_head(inner, num_classes) for inner in channels)

    def forward(self, images: Tensor) -> Tensor | list[Tensor]:
        features = self.model.encoder(images)
        logits = self.model.segmentation_head(self.model.decoder(features))
        if not self.training:
            return logits
        size = tuple(logits.shape[-2:])
        inner = [head(features[level]) for head, level in zip(self.heads, LEVELS)]
        return [logits, *(F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in inner)]


def _plain_forward() -> object:
    from segmentation_models_pytorch.base import SegmentationModel

    return SegmentationModel.forward


def _head(channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, HIDDEN, 3, padding=1, bias=False),
        nn.BatchNorm2d(HIDDEN),
        nn.ReLU(inplace=True),
        nn.Conv2d(HIDDEN, num_classes, 1),
    )
