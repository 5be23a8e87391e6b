"""BiSeNetV1 (ECCV 2018) as a plugin for PaddleSeg. Importing this package loads nothing else.

From Python: `from bisenetv1_plugin import Segmenter`; docs/api.md describes the public API.

Start-up files (`bisenetv1_plugin.pth`, and `.start` of PEP 829) call `install` in every interpreter. The hook is in
this small module to keep Python's start fast. `autoload` does the work after an import of PaddleSeg.
"""

import os
import sys

__version__ = "0.3.0"
__all__ = ["InputError", "Region", "Segmentation", "Segmenter", "__version__", "install"]

TYPE_CHECKING = False  # importing `typing` would slow down every start of Python
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from bisenetv1_plugin.errors import InputError
    from bisenetv1_plugin.inference.regions import Region
    from bisenetv1_plugin.inference.segmentation import Segmentation
    from bisenetv1_plugin.inference.segmenter import Segmenter

# The modules of the names above, imported on first use.
_MODULES = {
    "InputError": "bisenetv1_plugin.errors",
    "Region": "bisenetv1_plugin.inference.regions",
    "Segmentation": "bisenetv1_plugin.inference.segmentation",
    "Segmenter": "bisenetv1_plugin.inference.segmenter",
}


def install() -> None:
    """Put this module on `sys.meta_path`, where it waits for `import paddleseg`.

    May be called again, because Python runs `.pth` lines twice in a venv. `BISENETV1_PLUGIN=0` in the environment
    switches the hook off.
    """
    module = sys.modules[__name__]
    if os.environ.get("BISENETV1_PLUGIN") != "0" and module not in sys.meta_path:
        sys.meta_path.insert(0, module)


def find_spec(
    name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
) -> "ModuleSpec | None":
    """The method of a meta path finder: `autoload` finds `paddle` and `paddleseg`, other finders the rest."""
    if name in ("paddle", "paddleseg"):
        from bisenetv1_plugin import autoload

        return autoload.find_spec(name, path, target)
    return None


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_MODULES[name]), name)
