"""Entry points into PaddleSeg's component registries.

A distribution that wants a component in PaddleSeg declares it in its metadata, one group for each registry; the entry
point's name is the `type` of the YAML:

    [paddleseg.models]
    BiSeNetV1 = bisenetv1_plugin.models.bisenetv1:BiSeNetV1

`register` loads the components of every such distribution, not only of this one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

logger = logging.getLogger(__name__)


def registries() -> dict[str, Any]:
    """PaddleSeg's registries by the group of entry points."""
    from paddleseg.cvlibs import manager  # not above: the hook calls `register` while PaddleSeg is being imported

    return {
        "paddleseg.models": manager.MODELS,
        "paddleseg.backbones": manager.BACKBONES,
        "paddleseg.losses": manager.LOSSES,
        "paddleseg.datasets": manager.DATASETS,
        "paddleseg.transforms": manager.TRANSFORMS,
        "paddleseg.optimizers": manager.OPTIMIZERS,
    }


def register() -> dict[str, object]:
    """Load every entry point of the groups into its registry. May be called again; registered components stay.

    A component that fails to load, or whose name is taken, is skipped with a warning that names it.

    Returns:
        The components of the entry points by name.
    """
    registered = {}
    for group, registry in registries().items():
        for entry_point in _without_duplicates(_entry_points(group)):
            try:
                component = entry_point.load()
                if registry.components_dict.get(entry_point.name) is not component:
                    _check(entry_point.name, component)
                    registry.add_component(component)
            except Exception as error:  # noqa: BLE001 - one broken component never hurts the others or PaddleSeg
                logger.warning(
                    f"PaddleSeg component {entry_point.name} ({entry_point.value}, group {group}) was skipped: {error}"
                )
            else:
                registered[entry_point.name] = component
    return registered


def _entry_points(group: str) -> Iterable[EntryPoint]:
    try:
        return entry_points(group=group)
    except TypeError:  # Python before 3.10
        return entry_points().get(group, ())


def _without_duplicates(found: Iterable[EntryPoint]) -> list[EntryPoint]:
    """Drop repeated entry points: a distribution that is installed twice, as wheel and editable, lists them twice."""
    return sorted({(e.name, e.value): e for e in found}.values(), key=lambda e: (e.name, e.value))


def _check(name: str, component: Any) -> None:
    """Raise ValueError if PaddleSeg cannot register the component under this name."""
    # PaddleSeg searches all registries for a `type`, so the name must be free in each of them.
    for registry in registries().values():
        if name in registry.components_dict:
            raise ValueError(f"the name is taken by {registry.components_dict[name]!r} in PaddleSeg's {registry.name}.")
    if component.__name__ != name:
        raise ValueError(f"PaddleSeg would call it {component.__name__}; the entry point's name must be the same.")
