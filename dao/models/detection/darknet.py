"""Darknet backbones: CSPDarknet of YOLOX and Darknet-53 of YOLOv3, with spatial pyramid pooling at their end.

A backbone gives maps at strides 8, 16 and 32, and says in ``channels`` how many channels each has.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn

from dao.models.detection.layers import Activation, ConvBnAct, CSPLayer, Focus, ResLayer, SPPBottleneck, spatial_conv
from dao.register import Registers

STRIDES = (8, 16, 32)
Maps = tuple[Tensor, Tensor, Tensor]


@Registers.backbones.register()
class CSPDarknet(nn.Module):
    """Darknet with cross-stage partial layers, the backbone of YOLOX.

    depth, width: factors of the number of layers and of channels (YOLOX-s: 0.33 and 0.5). depthwise: 3x3 convolutions
    split into depthwise and pointwise ones, as in YOLOX-nano.
    """

    def __init__(
        self,
        depth: float = 1.0,
        width: float = 1.0,
        depthwise: bool = False,
        act: Activation = "silu",
        in_chans: int = 3,
    ) -> None:
        super().__init__()
        base, layers = int(width * 64), max(round(depth * 3), 1)
        conv, csp = partial(spatial_conv(depthwise), act=act), partial(CSPLayer, depthwise=depthwise, act=act)
        self.channels = (base * 4, base * 8, base * 16)
        self.stem = Focus(in_chans, base, 3, act=act)
        self.dark2 = nn.Sequential(conv(base, base * 2, 3, 2), csp(base * 2, base * 2, layers))
        self.dark3 = nn.Sequential(conv(base * 2, base * 4, 3, 2), csp(base * 4, base * 4, layers * 3))
        self.dark4 = nn.Sequential(conv(base * 4, base * 8, 3, 2), csp(base * 8, base * 8, layers * 3))
        self.dark5 = nn.Sequential(
            conv(base * 8, base * 16, 3, 2),
            SPPBottleneck(base * 16, base * 16, act=act),
            csp(base * 16, base * 16, layers, shortcut=False),
        )

    def forward(self, x: Tensor) -> Maps:
        """(B, in_chans, H, W), sides multiples of 32 -> maps at strides 8, 16, 32."""
        dark3 = self.dark3(self.dark2(self.stem(x)))
        dark4 = self.dark4(dark3)
        return dark3, dark4, self.dark5(dark4)


@Registers.backbones.register()
class Darknet53(nn.Module):
    """The backbone of YOLOv3 (Redmon and Farhadi 2018), with spatial pyramid pooling as in YOLOv3-SPP."""

    BLOCKS = (2, 8, 8, 4)

    def __init__(self, in_chans: int = 3) -> None:
        super().__init__()
        conv = partial(ConvBnAct, act="lrelu")
        self.channels = (256, 512, 512)
        self.stem = nn.Sequential(conv(in_chans, 32, 3), *_group(32, 1))
        self.dark2 = nn.Sequential(*_group(64, self.BLOCKS[0]))
        self.dark3 = nn.Sequential(*_group(128, self.BLOCKS[1]))
        self.dark4 = nn.Sequential(*_group(256, self.BLOCKS[2]))
        pooling = (
            conv(1024, 512, 1),
            conv(512, 1024, 3),
            SPPBottleneck(1024, 512, act="lrelu"),
            conv(512, 1024, 3),
            conv(1024, 512, 1),
        )
        self.dark5 = nn.Sequential(*_group(512, self.BLOCKS[3]), *pooling)

    def forward(self, x: Tensor) -> Maps:
        """(B, in_chans, H, W), sides multiples of 32 -> maps at strides 8, 16, 32."""
        dark3 = self.dark3(self.dark2(self.stem(x)))
        dark4 = self.dark4(dark3)
        return dark3, dark4, self.dark5(dark4)


def _group(channels: int, layers: int) -> list[nn.Module]:
    """Half the size and twice the channels, then residual layers."""
    down = ConvBnAct(channels, channels * 2, 3, 2, act="lrelu")
    return [down, *(ResLayer(channels * 2) for _ in range(layers))]
