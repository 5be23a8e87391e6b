"""The start-up hook, because PaddleSeg has none: waits for `import paddleseg`, then registers the plugins.

`bisenetv1_plugin.pth` (and `.start`, PEP 829) call `install` in every interpreter, so this module imports nothing that
the interpreter has not loaded already, and the work is done only in processes that import Paddle or PaddleSeg.
`BISENETV1_PLUGIN=0` in the environment switches it off.
"""

import os
import sys


class _PaddleSegWaiter:
    """A meta path finder that finds nothing itself: it adds a step before `paddle` and one after `paddleseg`."""

    def find_spec(self, name, path=None, target=None):
        if name == "paddle":
            _guarded(name, _correct, "before paddle")
        elif name == "paddleseg":
            return _extended(self._find_elsewhere(name, path, target))
        return None

    def _find_elsewhere(self, name, path, target):
        for finder in sys.meta_path:
            if finder is not self and hasattr(finder, "find_spec"):
                spec = finder.find_spec(name, path, target)
                if spec is not None:
                    return spec
        return None


def install():
    """Place the waiter, once. Safe to call again: site runs `.pth` lines twice inside a virtual environment."""
    if os.environ.get("BISENETV1_PLUGIN") == "0":
        return
    if not any(isinstance(finder, _PaddleSegWaiter) for finder in sys.meta_path):
        sys.meta_path.insert(0, _PaddleSegWaiter())


def _extended(spec):
    """Make PaddleSeg's loader go on once the module has executed; the loader stays what it is otherwise."""
    execute = getattr(getattr(spec, "loader", None), "exec_module", None)
    if execute is not None:

        def exec_module(module):
            execute(module)
            _guarded("paddleseg", _correct, "after paddleseg")
            _guarded("paddleseg", _register)

        spec.loader.exec_module = exec_module
    return spec


def _guarded(name, step, *arguments):
    try:
        step(*arguments)
    except Exception as error:  # noqa: BLE001 - a broken plugin must never break `import paddleseg` or Python itself
        import warnings

        warnings.warn(
            f"bisenetv1-plugin could not do its part at `import {name}`: {type(error).__name__}: {error}. "
            "BISENETV1_PLUGIN=0 switches it off.",
            stacklevel=2,
        )


def _correct(moment):
    from bisenetv1_plugin import compat

    compat.apply(moment)


def _register():
    from bisenetv1_plugin import plugin

    plugin.register()
