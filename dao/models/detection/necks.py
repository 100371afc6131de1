"""Necks: what the maps of a backbone tell each other before a head reads them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dao.models.detection.darknet import Maps
from dao.models.detection.layers import Activation, ConvBnAct, CSPLayer, spatial_conv


class PAFPN(nn.Module):
    """Path aggregation (Liu et al. 2018, PANet): meaning goes down to the fine maps, position back up to the coarse.

    backbone: gives three maps of ``in_channels`` at strides 8, 16, 32; it is held here because published weights name
    it so. widths: channels that the neck works with and gives out, the backbone's own by default.
    depth: factor of the number of layers.
    """

    def __init__(
        self,
        backbone: nn.Module,
        in_channels: Sequence[int],
        widths: Sequence[int] | None = None,
        depth: float = 1.0,
        depthwise: bool = False,
        act: Activation = "silu",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.adapt = None if widths is None else _adapters(in_channels, widths, act)
        c3, c4, c5 = self.channels = tuple(widths or in_channels)
        conv = partial(spatial_conv(depthwise), act=act)
        csp = partial(CSPLayer, depth=round(3 * depth), shortcut=False, depthwise=depthwise, act=act)
        self.lateral_conv0 = ConvBnAct(c5, c4, 1, act=act)
        self.C3_p4 = csp(2 * c4, c4)
        self.reduce_conv1 = ConvBnAct(c4, c3, 1, act=act)
        self.C3_p3 = csp(2 * c3, c3)
        self.bu_conv2 = conv(c3, c3, 3, 2)
        self.C3_n3 = csp(2 * c3, c4)
        self.bu_conv1 = conv(c4, c4, 3, 2)
        self.C3_n4 = csp(2 * c4, c5)

    def forward(self, x: Tensor) -> Maps:
        """(B, C, H, W) pictures -> maps of ``channels`` at strides 8, 16, 32."""
        fine, middle, coarse = _adapted(self.backbone(x), self.adapt)
        top = self.lateral_conv0(coarse)
        down4 = self.C3_p4(torch.cat((_double(top), middle), dim=1))
        reduced = self.reduce_conv1(down4)
        out3 = self.C3_p3(torch.cat((_double(reduced), fine), dim=1))
        out4 = self.C3_n3(torch.cat((self.bu_conv2(out3), reduced), dim=1))
        out5 = self.C3_n4(torch.cat((self.bu_conv1(out4), top), dim=1))
        return out3, out4, out5


class FPN(nn.Module):
    """The neck of YOLOv3 (Redmon and Farhadi 2018): meaning goes down, in blocks of five convolutions.

    backbone, in_channels, widths: as in `PAFPN`; what it gives out has a quarter, a half and the whole of the coarsest
    map's channels.
    """

    def __init__(
        self,
        backbone: nn.Module,
        in_channels: Sequence[int],
        widths: Sequence[int] | None = None,
        act: Activation = "lrelu",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.adapt = None if widths is None else _adapters(in_channels, widths, act)
        c3, c4, c5 = tuple(widths or in_channels)
        half, quarter = c5 // 2, c5 // 4
        self.channels = (quarter, half, c5)
        self.out1_cbl = ConvBnAct(c5, half, 1, act=act)
        self.out1 = _five(c4 + half, half, act)
        self.out2_cbl = ConvBnAct(half, quarter, 1, act=act)
        self.out2 = _five(c3 + quarter, quarter, act)

    def forward(self, x: Tensor) -> Maps:
        """(B, C, H, W) pictures -> maps of ``channels`` at strides 8, 16, 32."""
        fine, middle, coarse = _adapted(self.backbone(x), self.adapt)
        out4 = self.out1(torch.cat((_double(self.out1_cbl(coarse)), middle), dim=1))
        out3 = self.out2(torch.cat((_double(self.out2_cbl(out4)), fine), dim=1))
        return out3, out4, coarse


def _five(in_channels: int, channels: int, act: Activation) -> nn.Sequential:
    """1x1, 3x3, 1x1, 3x3, 1x1: narrow, wide, narrow, wide, narrow."""
    conv = partial(ConvBnAct, act=act)
    return nn.Sequential(
        conv(in_channels, channels, 1),
        conv(channels, channels * 2, 3),
        conv(channels * 2, channels, 1),
        conv(channels, channels * 2, 3),
        conv(channels * 2, channels, 1),
    )


def _adapters(in_channels: Sequence[int], widths: Sequence[int], act: Activation) -> nn.ModuleList:
    """1x1 convolutions from a foreign backbone's channels to the neck's."""
    return nn.ModuleList(ConvBnAct(i, o, 1, act=act) for i, o in zip(in_channels, widths, strict=True))


def _adapted(maps: Sequence[Tensor], adapters: nn.ModuleList | None) -> Sequence[Tensor]:
    return maps if adapters is None else [adapt(x) for adapt, x in zip(adapters, maps, strict=True)]


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")
