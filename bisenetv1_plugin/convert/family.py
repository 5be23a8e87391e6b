"""A family of PyTorch checkpoints: its names for our tensors, and its networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# In every family: the layers of a ConvBNReLU and the statistics of BatchNorm.
_COMMON = {"_conv": "conv", "_batch_norm": "bn", "_mean": "running_mean", "_variance": "running_var"}

# The three convolutions of a deep stem are one sequence in PyTorch: convolution, BatchNorm, ReLU, convolution, ...
_DEEP_STEM = {"conv1.conv1": 0, "conv1.bn1": 1, "conv1.conv2": 3, "conv1.bn2": 4, "conv1.conv3": 6}
AUTHORS_STEM = {ours: f"conv1.{i}" for ours, i in _DEEP_STEM.items()}
OPENMMLAB_STEM = {**{ours: f"stem.{i}" for ours, i in _DEEP_STEM.items()}, "bn1": "stem.7"}


@dataclass(frozen=True)
class Family:
    """One family of checkpoints.

    Attributes:
        name: the name for `--from`.
        prefix: beginning of a tensor's name that identifies the family. Earlier families in the list are tried first.
        modules: our module -> theirs, anywhere in a name. Names are read from the left, and the longest matching module
            is replaced: `arms.0.conv_3x3` has priority over `arms.0` followed by `conv_3x3`. Other parts are kept.
        deep_stem: the same within `backbone`, if it has a deep stem (v1c, v1s).
        variants: the published variant for each backbone and number of hidden channels of the auxiliary heads; empty
            if the family consists of backbones.
    """

    name: str
    prefix: str
    modules: Mapping[str, str]
    deep_stem: Mapping[str, str] = field(default_factory=AUTHORS_STEM.copy)
    variants: Mapping[tuple[str, int], str] = field(default_factory=dict)

    @property
    def backbone(self) -> str:
        """Prefix of the backbone's names."""
        return f"{self.modules['backbone']}.".lstrip(".")

    def their_name(self, name: str, backbone: str = "") -> str:
        """Return the family's name for our tensor `name`, in a network with this backbone (`ResNet18_v1b`, ...)."""
        modules = {**_COMMON, **self.modules}
        if backbone.endswith(("v1c", "v1s")):
            modules.update({f"backbone.{ours}": self.backbone + theirs for ours, theirs in self.deep_stem.items()})
        return _rename(name, modules)


def _rename(name: str, modules: Mapping[str, str]) -> str:
    steps, theirs = name.split("."), []
    while steps:
        length = next((n for n in range(len(steps), 0, -1) if ".".join(steps[:n]) in modules), 1)
        ours = ".".join(steps[:length])
        theirs.append(modules.get(ours, ours))
        steps = steps[length:]
    return ".".join(filter(None, theirs))


def backbone_type(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> str:
    """Return the YAML `type` of the backbone in the tensors with this prefix, or '' if it is not recognized.

    Args:
        shapes: name -> shape, with our names or those of any family.
        prefix: prefix of the backbone's names.
    """
    own = {name[len(prefix) :]: shape for name, shape in shapes.items() if name.startswith(prefix)}
    if any(name.startswith("layer1.0.residual") for name in own):
        return "Xception39"
    blocks = len({name.split(".")[1] for name in own if name.startswith("layer3.")})
    bottleneck = "layer1.0.conv3.weight" in own
    depth = {(2, False): 18, (6, False): 34, (6, True): 50, (23, True): 101}.get((blocks, bottleneck))
    stems = [
        next(iter(own[name]), 0) for name in ("conv1.0.weight", "stem.0.weight", "conv1.conv1.weight") if name in own
    ]
    stem = {32: "v1c", 64: "v1s"}.get(stems[0]) if stems else "v1b"
    return f"ResNet{depth}_{stem}" if depth and stem else ""
