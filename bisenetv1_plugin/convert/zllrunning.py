"""Face parsing: zllrunning/face-parsing.PyTorch, `model.py`."""

from bisenetv1_plugin.convert import coincheung
from bisenetv1_plugin.convert.family import Family

FAMILY = Family(
    name="zllrunning",
    prefix="cp.",
    modules={
        **coincheung.FAMILY.modules,  # both are based on the same code; this one has no spatial path
        "ffm.channel_attention.1": "ffm.conv1",
        "ffm.channel_attention.3": "ffm.conv2",
    },
    variants={("ResNet18_v1b", 64): "zllrunning"},
)
