"""What a family of PyTorch checkpoints is: how it names the tensors of our network, and which networks it has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# In every family: the layers of a ConvBNReLU, and BatchNorm's statistics
_COMMON = {"_conv": "conv", "_batch_norm": "bn", "_mean": "running_mean", "_variance": "running_var"}

# The three convolutions of a deep stem are one sequence in PyTorch: convolution, BatchNorm, ReLU, convolution, ...
_DEEP_STEM = {"conv1.conv1": 0, "conv1.bn1": 1, "conv1.conv2": 3, "conv1.bn2": 4, "conv1.conv3": 6}
AUTHORS_STEM = {ours: f"conv1.{i}" for ours, i in _DEEP_STEM.items()}
OPENMMLAB_STEM = {**{ours: f"stem.{i}" for ours, i in _DEEP_STEM.items()}, "bn1": "stem.7"}


@dataclass(frozen=True)
class Family:
    """One family of checkpoints.

    Attributes:
        name: what `--from` calls it.
        prefix: a tensor whose name begins so is this family's, once the families before it in the list are ruled out.
        modules: our module -> theirs, wherever it stands in a name. Names are read from the left, and the longest
            module that comes next is replaced: `arms.0.conv_3x3` goes before `arms.0` followed by `conv_3x3`. What is
            not listed keeps its name.
        deep_stem: the same within `backbone`, where that has a deep stem (v1c, v1s).
        variants: the variant of each backbone and hidden channels of the auxiliary heads, as published; none if the
            family is a backbone alone.
    """

    name: str
    prefix: str
    modules: Mapping[str, str]
    deep_stem: Mapping[str, str] = field(default_factory=AUTHORS_STEM.copy)
    variants: Mapping[tuple[str, int], str] = field(default_factory=dict)

    @property
    def backbone(self) -> str:
        """What stands before the backbone's names."""
        return f"{self.modules['backbone']}.".lstrip(".")

    def their_name(self, name: str, backbone: str = "") -> str:
        """The family's name of our tensor `name`, in a network with this backbone (`ResNet18_v1b`, ...)."""
        modules = {**_COMMON, **self.modules}
        if backbone.endswith(("v1c", "v1s")):
            modules.update({f"backbone.{ours}": self.backbone + theirs for ours, theirs in self.deep_stem.items()})
        return _renamed(name, modules)


def _renamed(name: str, modules: Mapping[str, str]) -> str:
    steps, theirs = name.split("."), []
    while steps:
        length = next((n for n in range(len(steps), 0, -1) if ".".join(steps[:n]) in modules), 1)
        ours = ".".join(steps[:length])
        theirs.append(modules.get(ours, ours))
        steps = steps[length:]
    return ".".join(filter(None, theirs))


def backbone_type(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> str:
    """Which backbone the tensors whose names begin with `prefix` are: its YAML `type`, or '' if none.

    Args:
        shapes: name -> shape, in the naming of any family or ours.
        prefix: what stands before the backbone's names.
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
