"""Libraries that only some users have."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

from bisenetv1_plugin.errors import InputError

# ONNX Runtime's wheel brings telemetry, and leaves a file of it among the temporary ones, unless told otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def optional_library(name: str, extra: str = "deploy") -> ModuleType:
    """Import a library of one of this package's extras.

    Raises:
        InputError: it is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"This needs the package {name}: pip install 'bisenetv1-plugin[{extra}]' ({error})."
        ) from error
