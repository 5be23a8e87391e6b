"""BiSeNetV1: Yu et al., "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation", ECCV 2018.

It has the parts of figure 2 in the paper:

- a spatial path;
- a context path, with attention refinement modules (ARM) on its 1/16 and 1/32 features and a global average pool;
- a feature fusion module (FFM), which joins the two paths;
- the heads.

The parameters have the names of PaddleSeg's `BiseNetV1`, so that its checkpoints load into the `paddleseg` variant.
"""

from __future__ import annotations

from typing import Callable

import paddle
import paddle.nn as nn
import paddle.nn.functional as F
from paddleseg.models.layers import ConvBN, ConvBNReLU

from bisenetv1_plugin import compat
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.models.features import feature_channels
from bisenetv1_plugin.models.initialization import initialize
from bisenetv1_plugin.models.variants import VARIANTS
from bisenetv1_plugin.weights import load_pretrained

__all__ = ["BiSeNetV1"]

SPATIAL_CHANNELS = CONTEXT_CHANNELS = 128
FUSED_CHANNELS = 256


class BiSeNetV1(nn.Layer):
    """The bilateral segmentation network.

    Takes `[N, in_channels, H, W]`, float32, any H and W. Returns a list of logits, each `[N, num_classes, H, W]`.
    In training these are the auxiliary head at 1/16, the auxiliary head at 1/8 and the principal head, in the order of
    the loss coefficients in the configs. In evaluation it is the principal head only.

    Args:
        num_classes: number of classes.
        backbone: the network of the context path. Its last three features must be at 1/8, 1/16 and 1/32 of the input,
            or dilated: 1/8, 1/16, 1/16 or 1/8, 1/8, 1/8. One forward pass at construction finds their channels.
        variant: the published implementation to follow, see `variants.VARIANTS`. Default: 'torchseg', the authors'.
        in_channels: channels of the input image. The backbone must take the same number.
        pretrained: path or URL of `.pdparams` weights of the whole network.

    Raises:
        ValueError: an argument is out of range, the variant is unknown, or the backbone has unsuitable features.
        InputError: at a call, the image has the wrong number of channels.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: nn.Layer,
        variant: str = "torchseg",
        in_channels: int = 3,
        pretrained: str | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f"`num_classes` must be a positive integer, not {num_classes!r}.")
        if variant not in VARIANTS:
            raise ValueError(f"`variant` must be one of {', '.join(VARIANTS)}, not {variant!r}.")
        self.knobs = knobs = VARIANTS[variant]
        width = knobs.width
        context, fused = CONTEXT_CHANNELS * width, FUSED_CHANNELS * width
        auxiliary, principal = knobs.auxiliary_channels * width, knobs.head_channels * width
        channels8, channels16, channels32 = feature_channels(backbone, in_channels)
        self.in_channels = in_channels
        self.register_forward_pre_hook(_check_channels)  # type: ignore[arg-type]

        if knobs.spatial_path:
            spatial = SPATIAL_CHANNELS * width
            self.spatial_path = SpatialPath(in_channels, spatial // 2, spatial)
        else:
            spatial = channels8
        self.backbone = backbone
        self.global_context = nn.Sequential(nn.AdaptiveAvgPool2D(1), _conv(ConvBNReLU, channels32, context, 1))
        self.arms = nn.LayerList(
            AttentionRefinementModule(channels, context, knobs.arm_relu) for channels in (channels32, channels16)
        )
        self.refines = nn.LayerList(_conv(ConvBNReLU, context, context, 3) for _ in range(2))
        self.ffm = FeatureFusionModule(
            spatial + context, fused, knobs.ffm_attention, knobs.ffm_reduction, knobs.ffm_relu
        )
        # In the order of the results in training.
        self.heads = nn.LayerList(
            Head(channels, hidden, num_classes, knobs.head_bias, knobs.head_dropout)
            for channels, hidden in ((context, auxiliary), (context, auxiliary), (fused, principal))
        )
        initialize(self, knobs.initialization)
        if pretrained is not None:
            load_pretrained(self, pretrained)
        compat.apply(compat.WITH_THE_NETWORK)

    def forward(self, image: paddle.Tensor) -> list[paddle.Tensor]:
        feature8, feature16, feature32 = self.backbone(image)[-3:]
        spatial = self.spatial_path(image) if self.knobs.spatial_path else feature8

        global_context = self.global_context(feature32)  # [N, C, 1, 1], broadcast over the 1/32 map
        context32 = self.arms[0](feature32) + global_context
        context16 = self.refines[0](self._resize_context(context32, feature16))
        context16_refined = self.arms[1](feature16) + context16
        context8 = self.refines[1](self._resize_context(context16_refined, spatial))

        fused = self.ffm(spatial, context8)

        if self.training:
            logits = [head(x) for head, x in zip(self.heads, (context16, context8, fused))]
        else:
            logits = [self.heads[-1](fused)]
        like = image if self.knobs.full_size_training or not self.training else fused
        return [self._resize_logits(logit, like) for logit in logits]

    # These resize to a size, not by a factor: any input size works, and exported programs have no double attribute.

    def _resize_context(self, x: paddle.Tensor, like: paddle.Tensor) -> paddle.Tensor:
        mode = self.knobs.context_resize
        return F.interpolate(x, size=like.shape[2:], mode=mode, align_corners=mode == "bilinear")

    def _resize_logits(self, x: paddle.Tensor, like: paddle.Tensor) -> paddle.Tensor:
        align_corners = self.knobs.logits_align_corners
        return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=align_corners)


class SpatialPath(nn.Layer):
    """Keeps detail in three strided convolutions and a 1x1: `[N, in, H, W]` -> `[N, out, H/8, W/8]` (section 3.1)."""

    def __init__(self, in_channels: int, hidden_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv_7x7 = _conv(ConvBNReLU, in_channels, hidden_channels, 7, stride=2)
        self.conv_3x3_1 = _conv(ConvBNReLU, hidden_channels, hidden_channels, 3, stride=2)
        self.conv_3x3_2 = _conv(ConvBNReLU, hidden_channels, hidden_channels, 3, stride=2)
        self.conv_1x1 = _conv(ConvBNReLU, hidden_channels, out_channels, 1)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.conv_1x1(self.conv_3x3_2(self.conv_3x3_1(self.conv_7x7(x))))


class AttentionRefinementModule(nn.Layer):
    """Weights the channels of a context feature by its global average: `[N, in, h, w]` -> `[N, out, h, w]`."""

    def __init__(self, in_channels: int, out_channels: int, relu: bool) -> None:
        super().__init__()
        self.conv_3x3 = _conv(ConvBNReLU, in_channels, out_channels, 3)
        self.channel_attention = nn.Sequential(
            nn.AdaptiveAvgPool2D(1), _conv(ConvBN, out_channels, out_channels, 1), _gate(relu)
        )

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        x = self.conv_3x3(x)
        return x * self.channel_attention(x)


class FeatureFusionModule(nn.Layer):
    """Concatenates both paths and reweights the channels: `[N, a, h, w]`, `[N, b, h, w]` -> `[N, out, h, w]`.

    Args:
        in_channels: channels of both paths together, a + b.
        out_channels: channels of the result.
        attention, reduction, relu: `ffm_attention`, `ffm_reduction` and `ffm_relu` of `Variant`.
    """

    def __init__(self, in_channels: int, out_channels: int, attention: str, reduction: int, relu: bool) -> None:
        super().__init__()
        self.conv_1x1 = _conv(ConvBNReLU, in_channels, out_channels, 1)
        self.channel_attention = nn.Sequential(
            nn.AdaptiveAvgPool2D(1), *_ffm_attention(attention, out_channels, out_channels // reduction), _gate(relu)
        )

    def forward(self, spatial: paddle.Tensor, context: paddle.Tensor) -> paddle.Tensor:
        x = self.conv_1x1(paddle.concat([spatial, context], axis=1))
        return x + x * self.channel_attention(x)


class Head(nn.Layer):
    """Class scores at the feature's own resolution: `[N, in, h, w]` -> `[N, num_classes, h, w]`."""

    def __init__(self, in_channels: int, hidden_channels: int, num_classes: int, bias: bool, dropout: float) -> None:
        super().__init__()
        self.conv_3x3 = _conv(ConvBNReLU, in_channels, hidden_channels, 3)
        self.dropout = nn.Dropout2D(dropout)
        self.conv_1x1 = nn.Conv2D(hidden_channels, num_classes, 1, bias_attr=None if bias else False)

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return self.conv_1x1(self.dropout(self.conv_3x3(x)))


class SigmoidOfReLU(nn.Layer):
    """`sigmoid(relu(x))`, bit for bit, in a form that Paddle Inference 2.6.2 does not fuse wrongly."""

    def forward(self, x: paddle.Tensor) -> paddle.Tensor:
        return paddle.clip(F.sigmoid(x), min=0.5)


def _check_channels(network: BiSeNetV1, inputs: tuple[paddle.Tensor, ...]) -> None:
    """Raise before Paddle does: its error names neither the number nor the key. `inputs` is `(image,)`."""
    channels = inputs[0].shape[1]
    if channels != network.in_channels:
        raise InputError(
            f"the network takes images of {network.in_channels} channels, not of {channels}: give model.in_channels, "
            "model.backbone.in_channels and img_channels of the dataset (3 by default) the same value."
        )


def _ffm_attention(kind: str, channels: int, hidden: int) -> list[nn.Layer]:
    """The layers between global average and sigmoid in the feature fusion module, see `Variant.ffm_attention`."""
    if kind == "conv_bn":
        return [_conv(ConvBN, channels, channels, 1)]
    if kind == "conv_bn_relu_conv_bn":
        return [_conv(ConvBNReLU, channels, hidden, 1), _conv(ConvBN, hidden, channels, 1)]
    return [_conv(nn.Conv2D, channels, hidden, 1), nn.ReLU(), _conv(nn.Conv2D, hidden, channels, 1)]


def _gate(relu: bool) -> nn.Layer:
    return SigmoidOfReLU() if relu else nn.Sigmoid()


def _conv(
    layer: Callable[..., nn.Layer], in_channels: int, out_channels: int, kernel_size: int, stride: int = 1
) -> nn.Layer:
    # PaddleSeg's layers default to padding 'same', an attribute that converters do not handle.
    return layer(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias_attr=False)
