"""ImageNet weights of a backbone: torchvision's ResNets, the authors' deep-stem files, and OpenMMLab's v1c."""

from bisenetv1_plugin.convert.family import OPENMMLAB_STEM, Family

FAMILY = Family(name="imagenet", mark="layer1.", backbone="", names=((r"^backbone\.", ""),))

OPENMMLAB_FAMILY = Family(
    name="imagenet", mark="stem.", backbone="", names=((r"^backbone\.", ""),), deep_stem_names=OPENMMLAB_STEM
)
