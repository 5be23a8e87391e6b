"""Entry points into PaddleSeg's component registries.

A distribution that wants a component in PaddleSeg declares it in its metadata, one group for each registry; the entry
point's name is the `type` of the YAML:

    [paddleseg.models]
    BiSeNetV1 = bisenetv1_plugin.models.bisenetv1:BiSeNetV1

`register` serves every distribution that does so, not this one alone.
"""

import warnings
from importlib.metadata import entry_points

from paddleseg.cvlibs import manager

REGISTRIES = {
    "paddleseg.models": manager.MODELS,
    "paddleseg.backbones": manager.BACKBONES,
    "paddleseg.losses": manager.LOSSES,
    "paddleseg.datasets": manager.DATASETS,
    "paddleseg.transforms": manager.TRANSFORMS,
    "paddleseg.optimizers": manager.OPTIMIZERS,
}


def register():
    """Load every entry point of the groups into its registry. May be called again: what is there stays.

    A component that fails to load, or whose name is taken, is skipped with a warning that names it; the others
    are registered all the same.

    Returns:
        dict[str, object]: the components that the entry points brought, by name.
    """
    registered = {}
    for group, registry in REGISTRIES.items():
        for entry_point in _entry_points(group):
            try:
                component = entry_point.load()
                _add(registry, entry_point, component)
            except Exception as error:  # noqa: BLE001 - one broken component never hurts the others or PaddleSeg
                warnings.warn(
                    f"PaddleSeg component {entry_point.name} ({entry_point.value}, group {group}) was skipped: {error}",
                    stacklevel=2,
                )
            else:
                registered[entry_point.name] = component
    return registered


def _add(registry, entry_point, component):
    name = entry_point.name
    if registry.components_dict.get(name) is component:
        return
    # The builder looks a `type` up through all registries in turn, so a name must be free in every one.
    taken = next((other for other in REGISTRIES.values() if name in other.components_dict), None)
    if taken is not None:
        raise ValueError(f"the name is taken by {taken.components_dict[name]!r} in PaddleSeg's {taken.name}.")
    if component.__name__ != name:
        raise ValueError(f"PaddleSeg would call it {component.__name__}; the entry point's name must be the same.")
    registry.add_component(component)


def _entry_points(group):
    try:
        found = entry_points(group=group)
    except TypeError:  # Python before 3.10
        found = entry_points().get(group, ())
    # A distribution installed twice (say, editable over a wheel) lists its entry points twice.
    return sorted({(e.name, e.value): e for e in found}.values(), key=lambda e: (e.name, e.value))
