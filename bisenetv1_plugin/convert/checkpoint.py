"""Read and write files of PyTorch and safetensors, as dictionaries of NumPy arrays."""

from __future__ import annotations

import io
import os
import re
import zipfile
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from bisenetv1_plugin import files
from bisenetv1_plugin.libraries import install_command

# Before 2.6, a crafted file could run code even with weights_only=True (CVE-2025-32434).
_SAFE_TORCH = (2, 6)

# Keys under which training tools store a state dict, and the prefix that they add to its names.
_WRAPPERS = ("state_dict", "model", "model_state", "net")
_PARALLEL = "module."

_MAX_NAME = 1000  # characters in a tensor's name
_MAX_MESSAGE = 300  # characters of a library's error message
_MAX_RATIO = 4  # maximum size of the tensors relative to their file; a tensor with two names is stored once


def read(path: str) -> dict[str, np.ndarray]:
    """Read the tensors of a `.pth`, `.pt` or `.safetensors` file. Code in the file is not executed.

    Args:
        path: the file. PyTorch's formats are read with `weights_only=True`.

    Returns:
        Name -> values; floating point is converted to float32.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, tries to run code, or has no named tensors.
        ImportError: PyTorch or safetensors is missing, or PyTorch is older than 2.6.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no checkpoint at {path}.")
    tensors = _read_safetensors(path) if path.endswith(".safetensors") else _read_torch(path)
    for name in tensors:
        if not isinstance(name, str) or len(name) > _MAX_NAME or not name.isprintable():
            shown = repr(name[:40]) if isinstance(name, str) else type(name).__name__
            raise ValueError(f"{path} has no state dict: {shown} is not the name of a tensor.")
    prefix = _PARALLEL if all(name.startswith(_PARALLEL) for name in tensors) else ""
    return {name[len(prefix) :]: values for name, values in tensors.items()}


def write(tensors: Mapping[str, np.ndarray], path: str) -> None:
    """Write `{name: numpy.ndarray}` atomically as a PyTorch state dict, or as safetensors if `path` ends with it.

    Raises:
        ImportError: PyTorch or safetensors is missing.
        OSError: the file cannot be written, or the disk is full.
    """
    torch = _torch()
    state = {name: torch.from_numpy(np.array(values)) for name, values in tensors.items()}
    # In memory first: on a full disk both libraries raise their own errors, which do not say that it is full.
    if path.endswith(".safetensors"):
        from safetensors.torch import save

        files.write(path, save(state))
    else:
        content = io.BytesIO()
        torch.save(state, content)
        files.write(path, content.getvalue())


def _read_safetensors(path: str) -> dict[str, np.ndarray]:
    try:
        from safetensors.numpy import load_file
    except ImportError as error:
        raise ImportError(f"Reading .safetensors needs safetensors: {install_command('convert')}.") from error
    try:
        tensors = load_file(path)
    except Exception as error:
        raise ValueError(f"{path} cannot be read as safetensors: {_first_line(error)}.") from error
    return {name: _float32(values) for name, values in tensors.items()}


def _read_torch(path: str) -> dict[str, np.ndarray]:
    torch = _torch()
    size = os.path.getsize(path)
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                if sum(part.file_size for part in archive.infolist()) > size:
                    raise ValueError("it is compressed; PyTorch's own files are not.")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as a PyTorch checkpoint of plain tensors (nothing in it was executed): "
            f"{_first_line(error)} It is damaged or holds more than tensors. If you trust its source, write only its "
            "tensors to another file: torch.save(torch.load(SRC, weights_only=False)['state_dict'], DST)"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(f"{path} has no state dict: it must be a dictionary of named tensors.")
    try:
        if sum(value.numel() * value.element_size() for value in state.values()) > _MAX_RATIO * size:
            raise ValueError("They are larger than the file.")
        return {name: _float32(_plain(value)) for name, value in state.items()}
    except Exception as error:  # sparse, quantized, without values, ...
        raise ValueError(f"{path} has tensors that are not plain arrays of numbers. {_first_line(error)}") from error


def _plain(tensor: Any) -> Any:
    """Convert a tensor for NumPy: without gradient, and at least float32 if it is floating point."""
    tensor = tensor.detach()
    return tensor.float() if tensor.is_floating_point() else tensor


def _first_line(error: Exception) -> str:
    """Return the first line of an error message, without terminal control characters."""
    lines = re.sub(r"\x1b\[\d+m", "", str(error)).strip().splitlines() or [type(error).__name__]
    line = lines[0] if len(lines[0]) <= _MAX_MESSAGE else lines[0][:_MAX_MESSAGE] + " ..."
    return line if line.isprintable() else repr(line)


def _float32(values: object) -> np.ndarray:
    values = np.asarray(values)
    return values.astype("float32", copy=False) if np.issubdtype(values.dtype, np.floating) else values


def _torch() -> ModuleType:
    """Import PyTorch; raise ImportError if it is missing or too old to read untrusted files safely."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(f"PyTorch's checkpoints need PyTorch: {install_command('convert')}.") from error
    if tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2]) < _SAFE_TORCH:
        raise ImportError(
            f"PyTorch {torch.__version__} can be made to run code by a crafted checkpoint (CVE-2025-32434): "
            "install PyTorch 2.6 or later."
        )
    return torch
