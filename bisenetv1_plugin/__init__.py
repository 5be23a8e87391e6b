"""BiSeNetV1 (ECCV 2018) as a plugin for PaddleSeg. Importing this package is free: nothing else is loaded.

From Python: `from bisenetv1_plugin import Segmenter`; docs/api.md has the whole public surface.

Start-up files (`bisenetv1_plugin.pth`, and `.start` of PEP 829) call `install` in every interpreter. The hook stands
here because a start can afford one small module; what follows an import of PaddleSeg is in `autoload`.
"""

import os
import sys

__version__ = "0.3.0"
__all__ = ["InputError", "Region", "Segmentation", "Segmenter", "__version__", "install"]

TYPE_CHECKING = False  # as in `typing`, which a start cannot afford to import
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

    from bisenetv1_plugin.errors import InputError
    from bisenetv1_plugin.inference.regions import Region
    from bisenetv1_plugin.inference.segmentation import Segmentation
    from bisenetv1_plugin.inference.segmenter import Segmenter

# Where the names above are, which are imported when they are asked for.
_MODULES = {
    "InputError": "bisenetv1_plugin.errors",
    "Region": "bisenetv1_plugin.inference.regions",
    "Segmentation": "bisenetv1_plugin.inference.segmentation",
    "Segmenter": "bisenetv1_plugin.inference.segmenter",
}


def install() -> None:
    """Wait for `import paddleseg`: put this module on `sys.meta_path`, once; site runs `.pth` lines twice in a venv.

    `BISENETV1_PLUGIN=0` in the environment switches it off.
    """
    module = sys.modules[__name__]
    if os.environ.get("BISENETV1_PLUGIN") != "0" and module not in sys.meta_path:
        sys.meta_path.insert(0, module)


def find_spec(
    name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
) -> "ModuleSpec | None":
    """As a meta path finder: `autoload` answers for `paddle` and `paddleseg`; all else is for the other finders."""
    if name in ("paddle", "paddleseg"):
        from bisenetv1_plugin import autoload

        return autoload.find_spec(name, path, target)
    return None


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_MODULES[name]), name)
