"""The values that a configuration leaves to a transform: who runs an export does not have to know them."""

from __future__ import annotations

import inspect
from typing import Any

from paddleseg.cvlibs import manager

# What a file in YAML can say.
_PLAIN = (bool, int, float, str, type(None))


def fill_defaults(transforms: list[dict[str, Any]], channels: int = 3) -> list[dict[str, Any]]:
    """The same transforms with every value that they take, such as `mean` and `std` of `Normalize`.

    PaddleSeg makes the same of both. A default that YAML cannot say stays unsaid.

    Args:
        transforms (list[dict]): as in a configuration, with `type`.
        channels (int): the channels of an image. One mean for all of them is written once for each.

    Returns:
        list[dict]: a list of its own.
    """
    return [_filled(transform, channels) for transform in transforms]


def _filled(transform: dict[str, Any], channels: int) -> dict[str, Any]:
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
