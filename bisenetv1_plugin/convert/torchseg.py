"""The authors' code: ycszen/TorchSeg, `model/bisenet/*/network.py`, `furnace/base_model`."""

from bisenetv1_plugin.convert.family import Family

FAMILY = Family(
    name="torchseg",
    prefix="context_path.",
    modules={
        "backbone": "context_path",
        # Xception39; the BatchNorm of its first convolution has the same name in both.
        "conv1.bn": "conv1.bn",
        "residual": "residual_branch",
        "shortcut": "proj",
        "depthwise": "conv1",
        "pointwise": "point_wise_cbr.conv",
        "bn": "point_wise_cbr.bn",
        # The plain convolutions of the feature fusion module are wrapped in their code.
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
