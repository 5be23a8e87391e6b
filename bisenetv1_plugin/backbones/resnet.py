"""ResNet v1b: torchvision's ResNet (stride in the 3x3 convolution), as a backbone that returns its stages.

The structure and the parameter names are those of `paddle.vision.models.ResNet`, which are torchvision's, so
Paddle's own ImageNet weights load as they are (`pretrained: https://paddle-hapi.bj.bcebos.com/models/resnet18.pdparams`).
"""

import paddle.nn as nn
from paddle.vision.models import ResNet
from paddle.vision.models.resnet import BasicBlock, BottleneckBlock

from bisenetv1_plugin.weights import load_pretrained

__all__ = ["ResNet18_v1b", "ResNet34_v1b", "ResNet50_v1b", "ResNet101_v1b"]


class _ResNetBackbone(ResNet):
    """Returns the outputs of the four stages, `[N, C, H/s, W/s]` for s = 4, 8, 16, 32 (sizes rounded up).

    Args:
        block (type): the residual block.
        depth (int): 18, 34, 50 or 101.
        in_channels (int): channels of the input image.
        pretrained (str, optional): path or URL of a `.pdparams` file; see `weights.load_pretrained` for errors.
    """

    def __init__(self, block, depth, in_channels=3, pretrained=None):
        super().__init__(block, depth, num_classes=0, with_pool=False)
        if in_channels != 3:
            self.conv1 = nn.Conv2D(in_channels, 64, 7, stride=2, padding=3, bias_attr=False)
        self.feat_channels = [stage * block.expansion for stage in (64, 128, 256, 512)]
        if pretrained is not None:
            load_pretrained(self, pretrained)

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features


# PaddleSeg's registries take classes or functions by their `__name__`, which is the YAML `type`.


def ResNet18_v1b(in_channels=3, pretrained=None):
    """ResNet-18 v1b, 64 to 512 channels. See `_ResNetBackbone` for shapes and arguments."""
    return _ResNetBackbone(BasicBlock, 18, in_channels, pretrained)


def ResNet34_v1b(in_channels=3, pretrained=None):
    """ResNet-34 v1b, 64 to 512 channels. See `_ResNetBackbone` for shapes and arguments."""
    return _ResNetBackbone(BasicBlock, 34, in_channels, pretrained)


def ResNet50_v1b(in_channels=3, pretrained=None):
    """ResNet-50 v1b, 256 to 2048 channels. See `_ResNetBackbone` for shapes and arguments."""
    return _ResNetBackbone(BottleneckBlock, 50, in_channels, pretrained)


def ResNet101_v1b(in_channels=3, pretrained=None):
    """ResNet-101 v1b, 256 to 2048 channels. See `_ResNetBackbone` for shapes and arguments."""
    return _ResNetBackbone(BottleneckBlock, 101, in_channels, pretrained)
