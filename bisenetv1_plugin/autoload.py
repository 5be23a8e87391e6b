"""The work at an import of Paddle or PaddleSeg, called by the package's start-up hook.

Before `paddle`, it applies the corrections that must come first. After the top-level `paddleseg`, it applies the other
corrections, registers the components, and sends this package's log records to PaddleSeg's logger.
"""

import logging
import sys

import bisenetv1_plugin

TYPE_CHECKING = False  # importing `typing` takes time
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


def find_spec(name: str, path: "Sequence[str] | None", target: "ModuleType | None") -> "ModuleSpec | None":
    """Correct before `paddle` and return None; for `paddleseg`, return its usual spec with another loader."""
    if name == "paddle":
        _run_safely(name, _apply_corrections, "before paddle")
        return None
    spec = _find_elsewhere(name, path, target)
    _run_safely(name, _extend, spec)
    return spec


def _find_elsewhere(name: str, path: "Sequence[str] | None", target: "ModuleType | None") -> "ModuleSpec | None":
    for finder in sys.meta_path:
        if finder is not bisenetv1_plugin and hasattr(finder, "find_spec"):
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                return spec
    return None


def _extend(spec: "ModuleSpec | None") -> None:
    if hasattr(getattr(spec, "loader", None), "exec_module"):
        spec.loader = _Loader(spec)  # type: ignore[arg-type, assignment, union-attr]


class _Loader:
    """Replaces a loader for one import. Changing the loader itself is impossible if it has slots or is shared.

    During the import, the module and its spec get the original loader back.
    """

    def __init__(self, spec: "ModuleSpec") -> None:
        self._spec = spec
        self._loader: Any = spec.loader

    def __getattr__(self, name: str) -> "Any":
        return getattr(object.__getattribute__(self, "_loader"), name)  # no endless recursion in a half-made copy

    def exec_module(self, module: "ModuleType") -> None:
        self._spec.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        _run_safely("paddleseg", _apply_corrections, "after paddleseg")
        _run_safely("paddleseg", _register)
        _run_safely("paddleseg", _log_through_paddleseg)


def _run_safely(name: str, step: "Callable[..., None]", *arguments: object) -> None:
    try:
        step(*arguments)
    except Exception as error:  # noqa: BLE001 - a broken plugin must never break `import paddleseg` or Python itself
        logging.getLogger(__name__).warning(
            f"bisenetv1-plugin could not do its part at `import {name}`: {type(error).__name__}: {error}. "
            "BISENETV1_PLUGIN=0 switches it off."
        )


def _apply_corrections(moment: str) -> None:
    from bisenetv1_plugin import compat

    compat.apply(moment)


def _register() -> None:
    from bisenetv1_plugin import plugin

    plugin.register()


class _ToPaddleSeg(logging.Handler):
    """Forwards records to PaddleSeg's logger, so that they look like PaddleSeg's own messages."""

    def emit(self, record: logging.LogRecord) -> None:
        from paddleseg.utils import logger

        tell = logger.warning if record.levelno >= logging.WARNING else logger.info
        tell(record.getMessage())


def _log_through_paddleseg() -> None:
    """Send this package's log records to PaddleSeg's logger, unless the user has added a handler.

    They do not propagate: Paddle adds a handler to the root logger, which would print them twice.
    """
    logger = logging.getLogger("bisenetv1_plugin")
    if not logger.handlers:
        logger.addHandler(_ToPaddleSeg())
        logger.setLevel(logging.INFO)
        logger.propagate = False
