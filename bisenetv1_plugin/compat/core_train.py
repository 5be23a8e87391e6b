"""What the corrections of PaddleSeg's `train` share; no correction itself."""

from __future__ import annotations

import inspect
import sys
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any, Callable, Iterator

import paddleseg.core

_PACKAGE = __name__.partition(".")[0]


def module() -> ModuleType:
    """The module in which PaddleSeg's `train` runs. The name `paddleseg.core.train` is the function's."""
    return sys.modules[function().__module__]


def function() -> FunctionType:
    """PaddleSeg's own `train`, below all corrections."""
    return inspect.unwrap(paddleseg.core.train)


def names() -> set[str]:
    """The global names and attributes that the code of PaddleSeg's own `train` uses."""
    return set(function().__code__.co_names)


def replace(train: Callable[..., None]) -> None:
    """Put another `train` where PaddleSeg's tools and modules take it from."""
    paddleseg.core.train = vars(module())["train"] = train


def is_ours(model: object) -> bool:
    """Whether a network is of this package: guards of a training leave all others alone."""
    return any(kind.__module__.partition(".")[0] == _PACKAGE for kind in type(model).__mro__)


class ModuleView:
    """A module as one other module sees it: something else under some names, while nobody else's changes."""

    def __init__(self, original: object, **names: object) -> None:
        self._original = original
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


@contextmanager
def patch(namespace: dict[str, Any], name: str, value: object) -> Iterator[None]:
    """Another value under a name, as long as the block lasts; the name need not be there."""
    missing = object()
    before = namespace.get(name, missing)
    namespace[name] = value
    try:
        yield
    finally:
        if before is missing:
            del namespace[name]
        else:
            namespace[name] = before
