"""Face parsing: zllrunning/face-parsing.PyTorch, `model.py`."""

from bisenetv1_plugin.convert.coincheung import SHARED_NAMES
from bisenetv1_plugin.convert.family import Family

FAMILY = Family(
    name="zllrunning",
    mark="cp.",
    backbone="cp.resnet.",
    classifier="conv_out.conv_out.weight",
    auxiliary="conv_out32.conv_out.weight",
    variants={("ResNet18_v1b", 64): "zllrunning"},
    names=(
        (r"^ffm\.channel_attention\.1\.", "ffm.conv1."),
        (r"^ffm\.channel_attention\.3\.", "ffm.conv2."),
        *SHARED_NAMES,
    ),
)
