"""The published BiSeNetV1 families, one record each: what they do differently, and nothing else."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """The knobs in which the published implementations differ.

    Attributes:
        attention_relu: a ReLU stands before the sigmoid of the attention modules, so that no channel is ever
            weighted below 0.5.
        ffm_attention_norm: the feature fusion module's two attention convolutions have BatchNorms (and a ReLU
            each), instead of one ReLU between two plain convolutions.
        head_channels: hidden channels of the principal head.
        auxiliary_channels: hidden channels of the two auxiliary heads.
    """

    attention_relu: bool
    ffm_attention_norm: bool
    head_channels: int
    auxiliary_channels: int


VARIANTS = {
    # The authors' own code: ycszen/TorchSeg, model/bisenet/cityscapes.bisenet.R18/network.py
    "torchseg": Variant(attention_relu=False, ffm_attention_norm=False, head_channels=64, auxiliary_channels=256),
    # PaddleSeg's BiseNetV1 (paddleseg/models/bisenetv1.py), after justld/BisNetV1_paddle: the 75.19 mIoU network
    "paddleseg": Variant(attention_relu=True, ffm_attention_norm=True, head_channels=64, auxiliary_channels=128),
}
