"""The families of checkpoints; the command line reads their names from here without Paddle."""

from bisenetv1_plugin.convert import coincheung, imagenet, mmseg, torchseg, zllrunning

# In the order of recognition: a prefix must not fit a later family.
FAMILIES = (
    *(torchseg.FAMILY, coincheung.FAMILY, zllrunning.FAMILY, mmseg.FAMILY),
    *(imagenet.OPENMMLAB_FAMILY, imagenet.FAMILY),
)
NAMES = tuple(dict.fromkeys(family.name for family in FAMILIES))
