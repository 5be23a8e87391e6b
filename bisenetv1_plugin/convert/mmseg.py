"""open-mmlab/mmsegmentation, `mmseg/models/backbones/bisenetv1.py` with its `FCNHead`s."""

from bisenetv1_plugin.convert.family import OPENMMLAB_STEM, Family

FAMILY = Family(
    name="mmseg",
    mark="backbone.context_path.",
    backbone="backbone.context_path.backbone.",
    classifier="decode_head.conv_seg.weight",
    auxiliary="auxiliary_head.1.conv_seg.weight",
    # The published networks have `ResNet` (v1b); `ResNetV1c` is one line in MMSegmentation's configuration.
    variants={
        **{(f"ResNet18_{stem}", 64): "mmseg" for stem in ("v1b", "v1c")},
        **{(f"ResNet{depth}_{stem}", 256): "mmseg_wide" for depth in (50, 101) for stem in ("v1b", "v1c")},
    },
    deep_stem_names=OPENMMLAB_STEM,
    names=(
        (r"^backbone\.", "backbone.context_path.backbone."),
        (r"^spatial_path\.conv_7x7\.", "backbone.spatial_path.layer1."),
        (r"^spatial_path\.conv_3x3_1\.", "backbone.spatial_path.layer2."),
        (r"^spatial_path\.conv_3x3_2\.", "backbone.spatial_path.layer3."),
        (r"^spatial_path\.conv_1x1\.", "backbone.spatial_path.layer4."),
        (r"^global_context\.1\.", "backbone.context_path.gap_conv.1."),
        (r"^arms\.0\.", "backbone.context_path.arm32."),
        (r"^arms\.1\.", "backbone.context_path.arm16."),
        (r"(arm\d\d)\.conv_3x3\.", r"\1.conv_layer."),
        (r"(arm\d\d)\.channel_attention\.1\.", r"\1.atten_conv_layer.1."),
        (r"^refines\.0\.", "backbone.context_path.conv_head32."),
        (r"^refines\.1\.", "backbone.context_path.conv_head16."),
        (r"^ffm\.conv_1x1\.", "backbone.ffm.conv1."),
        (r"^ffm\.channel_attention\.1\.", "backbone.ffm.conv_atten.0."),
        (r"^heads\.0\.", "auxiliary_head.1."),
        (r"^heads\.1\.", "auxiliary_head.0."),
        (r"^heads\.2\.", "decode_head."),
        (r"(head(\.\d)?)\.conv_3x3\.", r"\1.convs.0."),
        (r"(head(\.\d)?)\.conv_1x1\.", r"\1.conv_seg."),
        (r"\._conv\.", ".conv."),
        (r"\._batch_norm\.", ".bn."),
    ),
)
