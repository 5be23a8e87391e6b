"""Convert tensors of other implementations to a BiSeNetV1 or a backbone, and back; every tensor is accounted for."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from paddleseg.cvlibs import manager

from bisenetv1_plugin import plugin
from bisenetv1_plugin.convert.families import FAMILIES, NAMES
from bisenetv1_plugin.convert.family import Family, backbone_type
from bisenetv1_plugin.models.bisenetv1 import BiSeNetV1

# PyTorch's BatchNorm counts its steps, but uses the count only if the momentum is None, which no family does.
_COUNTER = ".num_batches_tracked"
_CLASSIFIER = ("fc.weight", "fc.bias")  # in ImageNet networks; not part of a backbone

_MAX_SHOWN = 6
_MAX_CLASSES = 65536


@dataclass
class Converted:
    """A converted checkpoint.

    Attributes:
        family: name of the checkpoint's family.
        backbone: the backbone's YAML `type`.
        variant, num_classes: variant and number of classes of the network; None for the weights of a backbone.
        state: our name -> values.
        dropped: names in the checkpoint that the network does not use.
    """

    family: str
    backbone: str
    variant: str | None
    num_classes: int | None
    state: dict[str, np.ndarray]
    dropped: list[str]


def to_paddle(tensors: Mapping[str, np.ndarray], family: str | None = None) -> Converted:
    """Convert the tensors of a checkpoint.

    Args:
        tensors: the tensors, as `checkpoint.read` returns them.
        family: one of `families.NAMES`. By default it is recognized from the names of the tensors.

    Raises:
        ValueError: the family is not recognized, or a tensor is missing, unexpected, or has another shape.
    """
    plugin.register()  # for interpreters that do not run start-up files; otherwise this has no effect
    found = _recognize(tensors, family)
    shapes = {name: values.shape for name, values in tensors.items()}
    backbone = backbone_type(shapes, found.backbone)
    if backbone not in manager.BACKBONES.components_dict:
        raise ValueError(
            f"As a checkpoint of {found.name}, its backbone is not supported: "
            f"{backbone or 'its layers are not those of a ResNet or Xception39'}. Wrong family, or an incomplete file?"
        )
    variant = num_classes = None
    if found.variants:
        variant, num_classes = _variant(found, backbone, shapes), _num_classes(found, shapes)
    ours = _names(found, backbone, variant, num_classes)
    dropped = [name for name in tensors if name.endswith(_COUNTER) or (not found.variants and name in _CLASSIFIER)]
    _check_complete(tensors, dict(ours.values()), dropped, f"{found.name} with {backbone}")
    state = {our_name: tensors[theirs] for our_name, (theirs, _) in ours.items()}
    return Converted(found.name, backbone, variant, num_classes, state, dropped)


def to_torch(state: Mapping[str, np.ndarray], family: str | None = None) -> dict[str, np.ndarray]:
    """Convert a trained network to the names of a family.

    Args:
        state: the state of a BiSeNetV1, with our names.
        family: one of `families.NAMES`. By default it is recognized from the network.

    Returns:
        A state dict that the family's code can load. BatchNorm's counters are 0.

    Raises:
        ValueError: the network fits no family, or several; or a tensor is missing, unexpected, or has another shape.
    """
    plugin.register()
    shapes = {name: values.shape for name, values in state.items()}
    found = _family_of_ours(shapes, family)
    backbone = backbone_type(shapes, "backbone.")
    their_shapes = {found.their_name(name, backbone): shape for name, shape in shapes.items()}
    variant = _variant(found, backbone, their_shapes)
    ours = _names(found, backbone, variant, _num_classes(found, their_shapes))
    expected = {name: shape for name, (_, shape) in ours.items()}
    _check_complete(state, expected, [], f"the variant {variant} with {backbone}")
    tensors = {}
    for name, (theirs, _) in ours.items():
        tensors[theirs] = state[name]
        if theirs.endswith(".running_var"):
            tensors[theirs[: -len(".running_var")] + _COUNTER] = np.zeros([], "int64")
    return tensors


def _recognize(names: Collection[str], wanted: str | None) -> Family:
    for family in FAMILIES:
        if family.name == (wanted or family.name) and any(name.startswith(family.prefix) for name in names):
            return family
    if wanted:
        raise ValueError(f"This is not a checkpoint of {wanted}: it has the tensors {_join(names)}.")
    raise ValueError(
        f"No family has these tensors: {_join(names)}. Known are {', '.join(NAMES)}; "
        "PaddleSeg's own checkpoints load as they are, with `variant: paddleseg`."
    )


def _family_of_ours(names: Collection[str], wanted: str | None) -> Family:
    """Recognize the family from the feature fusion module, which only coincheung and mmseg share."""
    if "ffm.channel_attention.3.weight" in names:
        fits = ["torchseg" if any(name.startswith("spatial_path.") for name in names) else "zllrunning"]
    elif "ffm.channel_attention.2._conv.weight" in names:
        raise ValueError("This is the variant paddleseg, which has no PyTorch original.")
    elif "ffm.channel_attention.1._conv.weight" in names:
        fits = ["coincheung", "mmseg"]
    else:
        raise ValueError(f"This is not a trained BiSeNetV1 of this plugin: it has the tensors {_join(names)}.")
    if wanted not in (None, *fits):
        raise ValueError(f"This is a network of {' or '.join(fits)}, not of {wanted}.")
    if wanted is None and len(fits) > 1:
        raise ValueError(f"The tensors fit both {' and '.join(fits)}: name the trained one with --from.")
    return next(family for family in FAMILIES if family.name == (wanted or fits[0]))


def _variant(family: Family, backbone: str, shapes: Mapping[str, tuple[int, ...]]) -> str:
    variants = [variant for (name, _), variant in family.variants.items() if name == backbone]
    if not variants:
        published = ", ".join(dict.fromkeys(name for name, _ in family.variants))
        raise ValueError(f"Its backbone is {backbone or 'unknown'}; {family.name} was published with {published} only.")
    auxiliary = family.their_name("heads.0.conv_1x1.weight")
    hidden_channels = shapes[auxiliary][1] if len(shapes.get(auxiliary, ())) == 4 else 0
    return family.variants.get((backbone, hidden_channels), variants[0])


def _num_classes(family: Family, shapes: Mapping[str, tuple[int, ...]]) -> int:
    classifier = family.their_name("heads.2.conv_1x1.weight")
    if classifier not in shapes:
        raise ValueError(f"The principal head is missing: there is no {classifier}.")
    shape = shapes[classifier]
    if len(shape) != 4 or not 1 <= shape[0] <= _MAX_CLASSES:  # a network of this size is built below
        raise ValueError(f"The principal head {classifier} is {_shape(shape)}, which is not the shape of a classifier.")
    return shape[0]


def _names(
    family: Family, backbone: str, variant: str | None, num_classes: int | None
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Map our name to the family's name and the shape, for every tensor of the network or of the backbone."""
    layer = manager.BACKBONES.components_dict[backbone]()
    prefix = "backbone."
    if variant and num_classes:
        layer, prefix = BiSeNetV1(num_classes, layer, variant=variant), ""
    return {
        name: (family.their_name(prefix + name, backbone), tuple(value.shape))
        for name, value in layer.state_dict().items()
    }


def _check_complete(
    tensors: Mapping[str, np.ndarray], expected: Mapping[str, tuple[int, ...]], dropped: Collection[str], what: str
) -> None:
    """Raise ValueError if names or shapes of `tensors`, except the dropped ones, are not as `expected`."""
    missing = [name for name in expected if name not in tensors]
    extra = [name for name in tensors if name not in expected and name not in dropped]
    misshapen = [
        f"{name} ({_shape(tensors[name].shape)}, not {_shape(shape)})"
        for name, shape in expected.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    faults = [("missing", missing), ("unexpected", extra), ("of another shape", misshapen)]
    if any(names for _, names in faults):
        details = "; ".join(f"{len(names)} {fault}: {_join(names)}" for fault, names in faults if names)
        raise ValueError(f"The tensors are not those of {what}: {details}.")


def _shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _join(names: Iterable[str]) -> str:
    names = list(names)
    more = len(names) - _MAX_SHOWN
    return ", ".join(repr(name)[1:-1] for name in names[:_MAX_SHOWN]) + (f" and {more} more" if more > 0 else "")
