"""The authors' code: ycszen/TorchSeg, `model/bisenet/*/network.py`, `furnace/base_model`."""

from bisenetv1_plugin.convert.family import Family

FAMILY = Family(
    name="torchseg",
    mark="context_path.",
    backbone="context_path.",
    classifier="heads.2.conv_1x1.weight",
    auxiliary="heads.0.conv_1x1.weight",
    variants={
        ("ResNet18_v1b", 256): "torchseg",
        ("ResNet101_v1s", 256): "torchseg_r101",
        ("Xception39", 128): "torchseg_x39",  # and X39.speed, which differs in training only
        ("ResNet18_v1b", 128): "torchseg_speed",
    },
    names=(
        # Xception39
        (r"^(backbone\.layer.*)\.residual\.", r"\1.residual_branch."),
        (r"^(backbone\.layer.*)\.shortcut\.", r"\1.proj."),
        (r"^(backbone\.layer.*)\.depthwise\.", r"\1.conv1."),
        (r"^(backbone\.layer.*)\.pointwise\.", r"\1.point_wise_cbr.conv."),
        (r"^(backbone\.layer.*(residual_branch\.\d|proj))\.bn\.", r"\1.point_wise_cbr.bn."),
        (r"^backbone\.", "context_path."),
        # The feature fusion module's plain convolutions are wrapped there.
        (r"^ffm\.channel_attention\.1\.weight$", "ffm.channel_attention.1.conv.weight"),
        (r"^ffm\.channel_attention\.3\.weight$", "ffm.channel_attention.2.conv.weight"),
        (r"\._conv\.", ".conv."),
        (r"\._batch_norm\.", ".bn."),
    ),
)
