"""CoinCheung/BiSeNet, `lib/models/bisenetv1.py`."""

from bisenetv1_plugin.convert.family import Family

FAMILY = Family(
    name="coincheung",
    prefix="sp.",
    modules={
        "spatial_path.conv_7x7": "sp.conv1",
        "spatial_path.conv_3x3_1": "sp.conv2",
        "spatial_path.conv_3x3_2": "sp.conv3",
        "spatial_path.conv_1x1": "sp.conv_out",
        "backbone": "cp.resnet",
        "global_context.1": "cp.conv_avg",
        "arms.0": "cp.arm32",
        "arms.1": "cp.arm16",
        "channel_attention.1._conv": "conv_atten",
        "channel_attention.1._batch_norm": "bn_atten",
        "refines.0": "cp.conv_head32",
        "refines.1": "cp.conv_head16",
        "ffm.conv_1x1": "ffm.convblk",
        "ffm.channel_attention.1._conv": "ffm.conv",
        "ffm.channel_attention.1._batch_norm": "ffm.bn",
        "heads.0": "conv_out32",
        "heads.1": "conv_out16",
        "heads.2": "conv_out",
        "conv_3x3": "conv",
        "conv_1x1": "conv_out",
    },
    variants={("ResNet18_v1b", 64): "coincheung"},
)
