"""BiSeNetV1: Yu et al., "BiSeNet: Bilateral Segmentation Network for Real-time Semantic Segmentation", ECCV 2018.

Read it beside figure 2 of the paper: a spatial path, a context path with attention refinement modules (ARM) on its
1/16 and 1/32 features and a global average pool at its end, a feature fusion module (FFM), and the heads.
The parameter names are those of PaddleSeg's `BiseNetV1`, so that its checkpoints load into the `paddleseg` variant.
"""

import paddle
import paddle.nn as nn
import paddle.nn.functional as F
from paddleseg.models.layers import ConvBN, ConvBNReLU

from bisenetv1_plugin.models.features import context_channels
from bisenetv1_plugin.models.variants import VARIANTS
from bisenetv1_plugin.weights import load_pretrained

__all__ = ["BiSeNetV1"]

SPATIAL_CHANNELS = CONTEXT_CHANNELS = 128
FUSED_CHANNELS = SPATIAL_CHANNELS + CONTEXT_CHANNELS


class BiSeNetV1(nn.Layer):
    """The bilateral segmentation network.

    Takes `[N, in_channels, H, W]`, float32, any H and W. Returns a list of logits, each
    `[N, num_classes, H, W]`: in training the auxiliary head at 1/16, the auxiliary head at 1/8 and the principal
    head (the order of the authors' code, and of the loss coefficients in the configs), in evaluation the
    principal head alone.

    Args:
        num_classes (int): number of classes.
        backbone (paddle.nn.Layer): the context path's network. The last three features it returns must lie at
            1/8, 1/16, 1/32 of the input, or dilated (1/8, 1/16, 1/16 or 1/8, 1/8, 1/8). One forward pass at
            construction finds their channels.
        variant (str): which published family to follow, see `variants.VARIANTS`. Default: 'torchseg', the authors'.
        in_channels (int): channels of the input image; the backbone must take as many. Default: 3.
        pretrained (str, optional): path or URL of `.pdparams` weights of the whole network.

    Raises:
        ValueError: an argument is out of range, the variant is unknown, or the backbone's features do not serve.
    """

    def __init__(self, num_classes, backbone, variant="torchseg", in_channels=3, pretrained=None):
        super().__init__()
        if not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(f"`num_classes` must be a positive integer, not {num_classes!r}.")
        if variant not in VARIANTS:
            raise ValueError(f"`variant` must be one of {', '.join(VARIANTS)}, not {variant!r}.")
        knobs = VARIANTS[variant]
        channels16, channels32 = context_channels(backbone, in_channels)

        self.spatial_path = SpatialPath(in_channels, SPATIAL_CHANNELS)
        self.backbone = backbone
        self.global_context = nn.Sequential(nn.AdaptiveAvgPool2D(1), _conv(ConvBNReLU, channels32, CONTEXT_CHANNELS, 1))
        self.arms = nn.LayerList(
            AttentionRefinementModule(channels, CONTEXT_CHANNELS, knobs.attention_relu)
            for channels in (channels32, channels16)
        )
        self.refines = nn.LayerList(_conv(ConvBNReLU, CONTEXT_CHANNELS, CONTEXT_CHANNELS, 3) for _ in range(2))
        self.ffm = FeatureFusionModule(FUSED_CHANNELS, knobs.attention_relu, knobs.ffm_attention_norm)
        self.heads = nn.LayerList(
            [
                Head(CONTEXT_CHANNELS, knobs.auxiliary_channels, num_classes),
                Head(CONTEXT_CHANNELS, knobs.auxiliary_channels, num_classes),
                Head(FUSED_CHANNELS, knobs.head_channels, num_classes),
            ]
        )
        # Paddle's own default for convolutions, normal with variance 2 / fan_in, is the authors' kaiming_normal;
        # BatchNorm starts at weight 1 and bias 0 in both.
        if pretrained is not None:
            load_pretrained(self, pretrained)

    def forward(self, image):
        spatial = self.spatial_path(image)
        feature16, feature32 = self.backbone(image)[-2:]

        context = self.global_context(feature32)  # [N, 128, 1, 1], broadcast over the 1/32 map
        context = self.arms[0](feature32) + context
        context16 = self.refines[0](_resize(context, feature16))
        context = self.arms[1](feature16) + context16
        context8 = self.refines[1](_resize(context, spatial))

        fused = self.ffm(spatial, context8)

        if self.training:
            logits = [head(x) for head, x in zip(self.heads, (context16, context8, fused))]
        else:
            logits = [self.heads[-1](fused)]
        return [_resize(logit, image) for logit in logits]


class SpatialPath(nn.Layer):
    """Three strided convolutions and a 1x1 keep the detail: `[N, in, H, W]` -> `[N, out, H/8, W/8]` (section 3.1)."""

    def __init__(self, in_channels, out_channels, hidden_channels=64):
        super().__init__()
        self.conv_7x7 = _conv(ConvBNReLU, in_channels, hidden_channels, 7, stride=2)
        self.conv_3x3_1 = _conv(ConvBNReLU, hidden_channels, hidden_channels, 3, stride=2)
        self.conv_3x3_2 = _conv(ConvBNReLU, hidden_channels, hidden_channels, 3, stride=2)
        self.conv_1x1 = _conv(ConvBNReLU, hidden_channels, out_channels, 1)

    def forward(self, x):
        return self.conv_1x1(self.conv_3x3_2(self.conv_3x3_1(self.conv_7x7(x))))


class AttentionRefinementModule(nn.Layer):
    """Weights the channels of a context feature by its global average: `[N, in, h, w]` -> `[N, out, h, w]`."""

    def __init__(self, in_channels, out_channels, attention_relu):
        super().__init__()
        self.conv_3x3 = _conv(ConvBNReLU, in_channels, out_channels, 3)
        self.channel_attention = nn.Sequential(
            nn.AdaptiveAvgPool2D(1), _conv(ConvBN, out_channels, out_channels, 1), _gate(attention_relu)
        )

    def forward(self, x):
        x = self.conv_3x3(x)
        return x * self.channel_attention(x)


class FeatureFusionModule(nn.Layer):
    """Concatenates both paths and reweights the channels: two `[N, channels / 2, h, w]` -> `[N, channels, h, w]`."""

    def __init__(self, channels, attention_relu, attention_norm):
        super().__init__()
        self.conv_1x1 = _conv(ConvBNReLU, channels, channels, 1)
        if attention_norm:
            squeeze = [_conv(ConvBNReLU, channels, channels, 1), _conv(ConvBN, channels, channels, 1)]
        else:
            squeeze = [
                _conv(nn.Conv2D, channels, channels, 1),
                nn.ReLU(),
                _conv(nn.Conv2D, channels, channels, 1),
            ]
        self.channel_attention = nn.Sequential(nn.AdaptiveAvgPool2D(1), *squeeze, _gate(attention_relu))

    def forward(self, spatial, context):
        x = self.conv_1x1(paddle.concat([spatial, context], axis=1))
        return x + x * self.channel_attention(x)


class Head(nn.Layer):
    """Class scores at the feature's own resolution: `[N, in, h, w]` -> `[N, num_classes, h, w]`."""

    def __init__(self, in_channels, hidden_channels, num_classes):
        super().__init__()
        self.conv_3x3 = _conv(ConvBNReLU, in_channels, hidden_channels, 3)
        self.conv_1x1 = nn.Conv2D(hidden_channels, num_classes, 1)

    def forward(self, x):
        return self.conv_1x1(self.conv_3x3(x))


class SigmoidOfReLU(nn.Layer):
    """`sigmoid(relu(x))`, bit for bit, in a form that Paddle Inference 2.6.2 does not fuse into something else."""

    def forward(self, x):
        return paddle.clip(F.sigmoid(x), min=0.5)


def _gate(relu):
    return SigmoidOfReLU() if relu else nn.Sigmoid()


def _conv(layer, in_channels, out_channels, kernel_size, stride=1):
    # Padding as a number: 'same', the default of PaddleSeg's layers, is an attribute that converters stumble over.
    return layer(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias_attr=False)


def _resize(x, like):
    # By size, never by factor: any input size works, and the exported program has no double attribute.
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=True)
