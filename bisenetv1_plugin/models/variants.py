"""The published BiSeNetV1 implementations, as one record of differences each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Variant:
    """The differences between the published implementations. The defaults are the authors' ResNet-18.

    Attributes:
        spatial_path: whether there is a spatial path. Without one, the backbone's 1/8 feature replaces it.
        width: factor on all channels outside the backbone.
        context_resize: the interpolation in the context path, 'bilinear' (with aligned corners) or 'nearest'.
        arm_relu: a ReLU before the sigmoid of the attention refinement modules, which keeps all weights at 0.5 or more.
        ffm_attention: the layers between global average and sigmoid in the feature fusion module:
            'conv_relu_conv', two plain 1x1 convolutions with a ReLU between; 'conv_bn_relu_conv_bn', the same with
            BatchNorms; 'conv_bn', one 1x1 convolution and its BatchNorm.
        ffm_reduction: the factor by which the first of these two convolutions reduces the channels.
        ffm_relu: a ReLU before that sigmoid.
        head_channels, auxiliary_channels: hidden channels of the principal head and of the two auxiliary heads.
        head_bias: whether the last convolution of the heads has a bias.
        head_dropout: the probability that a hidden channel of a head is dropped in training.
        logits_align_corners: `align_corners` in the interpolation of the logits to the size of the image.
        full_size_training: whether the logits have the size of the image in training. If not, they stay at 1/8, and the
            loss needs `resize_label`.
        initialization: the initial weights outside the backbone, see `initialization.initialize`.
    """

    spatial_path: bool = True
    width: int = 1
    context_resize: Literal["bilinear", "nearest"] = "bilinear"
    arm_relu: bool = False
    ffm_attention: str = "conv_relu_conv"
    ffm_reduction: int = 1
    ffm_relu: bool = False
    head_channels: int = 64
    auxiliary_channels: int = 256
    head_bias: bool = True
    head_dropout: float = 0.0
    logits_align_corners: bool = True
    full_size_training: bool = True
    initialization: str = "fan_in_relu"


# The authors' own code: ycszen/TorchSeg, model/bisenet/cityscapes.bisenet.{R18,R101,X39,R18.speed,X39.speed}/network.py
_TORCHSEG = Variant()

# open-mmlab/mmsegmentation, mmseg/models/backbones/bisenetv1.py and configs/_base_/models/bisenetv1_r18-d32.py
_MMSEG = Variant(
    context_resize="nearest",
    ffm_attention="conv_bn",
    ffm_relu=True,
    head_channels=256,
    auxiliary_channels=64,
    head_dropout=0.1,
    logits_align_corners=False,
    initialization="fan_out_relu",
)

VARIANTS = {
    "torchseg": _TORCHSEG,
    # PaddleSeg's BiseNetV1 (paddleseg/models/bisenetv1.py), after justld/BisNetV1_paddle: the 75.19 mIoU network
    "paddleseg": Variant(
        arm_relu=True, ffm_attention="conv_bn_relu_conv_bn", ffm_relu=True, head_channels=64, auxiliary_channels=128
    ),
    "torchseg_r101": replace(_TORCHSEG, head_channels=256),
    "torchseg_x39": replace(_TORCHSEG, auxiliary_channels=128),
    "torchseg_speed": replace(_TORCHSEG, auxiliary_channels=128, full_size_training=False),
    # CoinCheung/BiSeNet, lib/models/bisenetv1.py
    "coincheung": Variant(
        context_resize="nearest",
        ffm_attention="conv_bn",
        head_channels=256,
        auxiliary_channels=64,
        logits_align_corners=False,
        initialization="fan_in",
    ),
    # zllrunning/face-parsing.PyTorch, model.py
    "zllrunning": Variant(
        spatial_path=False,
        context_resize="nearest",
        ffm_reduction=4,
        head_channels=256,
        auxiliary_channels=64,
        head_bias=False,
        initialization="fan_in",
    ),
    "mmseg": _MMSEG,
    "mmseg_wide": replace(_MMSEG, width=4),  # with ResNet-50 and ResNet-101
}
