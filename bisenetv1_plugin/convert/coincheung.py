"""CoinCheung/BiSeNet, `lib/models/bisenetv1.py`."""

from bisenetv1_plugin.convert.family import Family

# zllrunning's network grew out of the same code.
SHARED_NAMES = (
    (r"^backbone\.", "cp.resnet."),
    (r"^global_context\.1\.", "cp.conv_avg."),
    (r"^arms\.0\.", "cp.arm32."),
    (r"^arms\.1\.", "cp.arm16."),
    (r"^(cp\.arm\d\d)\.channel_attention\.1\._conv\.", r"\1.conv_atten."),
    (r"^(cp\.arm\d\d)\.channel_attention\.1\._batch_norm\.", r"\1.bn_atten."),
    (r"^refines\.0\.", "cp.conv_head32."),
    (r"^refines\.1\.", "cp.conv_head16."),
    (r"^ffm\.conv_1x1\.", "ffm.convblk."),
    (r"^heads\.0\.", "conv_out32."),
    (r"^heads\.1\.", "conv_out16."),
    (r"^heads\.2\.", "conv_out."),
    (r"\.conv_3x3\.", ".conv."),
    (r"^(conv_out\d*)\.conv_1x1\.", r"\1.conv_out."),
    (r"\._conv\.", ".conv."),
    (r"\._batch_norm\.", ".bn."),
)

FAMILY = Family(
    name="coincheung",
    mark="sp.",
    backbone="cp.resnet.",
    classifier="conv_out.conv_out.weight",
    auxiliary="conv_out32.conv_out.weight",
    variants={("ResNet18_v1b", 64): "coincheung"},
    names=(
        (r"^spatial_path\.conv_7x7\.", "sp.conv1."),
        (r"^spatial_path\.conv_3x3_1\.", "sp.conv2."),
        (r"^spatial_path\.conv_3x3_2\.", "sp.conv3."),
        (r"^spatial_path\.conv_1x1\.", "sp.conv_out."),
        (r"^ffm\.channel_attention\.1\._conv\.", "ffm.conv."),
        (r"^ffm\.channel_attention\.1\._batch_norm\.", "ffm.bn."),
        *SHARED_NAMES,
    ),
)
