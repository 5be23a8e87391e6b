"""Write the default values of transforms into an export, so that other programs need not know them."""

from __future__ import annotations

import inspect
from typing import Any

from paddleseg.cvlibs import manager

# Types of values in a YAML file.
_PLAIN = (bool, int, float, str, type(None))


def fill_defaults(transforms: list[dict[str, Any]], channels: int = 3) -> list[dict[str, Any]]:
    """Add all default values to transforms, such as `mean` and `std` of `Normalize`.

    For PaddleSeg the result is equivalent. Defaults that YAML cannot represent are omitted.

    Args:
        transforms: as in a configuration, with `type`.
        channels: number of image channels. A single mean is repeated for each channel.

    Returns:
        A new list.
    """
    return [_fill(transform, channels) for transform in transforms]


def _fill(transform: dict[str, Any], channels: int) -> dict[str, Any]:
    values = dict(transform)
    for name, parameter in inspect.signature(manager.TRANSFORMS[transform["type"]]).parameters.items():
        default = parameter.default
        default = list(default) if isinstance(default, tuple) else default
        if all(isinstance(value, _PLAIN) for value in (default if isinstance(default, list) else [default])):
            values.setdefault(name, default)
    if values["type"] == "Normalize":
        for name in ("mean", "std"):
            if isinstance(values[name], list) and len(values[name]) == 1:
                values[name] = values[name] * channels
    return values
