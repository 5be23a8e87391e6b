"""The authors' code: ycszen/TorchSeg, `model/bisenet/*/network.py`, `furnace/base_model`."""

from bisenetv1_plugin.convert.family import Family

FAMILY = Family(
    name="torchseg",
    prefix="context_path.",
    modules={
        "backbone": "context_path",
        # Xception39, whose first convolution has its BatchNorm in the same place in both
        "conv1.bn": "conv1.bn",
        "residual": "residual_branch",
        "shortcut": "proj",
        "depthwise": "conv1",
        "pointwise": "point_wise_cbr.conv",
        "bn": "point_wise_cbr.bn",
        # The feature fusion module's plain convolutions are wrapped there.
        "ffm.channel_attention.1": "ffm.channel_attention.1.conv",
        "ffm.channel_attention.3": "ffm.channel_attention.2.conv",
    },
    variants={
        ("ResNet18_v1b", 256): "torchseg",
        ("ResNet101_v1s", 256): "torchseg_r101",
        ("Xception39", 128): "torchseg_x39",  # and X39.speed, which differs in training only
        ("ResNet18_v1b", 128): "torchseg_speed",
    },
)
