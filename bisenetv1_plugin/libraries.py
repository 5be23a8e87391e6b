"""Libraries that only some users have."""

from __future__ import annotations

import importlib
import os
import sys
from contextlib import contextmanager
from types import ModuleType
from typing import Iterator

from bisenetv1_plugin.errors import InputError, brief

# ONNX Runtime's wheel brings telemetry, and leaves a file of it among the temporary ones, unless told otherwise.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# The second line is for Python 3.13, and changes nothing on others: setup.py says why.
GET_PADDLE = "pip install 'bisenetv1-plugin[cpu]' (or [gpu]), then pip install --no-deps paddleseg==2.8.0."
if sys.version_info >= (3, 14):
    GET_PADDLE = f"Paddle has no wheel for this Python; with Python 3.8 to 3.13, {GET_PADDLE}"


def optional_library(name: str, extra: str = "deploy") -> ModuleType:
    """Import a library of one of this package's extras.

    Raises:
        InputError: it is not installed, or cannot be imported.
    """
    try:
        with _hidden("openvino_telemetry"):
            return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"This needs the package {name}: pip install 'bisenetv1-plugin[{extra}]' ({error})."
        ) from error
    except Exception as error:  # of a library that does not fit the others, or this machine: an OSError, for one
        raise InputError(
            f"The package {name} is here, and its import fails ({brief(error)}): install it anew, in a version that "
            "fits the other packages."
        ) from error


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """A block that does not find a module, unless it is loaded already.

    OpenVINO without its telemetry runs as well. With it, every import is reported to Intel, by a process of its own; on
    Python 3.14 that process runs the user's script from its beginning, unless it is guarded by `__name__`.
    """
    hide = name not in sys.modules
    if hide:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hide:
            del sys.modules[name]


@contextmanager
def needs_paddle() -> Iterator[None]:
    """A block that may import Paddle or PaddleSeg, which only the extras `cpu` and `gpu` bring.

    Raises:
        InputError: one of them, or VisualDL, which comes with PaddleSeg, is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("paddle", "paddleseg", "visualdl"):
            raise
        raise InputError(f"This needs Paddle and PaddleSeg, and {error.name} is not installed: {GET_PADDLE}") from error
