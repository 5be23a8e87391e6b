"""ResNet v1b, v1c and v1s backbones, which return the features of their stages (stride in the 3x3 convolution).

- v1b is torchvision's. It has the structure and parameter names of `paddle.vision.models.ResNet`, so Paddle's ImageNet
  weights load directly (`pretrained: https://paddle-hapi.bj.bcebos.com/models/resnet18.pdparams`).
- v1c replaces the 7x7 convolution of the stem with three 3x3 of 32, 32 and 64 channels (OpenMMLab's `ResNetV1c`).
- v1s does so with 64, 64 and 128 channels (the authors' ResNet-101, TorchSeg `furnace/base_model/resnet.py` with
  `deep_stem=True, stem_width=64`).
"""

from __future__ import annotations

import paddle
import paddle.nn as nn
from paddle.vision.models import ResNet
from paddle.vision.models.resnet import BasicBlock, BottleneckBlock

from bisenetv1_plugin.weights import load_pretrained

__all__ = [
    "ResNet18_v1b",
    "ResNet34_v1b",
    "ResNet50_v1b",
    "ResNet101_v1b",
    "ResNet18_v1c",
    "ResNet50_v1c",
    "ResNet101_v1c",
    "ResNet101_v1s",
]


class _ResNetBackbone(ResNet):
    """Returns the outputs of the four stages, `[N, C, H/s, W/s]` for s = 4, 8, 16, 32 (sizes rounded up).

    Args:
        block: the residual block.
        depth: 18, 34, 50 or 101.
        in_channels: channels of the input image.
        pretrained: path or URL of a `.pdparams` file; see `weights.load_pretrained` for errors.
        stem_channels: channels of the first two convolutions of a deep stem, 32 (v1c) or 64 (v1s). Default: a single
            7x7 convolution (v1b).
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[BottleneckBlock],
        depth: int,
        in_channels: int = 3,
        pretrained: str | None = None,
        stem_channels: int | None = None,
    ) -> None:
        super().__init__(block, depth, num_classes=0, with_pool=False)
        if stem_channels is not None:
            self.conv1 = _DeepStem(in_channels, stem_channels)  # type: ignore[assignment]
            self.inplanes = 2 * stem_channels
            self.bn1 = nn.BatchNorm2D(self.inplanes)
            self.layer1 = self._make_layer(block, 64, len(self.layer1))
        elif in_channels != 3:
            self.conv1 = nn.Conv2D(in_channels, 64, 7, stride=2, padding=3, bias_attr=False)
        self.feat_channels = [stage * block.expansion for stage in (64, 128, 256, 512)]
        if pretrained is not None:
            load_pretrained(self, pretrained)

    def forward(self, x: paddle.Tensor) -> list[paddle.Tensor]:  # type: ignore[override]
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features


class _DeepStem(nn.Layer):
    """Three 3x3 convolutions, without the last BatchNorm and ReLU: `[N, in, H, W]` -> `[N, 2w, H/2, W/2]`."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2D(in_channels, width, 3, stride=2, padding=1, bias_attr=False)
        self.bn1 = nn.BatchNorm2D(width)
        self.conv2 = nn.Conv2D(width, width, 3, padding=1, bias_attr=False)
        self.bn2 = nn.BatchNorm2D(width)
        self.conv3 = nn.Conv2D(width, 2 * width, 3, padding=1, bias_attr=False)
        self.relu = nn.ReLU()

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.conv3(x)


# The name of each function is its `type` in YAML.


def ResNet18_v1b(in_channels: int = 3, pretrained: str | None = None) -> nn.Layer:
    """ResNet-18 v1b, 64 to 512 channels. See `_ResNetBackbone` for shapes and arguments."""
    return _ResNetBackbone(BasicBlock, 18, in_channels, pretrained)


def ResNet34_v1b(in_channels: int = 3, pretrained: str | None = None) -> nn.Layer:
    """ResNet-34 v1b, 64 to 512 channels. See `_ResNetBackbone` for shapes and arguments."""
    return _ResNetBackbone(BasicBlock, 34, in_channels, pretrained)


def ResNet50_v1b(in_channels: int = 3, pretrained: str | None = None) -> nn.Layer:
    """ResNet-50 v1b, 256 to 2048 channels. See `_ResNetBackbone` for shapes and arguments."""
    return _ResNetBackbone(BottleneckBlock, 50, in_channels, pretrained)


def ResNet101_v1b(in_channels: int = 3, pretrained: str | None = None) -> nn.Layer:
    """ResNet-101 v1b, 256 to 2048 channels. See `_ResNetBackbone` for shapes and arguments."""
    return _ResNetBackbone(BottleneckBlock, 101, in_channels, pretrained)


def ResNet18_v1c(in_channels: int = 3, pretrained: str | None = None) -> nn.Layer:
    """ResNet-18 v1c, 64 to 512 channels. See `_ResNetBackbone` for shapes and arguments."""
    return _ResNetBackbone(BasicBlock, 18, in_channels, pretrained, stem_channels=32)


def ResNet50_v1c(in_channels: int = 3, pretrained: str | None = None) -> nn.Layer:
    """ResNet-50 v1c, 256 to 2048 channels. See `_ResNetBackbone` for shapes and arguments."""
    return _ResNetBackbone(BottleneckBlock, 50, in_channels, pretrained, stem_channels=32)


def ResNet101_v1c(in_channels: int = 3, pretrained: str | None = None) -> nn.Layer:
    """ResNet-101 v1c, 256 to 2048 channels. See `_ResNetBackbone` for shapes and arguments."""
    return _ResNetBackbone(BottleneckBlock, 101, in_channels, pretrained, stem_channels=32)


def ResNet101_v1s(in_channels: int = 3, pretrained: str | None = None) -> nn.Layer:
    """ResNet-101 v1s, 256 to 2048 channels. See `_ResNetBackbone` for shapes and arguments."""
    return _ResNetBackbone(BottleneckBlock, 101, in_channels, pretrained, stem_channels=64)
