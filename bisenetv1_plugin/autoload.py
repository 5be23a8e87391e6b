"""What happens when Paddle or PaddleSeg is imported; the package's start-up hook has waited for it.

Before `paddle`: the corrections that must come first. After the top-level `paddleseg`: the other corrections, then the
registration of the components.
"""

import sys
import warnings

import bisenetv1_plugin


def find_spec(name, path, target):
    """The hook's answer for `paddle` (no spec of its own) and `paddleseg` (its usual spec, which then goes on)."""
    if name == "paddle":
        _guarded(name, _correct, "before paddle")
        return None
    return _extended(_find_elsewhere(name, path, target))


def _find_elsewhere(name, path, target):
    for finder in sys.meta_path:
        if finder is not bisenetv1_plugin and hasattr(finder, "find_spec"):
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                return spec
    return None


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
