"""What happens when Paddle or PaddleSeg is imported; the package's start-up hook has waited for it.

Before `paddle`: the corrections that must come first. After the top-level `paddleseg`: the other corrections, then the
registration of the components; from then on PaddleSeg tells what this package logs.
"""

import logging
import sys

import bisenetv1_plugin

TYPE_CHECKING = False  # as in `typing`, which a start cannot afford to import
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


def find_spec(name: str, path: "Sequence[str] | None", target: "ModuleType | None") -> "ModuleSpec | None":
    """The hook's answer for `paddle` (no spec of its own) and `paddleseg` (its usual spec, which then goes on)."""
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
    """In place of a loader for one import: that may have slots, or serve other modules as well, as a zip file's does.

    The module, its spec and whoever asks them see the loader itself again.
    """

    def __init__(self, spec: "ModuleSpec") -> None:
        self._spec = spec
        self._loader: Any = spec.loader

    def __getattr__(self, name: str) -> "Any":
        return getattr(object.__getattribute__(self, "_loader"), name)  # no circle while a copy is made

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
    """Hands over to PaddleSeg's logger, so that the users of its tools see what they are used to."""

    def emit(self, record: logging.LogRecord) -> None:
        from paddleseg.utils import logger

        tell = logger.warning if record.levelno >= logging.WARNING else logger.info
        tell(record.getMessage())


def _log_through_paddleseg() -> None:
    """Not where somebody has given this package's logger a handler.

    Nobody further up hears it: Paddle gives the root logger a handler of its own, and all would be told twice.
    """
    logger = logging.getLogger("bisenetv1_plugin")
    if not logger.handlers:
        logger.addHandler(_ToPaddleSeg())
        logger.setLevel(logging.INFO)
        logger.propagate = False
