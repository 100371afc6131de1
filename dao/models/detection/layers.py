"""The blocks of which Darknets, their necks and the decoupled head are made.

Attribute names are those of the published YOLOX weights (Ge et al. 2021, "YOLOX: Exceeding YOLO Series in 2021"),
so that state dicts agree name by name.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

Activation = Literal["silu", "relu", "lrelu"]
BN_EPS, BN_MOMENTUM = 1e-3, 0.03  # of the published models


def activation_of(name: Activation) -> nn.Module:
    """The activation layer of a name; "lrelu" is Darknet's leaky ReLU of slope 0.1."""
    if name == "lrelu":
        return nn.LeakyReLU(0.1, inplace=True)
    return nn.SiLU(inplace=True) if name == "silu" else nn.ReLU(inplace=True)


class ConvBnAct(nn.Module):
    """Convolution, batch norm, activation; "same" padding, so that stride alone decides the output's size."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        act: Activation = "silu",
    ) -> None:
        super().__init__()
        padding = (kernel - 1) // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=BN_EPS, momentum=BN_MOMENTUM)
        self.act = activation_of(act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        return self.act(self.bn(self.conv(x)))


class DepthwiseConvBnAct(nn.Module):
    """A depthwise convolution followed by a pointwise one, each with batch norm and activation."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, act: Activation = "silu"
    ) -> None:
        super().__init__()
        self.dconv = ConvBnAct(in_channels, in_channels, kernel, stride, groups=in_channels, act=act)
        self.pconv = ConvBnAct(in_channels, out_channels, 1, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """As `ConvBnAct`."""
        return self.pconv(self.dconv(x))


def spatial_conv(depthwise: bool) -> type[ConvBnAct] | type[DepthwiseConvBnAct]:
    """What a model uses where a kernel is larger than one pixel."""
    return DepthwiseConvBnAct if depthwise else ConvBnAct


class Focus(nn.Module):
    """Every 2x2 block of pixels side by side in the channels, then a convolution: half the size, nothing lost."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int = 3, act: Activation = "silu") -> None:
        super().__init__()
        self.conv = ConvBnAct(in_channels * 4, out_channels, kernel, act=act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, out_channels, H / 2, W / 2); H and W even.

        Order of the blocks: upper left, lower left, upper right, lower right.
        """
        batch, channels, height, width = x.shape
        blocks = x.reshape(batch, channels, height // 2, 2, width // 2, 2).permute(0, 5, 3, 1, 2, 4)
        return self.conv(blocks.reshape(batch, 4 * channels, height // 2, width // 2))


class Bottleneck(nn.Module):
    """1x1 then 3x3, added to the input where ``shortcut`` is set."""

    def __init__(self, channels: int, shortcut: bool, depthwise: bool, act: Activation) -> None:
        super().__init__()
        self.conv1 = ConvBnAct(channels, channels, 1, act=act)
        self.conv2 = spatial_conv(depthwise)(channels, channels, 3, act=act)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """The shape stays."""
        y = self.conv2(self.conv1(x))
        return y + x if self.shortcut else y


class CSPLayer(nn.Module):
    """Cross-stage partial layer (Wang et al. 2020, CSPNet): half of the channels go through ``depth`` bottlenecks."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        depth: int = 1,
        shortcut: bool = True,
        depthwise: bool = False,
        act: Activation = "silu",
    ) -> None:
        super().__init__()
        hidden = out_channels // 2
        self.conv1 = ConvBnAct(in_channels, hidden, 1, act=act)
        self.conv2 = ConvBnAct(in_channels, hidden, 1, act=act)
        self.conv3 = ConvBnAct(2 * hidden, out_channels, 1, act=act)
        self.m = nn.Sequential(*(Bottleneck(hidden, shortcut, depthwise, act) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W)."""
        return self.conv3(torch.cat((self.m(self.conv1(x)), self.conv2(x)), dim=1))


class SPPBottleneck(nn.Module):
    """Spatial pyramid pooling (He et al. 2014) between two 1x1 convolutions: maxima over 5, 9 and 13 pixels."""

    POOLS = (5, 9, 13)

    def __init__(self, in_channels: int, out_channels: int, act: Activation = "silu") -> None:
        super().__init__()
        hidden = in_channels // 2
        self.conv1 = ConvBnAct(in_channels, hidden, 1, act=act)
        self.conv2 = ConvBnAct(hidden * (len(self.POOLS) + 1), out_channels, 1, act=act)
        self.pool = nn.MaxPool2d(self.POOLS[0], stride=1, padding=self.POOLS[0] // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) -> (B, out_channels, H, W).

        Two windows of 5 one after the other span 9 pixels, three span 13: the same maxima for less work.
        """
        maps = [self.conv1(x)]
        for _ in self.POOLS:
            maps.append(self.pool(maps[-1]))
        return self.conv2(torch.cat(maps, dim=1))


class ResLayer(nn.Module):
    """Darknet's residual layer (Redmon and Farhadi 2018): 1x1 to half the channels, 3x3 back, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        conv = partial(ConvBnAct, act="lrelu")
        self.layer1 = conv(channels, channels // 2, 1)
        self.layer2 = conv(channels // 2, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """The shape stays."""
        return x + self.layer2(self.layer1(x))
