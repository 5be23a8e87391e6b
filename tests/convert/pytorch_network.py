"""Our own BiSeNetV1 with ResNet-18 in PyTorch, with our names and the options of `Variant`.

It is used to compare trainings if the authors' code is not available. The gradients are PyTorch's.
"""

import torch
import torch.nn.functional as F
from torch import nn


class ConvBN(nn.Module):
    def __init__(self, in_channels, out_channels, kernel_size, stride=1, relu=True):
        super().__init__()
        self._conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, bias=False)
        self._batch_norm = nn.BatchNorm2d(out_channels)
        self.relu = relu

    def forward(self, x):
        x = self._batch_norm(self._conv(x))
        return F.relu(x) if self.relu else x


class BasicBlock(nn.Module):
    def __init__(self, in_channels, channels, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = None
        if stride > 1:
            shortcut = nn.Conv2d(in_channels, channels, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels))

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + shortcut)


class ResNet18(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        widths = [64, 64, 128, 256, 512]
        for stage in range(1, 5):
            blocks = [
                BasicBlock(widths[stage - 1], widths[stage], 1 if stage == 1 else 2),
                BasicBlock(widths[stage], widths[stage], 1),
            ]
            setattr(self, f"layer{stage}", nn.Sequential(*blocks))

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        features = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            features.append(x)
        return features[1:]


class SpatialPath(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv_7x7 = ConvBN(3, 64, 7, 2)
        self.conv_3x3_1 = ConvBN(64, 64, 3, 2)
        self.conv_3x3_2 = ConvBN(64, 64, 3, 2)
        self.conv_1x1 = ConvBN(64, 128, 1)

    def forward(self, x):
        return self.conv_1x1(self.conv_3x3_2(self.conv_3x3_1(self.conv_7x7(x))))


class Attention(nn.Module):
    """A convolution with channel attention: an ARM, or with `residual` the FFM."""

    def __init__(self, convolution, name, attention, residual=False):
        super().__init__()
        setattr(self, name, convolution)
        self.channel_attention = nn.Sequential(nn.AdaptiveAvgPool2d(1), *attention, nn.Sigmoid())
        self.name, self.residual = name, residual

    def forward(self, x):
        x = getattr(self, self.name)(x)
        weighted = x * self.channel_attention(x)
        return x + weighted if self.residual else weighted


class Head(nn.Module):
    def __init__(self, in_channels, hidden, classes, bias):
        super().__init__()
        self.conv_3x3 = ConvBN(in_channels, hidden, 3)
        self.conv_1x1 = nn.Conv2d(hidden, classes, 1, bias=bias)

    def forward(self, x):
        return self.conv_1x1(self.conv_3x3(x))


class BiSeNetV1(nn.Module):
    """Return the logits auxiliary 1/16, auxiliary 1/8 and principal, in the image's size, also in evaluation."""

    def __init__(self, classes, variant):
        super().__init__()
        self.variant = variant
        self.backbone = ResNet18()
        if variant.spatial_path:
            self.spatial_path = SpatialPath()
        self.global_context = nn.Sequential(nn.AdaptiveAvgPool2d(1), ConvBN(512, 128, 1))
        self.arms = nn.ModuleList(
            Attention(ConvBN(channels, 128, 3), "conv_3x3", [ConvBN(128, 128, 1, relu=False)])
            for channels in (512, 256)
        )
        self.refines = nn.ModuleList(ConvBN(128, 128, 3) for _ in range(2))
        if variant.ffm_attention == "conv_bn":
            attention = [ConvBN(256, 256, 1, relu=False)]
        else:
            hidden = 256 // variant.ffm_reduction
            attention = [nn.Conv2d(256, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, 256, 1, bias=False)]
        self.ffm = Attention(ConvBN(256, 256, 1), "conv_1x1", attention, residual=True)
        widths = [(128, variant.auxiliary_channels), (128, variant.auxiliary_channels), (256, variant.head_channels)]
        self.heads = nn.ModuleList(Head(*width, classes, variant.head_bias) for width in widths)

    def forward(self, image):
        feature8, feature16, feature32 = self.backbone(image)
        spatial = self.spatial_path(image) if self.variant.spatial_path else feature8
        context = self.arms[0](feature32) + self.global_context(feature32)
        context16 = self.refines[0](self._resize(context, feature16))
        context8 = self.refines[1](self._resize(self.arms[1](feature16) + context16, spatial))
        fused = self.ffm(torch.cat([spatial, context8], dim=1))
        logits = [head(x) for head, x in zip(self.heads, (context16, context8, fused))]
        size = image.shape[2:] if self.variant.full_size_training else fused.shape[2:]
        corners = self.variant.logits_align_corners
        return [F.interpolate(logit, size, mode="bilinear", align_corners=corners) for logit in logits]

    def _resize(self, x, like):
        mode = self.variant.context_resize
        return F.interpolate(x, like.shape[2:], mode=mode, align_corners=True if mode == "bilinear" else None)
