"""ImageNet weights of backbones: torchvision's ResNets, the authors' deep-stem files, and OpenMMLab's v1c."""

from bisenetv1_plugin.convert.family import OPENMMLAB_STEM, Family

FAMILY = Family(name="imagenet", prefix="layer1.", modules={"backbone": ""})

OPENMMLAB_FAMILY = Family(name="imagenet", prefix="stem.", modules={"backbone": ""}, deep_stem=OPENMMLAB_STEM)
