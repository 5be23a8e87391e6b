"""Xception39, the small backbone of the paper, as in the authors' code (TorchSeg `furnace/base_model/xception.py`)."""

from __future__ import annotations

import paddle
import paddle.nn as nn
import paddle.nn.functional as F

from bisenetv1_plugin.weights import load_pretrained

__all__ = ["Xception39"]

EXPANSION = 4


class Xception39(nn.Layer):
    """Returns the outputs of the three stages: 64, 128, 256 channels at 1/8, 1/16, 1/32 (sizes rounded up).

    Takes `[N, in_channels, H, W]`.

    Args:
        in_channels: channels of the input image.
        pretrained: path or URL of a `.pdparams` file; see `weights.load_pretrained` for errors.
    """

    def __init__(self, in_channels: int = 3, pretrained: str | None = None) -> None:
        super().__init__()
        stem = _conv(in_channels, 8, 3, stride=2)
        self.conv1 = nn.Sequential(("conv", stem), ("bn", nn.BatchNorm2D(8)), ("relu", nn.ReLU()))
        self.maxpool = nn.MaxPool2D(3, stride=2, padding=1)
        self.layer1 = _stage(8, 16, blocks=4)
        self.layer2 = _stage(64, 32, blocks=8)
        self.layer3 = _stage(128, 64, blocks=4)
        self.feat_channels = [64, 128, 256]
        if pretrained is not None:
            load_pretrained(self, pretrained)

    def forward(self, x: paddle.Tensor) -> list[paddle.Tensor]:
        x = self.maxpool(self.conv1(x))
        features = []
        for stage in (self.layer1, self.layer2, self.layer3):
            x = stage(x)
            features.append(x)
        return features


class Block(nn.Layer):
    """Three separable convolutions and a shortcut: `[N, in, h, w]` -> `[N, 4 * hidden, h / stride, w / stride]`."""

    def __init__(self, in_channels: int, hidden: int, stride: int) -> None:
        super().__init__()
        out_channels = EXPANSION * hidden
        self.shortcut = SeparableConvBN(in_channels, out_channels, stride) if stride > 1 else nn.Identity()
        self.residual = nn.LayerList(
            [
                SeparableConvBN(in_channels, hidden, stride),
                SeparableConvBN(hidden, hidden),
                SeparableConvBN(hidden, out_channels),
            ]
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        first, second, third = self.residual
        return F.relu(self.shortcut(x) + third(F.relu(second(F.relu(first(x))))))


class SeparableConvBN(nn.Layer):
    """A depthwise 3x3 convolution, directly followed by a pointwise convolution, and a BatchNorm."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = _conv(in_channels, in_channels, 3, stride=stride, groups=in_channels)
        self.pointwise = _conv(in_channels, out_channels, 1)
        self.bn = nn.BatchNorm2D(out_channels)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.bn(self.pointwise(self.depthwise(x)))


def _stage(in_channels: int, hidden: int, blocks: int) -> nn.Sequential:
    rest = [Block(EXPANSION * hidden, hidden, stride=1) for _ in range(blocks - 1)]
    return nn.Sequential(Block(in_channels, hidden, stride=2), *rest)


def _conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Conv2D:
    """A convolution with PyTorch's default initialization, from which the authors train this backbone.

    Paddle's default distribution is 2.4 times as wide, except in depthwise convolutions, where it counts all channels
    as inputs.
    """
    bound = (groups / in_channels) ** 0.5 / kernel_size
    weight = paddle.ParamAttr(initializer=nn.initializer.Uniform(-bound, bound))
    return nn.Conv2D(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        groups=groups,
        weight_attr=weight,
        bias_attr=False,
    )
