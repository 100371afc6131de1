"""The decoupled head of YOLOX (Ge et al. 2021, section 2.1): what and where are answered by branches of their own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dao.models.detection.darknet import STRIDES
from dao.models.detection.layers import Activation, ConvBnAct, spatial_conv

PRIOR = 0.01  # probability of an object before training (Lin et al. 2017, focal loss, section 3.3)


class DenseOutput(NamedTuple):
    """What an anchor-free head says at every one of its A positions, the finest map first, row by row.

    offsets: (B, A, 4) raw x, y, log w, log h in units of the position's stride; objectness: (B, A) logits;
    classes: (B, A, K) logits; grid: (A, 2) column and row of each position in its map; strides: (A,) input pixels
    between neighbours.
    """

    offsets: Tensor
    objectness: Tensor
    classes: Tensor
    grid: Tensor
    strides: Tensor

    def boxes_cxcywh(self) -> Tensor:
        """(B, A, 4) float32 centres and sizes in input pixels."""
        offsets, stride = self.offsets.float(), self.strides[:, None]
        return torch.cat(((offsets[..., :2] + self.grid) * stride, offsets[..., 2:].exp() * stride), dim=-1)


class DecoupledHead(nn.Module):
    """Two branches of two convolutions on every map; the one that says where also says whether.

    in_channels: of the neck's maps; hidden: channels of the branches (256 times the width factor).
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Sequence[int],
        hidden: int,
        depthwise: bool = False,
        act: Activation = "silu",
    ) -> None:
        super().__init__()
        conv = partial(spatial_conv(depthwise), act=act)

        def branch() -> nn.Sequential:
            return nn.Sequential(conv(hidden, hidden, 3), conv(hidden, hidden, 3))

        self.cls_convs = nn.ModuleList(branch() for _ in in_channels)
        self.reg_convs = nn.ModuleList(branch() for _ in in_channels)
        self.cls_preds = nn.ModuleList(nn.Conv2d(hidden, num_classes, 1) for _ in in_channels)
        self.reg_preds = nn.ModuleList(nn.Conv2d(hidden, 4, 1) for _ in in_channels)
        self.obj_preds = nn.ModuleList(nn.Conv2d(hidden, 1, 1) for _ in in_channels)
        self.stems = nn.ModuleList(ConvBnAct(channels, hidden, 1, act=act) for channels in in_channels)
        self._expect_little()

    def _expect_little(self) -> None:
        """Every class and every object starts at probability `PRIOR`, so that empty places do not drown the rest."""
        for layer in (*self.cls_preds, *self.obj_preds):
            nn.init.constant_(layer.bias, -math.log((1 - PRIOR) / PRIOR))

    def forward(self, maps: Sequence[Tensor]) -> DenseOutput:
        """Maps at strides 8, 16, 32 -> what is said at all of their positions."""
        offsets, objectness, classes = [], [], []
        for level, x in enumerate(maps):
            x = self.stems[level](x)
            where, what = self.reg_convs[level](x), self.cls_convs[level](x)
            offsets.append(self.reg_preds[level](where).flatten(2))
            objectness.append(self.obj_preds[level](where).flatten(1))
            classes.append(self.cls_preds[level](what).flatten(2))
        grid, strides = positions([(x.shape[-2], x.shape[-1]) for x in maps], maps[0].device)
        return DenseOutput(
            torch.cat(offsets, 2).transpose(1, 2), torch.cat(objectness, 1), torch.cat(classes, 2).transpose(1, 2),
            grid, strides,
        )  # fmt: skip


def positions(sizes: Sequence[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Columns and rows (A, 2) of all positions of maps of the given (height, width), and their strides (A,), float32."""
    grids, strides = [], []
    for (height, width), stride in zip(sizes, STRIDES, strict=True):
        rows, columns = torch.meshgrid(
            torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
        )
        grids.append(torch.stack((columns.flatten(), rows.flatten()), dim=1).float())
        strides.append(torch.full((height * width,), float(stride), device=device))
    return torch.cat(grids), torch.cat(strides)
