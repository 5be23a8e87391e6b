"""What a family of PyTorch checkpoints is: how it names the tensors of our network, and which networks it has."""

import re
from dataclasses import dataclass
from typing import Dict, Tuple

# BatchNorm's statistics, in every family
_STATISTICS = ((r"\._mean$", ".running_mean"), (r"\._variance$", ".running_var"))

# The three convolutions of a deep stem are one sequence in PyTorch: convolution, BatchNorm, ReLU, convolution, ...
_DEEP_STEM = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 6}
TORCHSEG_STEM = tuple((rf"^backbone\.conv1\.{ours}\.", f"backbone.conv1.{i}.") for ours, i in _DEEP_STEM.items())
OPENMMLAB_STEM = (
    *((rf"^backbone\.conv1\.{ours}\.", f"backbone.stem.{i}.") for ours, i in _DEEP_STEM.items()),
    (r"^backbone\.bn1\.", "backbone.stem.7."),
)


@dataclass(frozen=True)
class Family:
    """One family of checkpoints.

    Attributes:
        name: what `--from` calls it.
        mark: a tensor whose name begins so is this family's, once the families before it in the list are ruled out.
        backbone: what stands before the backbone's names.
        classifier: the weight `[classes, C, 1, 1]` of the principal head.
        variants: the variant of each backbone and hidden channels of the auxiliary heads, as published.
        auxiliary: the weight `[classes, hidden, 1, 1]` of an auxiliary head.
        names: pairs of a regular expression and its replacement, applied in order: our name of a tensor -> theirs.
        deep_stem_names: the same, before `names`, for backbones with a deep stem (v1c, v1s).
    """

    name: str
    mark: str
    backbone: str
    classifier: str = ""
    auxiliary: str = ""
    variants: Dict[Tuple[str, int], str] = None
    names: Tuple[Tuple[str, str], ...] = ()
    deep_stem_names: Tuple[Tuple[str, str], ...] = TORCHSEG_STEM

    def their_name(self, name, backbone):
        """The family's name of our tensor `name`, in a network with this backbone (`ResNet18_v1b`, ...)."""
        deep_stem = self.deep_stem_names if backbone.endswith(("v1c", "v1s")) else ()
        for pattern, replacement in (*deep_stem, *self.names, *_STATISTICS):
            name = re.sub(pattern, replacement, name)
        return name


def backbone_type(shapes, prefix):
    """Which backbone the tensors whose names begin with `prefix` are: its YAML `type`, or None.

    Args:
        shapes (dict): name -> shape, in the naming of any family or ours.
        prefix (str): what stands before the backbone's names.
    """
    own = {name[len(prefix) :]: shape for name, shape in shapes.items() if name.startswith(prefix)}
    if any(name.startswith("layer1.0.residual") for name in own):
        return "Xception39"
    blocks = len({name.split(".")[1] for name in own if name.startswith("layer3.")})
    bottleneck = "layer1.0.conv3.weight" in own
    depth = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101}.get((blocks, bottleneck))
    stems = [own[name][0] for name in ("conv1.0.weight", "stem.0.weight", "conv1.conv1.weight") if name in own]
    stem = {32: "v1c", 64: "v1s"}.get(stems[0]) if stems else "v1b"
    return f"ResNet{depth}_{stem}" if depth and stem else None
