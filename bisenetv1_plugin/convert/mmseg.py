"""open-mmlab/mmsegmentation, `mmseg/models/backbones/bisenetv1.py` with its `FCNHead`s."""

from bisenetv1_plugin.convert.family import OPENMMLAB_STEM, Family

FAMILY = Family(
    name="mmseg",
    prefix="backbone.context_path.",
    modules={
        "spatial_path.conv_7x7": "backbone.spatial_path.layer1",
        "spatial_path.conv_3x3_1": "backbone.spatial_path.layer2",
        "spatial_path.conv_3x3_2": "backbone.spatial_path.layer3",
        "spatial_path.conv_1x1": "backbone.spatial_path.layer4",
        "backbone": "backbone.context_path.backbone",
        "global_context.1": "backbone.context_path.gap_conv.1",
        "arms.0.conv_3x3": "backbone.context_path.arm32.conv_layer",
        "arms.1.conv_3x3": "backbone.context_path.arm16.conv_layer",
        "arms.0.channel_attention": "backbone.context_path.arm32.atten_conv_layer",
        "arms.1.channel_attention": "backbone.context_path.arm16.atten_conv_layer",
        "refines.0": "backbone.context_path.conv_head32",
        "refines.1": "backbone.context_path.conv_head16",
        "ffm.conv_1x1": "backbone.ffm.conv1",
        "ffm.channel_attention.1": "backbone.ffm.conv_atten.0",
        "heads.0": "auxiliary_head.1",
        "heads.1": "auxiliary_head.0",
        "heads.2": "decode_head",
        "conv_3x3": "convs.0",
        "conv_1x1": "conv_seg",
    },
    deep_stem=OPENMMLAB_STEM,
    # The published networks have `ResNet` (v1b); `ResNetV1c` is one line in MMSegmentation's configuration.
    variants={
        **{(f"ResNet18_{stem}", 64): "mmseg" for stem in ("v1b", "v1c")},
        **{(f"ResNet{depth}_{stem}", 256): "mmseg_wide" for depth in (50, 101) for stem in ("v1b", "v1c")},
    },
)
