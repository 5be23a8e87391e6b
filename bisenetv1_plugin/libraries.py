"""Imports of optional libraries."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
from contextlib import contextmanager
from types import ModuleType
from typing import Iterator

from bisenetv1_plugin.errors import InputError, brief

# By default, ONNX Runtime's telemetry leaves a temporary file.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def install_command(extra: str) -> str:
    """The command that installs one of this package's extras. The package is not on PyPI."""
    return f"pip install '.[{extra}]' in the folder of the bisenetv1-plugin repository"


def _get_paddle(python: tuple[int, int]) -> str:
    command = f"{install_command('cpu')} (with a GPU, '.[gpu]')"
    if python >= (3, 14):
        return f"Paddle has no wheel for this Python; with Python 3.8 to 3.12, {command}."
    if python == (3, 13):  # paddleseg's own requirements have no wheels for it; see setup.py
        command += ", then pip install --no-deps paddleseg==2.8.0"
    return f"{command}."


GET_PADDLE = _get_paddle(sys.version_info[:2])


def optional_library(name: str, extra: str = "deploy") -> ModuleType:
    """Import a library of one of this package's extras.

    Raises:
        InputError: it is not installed, or cannot be imported.
    """
    try:
        with _hide_module("openvino_telemetry"):
            return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"This needs the package {name}: {install_command(extra)} ({error}).") from error
    except Exception as error:  # a library may not fit the others, or this machine, and raise an OSError, for example
        raise InputError(
            f"The package {name} is installed, but its import fails ({brief(error)}): install a version that fits the "
            "other packages."
        ) from error


@contextmanager
def _hide_module(name: str) -> Iterator[None]:
    """A block that cannot import a module, unless it is loaded already.

    OpenVINO runs without its telemetry module. With it, a separate process reports every import to Intel. On Python
    3.14, that process runs the user's script again, unless the script checks `__name__`.
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
    """A block that may import Paddle or PaddleSeg, which only the extras `cpu` and `gpu` install.

    Raises:
        InputError: one of them, or VisualDL, which PaddleSeg imports, is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in ("paddle", "paddleseg", "visualdl"):
            raise
        raise InputError(f"This needs Paddle and PaddleSeg, and {error.name} is not installed: {GET_PADDLE}") from error


def restore_signal_handlers() -> None:
    """Set Python's signal handlers again: importing Paddle replaces that of SIGTERM, and Python does not notice."""
    if threading.current_thread() is not threading.main_thread():  # Python sets handlers only there
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        handler = signal.getsignal(number)
        if handler is not None:  # None: a program in C, in which Python is embedded, has set it
            signal.signal(number, handler)
