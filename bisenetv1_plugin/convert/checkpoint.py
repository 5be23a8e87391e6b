"""Reading and writing PyTorch's and safetensors' files, as dictionaries of NumPy arrays."""

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

# Before 2.6, a crafted file could run code even with weights_only=True (CVE-2025-32434).
_SAFE_TORCH = (2, 6)

# What training tools wrap a state dict in, and what they put before its names.
_WRAPPERS = ("state_dict", "model", "model_state", "net")
_PARALLEL = "module."

_MAX_NAME = 1000  # characters of a tensor's name
_MAX_MESSAGE = 300  # characters of a library's words
_MAX_RATIO = 4  # as large as its file are the tensors of one at most: some are in it once and have two names


def read(path: str) -> dict[str, np.ndarray]:
    """The tensors of a `.pth`, `.pt` or `.safetensors` file; nothing in the file is executed.

    Args:
        path: the file. PyTorch's formats are read with `weights_only=True`.

    Returns:
        dict[str, numpy.ndarray]: name -> values, floating point as float32.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is damaged, wants to run code, or holds no named tensors.
        ImportError: PyTorch or safetensors is missing, or PyTorch is older than 2.6.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"There is no checkpoint at {path}.")
    tensors = _read_safetensors(path) if path.endswith(".safetensors") else _read_torch(path)
    for name in tensors:
        if not isinstance(name, str) or len(name) > _MAX_NAME or not name.isprintable():
            shown = repr(name[:40]) if isinstance(name, str) else type(name).__name__
            raise ValueError(f"{path} holds no state dict: {shown} is no tensor's name.")
    prefix = _PARALLEL if all(name.startswith(_PARALLEL) for name in tensors) else ""
    return {name[len(prefix) :]: values for name, values in tensors.items()}


def write(tensors: Mapping[str, np.ndarray], path: str) -> None:
    """Write `{name: numpy.ndarray}` as a PyTorch state dict, or as safetensors if `path` ends so; whole or not at all.

    Raises:
        ImportError: PyTorch or safetensors is missing.
        OSError: the file cannot be written, or the disk is full.
    """
    torch = _torch()
    state = {name: torch.from_numpy(np.array(values)) for name, values in tensors.items()}
    # In memory first: on a full disk both libraries raise errors of their own, which don't say that it is full.
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
        raise ImportError("Reading .safetensors needs safetensors: pip install 'bisenetv1-plugin[convert]'.") from error
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
                    raise ValueError("it is compressed, which PyTorch's own files are not.")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{path} cannot be read as a PyTorch checkpoint of plain tensors, and nothing in it was executed: "
            f"{_first_line(error)} It is damaged or holds more than tensors. If you trust its source, write only its "
            "tensors to another file: torch.save(torch.load(SRC, weights_only=False)['state_dict'], DST)"
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(f"{path} holds no state dict: it must be a dictionary of named tensors.")
    try:
        if sum(value.numel() * value.element_size() for value in state.values()) > _MAX_RATIO * size:
            raise ValueError("They are larger than the file.")
        return {name: _float32(_plain(value)) for name, value in state.items()}
    except Exception as error:  # sparse, quantized, without values, ...
        raise ValueError(f"{path} holds tensors that are no plain arrays of numbers. {_first_line(error)}") from error


def _plain(tensor: Any) -> Any:
    """A tensor that NumPy knows: without a gradient, and of no precision below float32."""
    tensor = tensor.detach()
    return tensor.float() if tensor.is_floating_point() else tensor


def _first_line(error: Exception) -> str:
    """The first line of a library's message, without what a terminal would obey."""
    lines = re.sub(r"\x1b\[\d+m", "", str(error)).strip().splitlines() or [type(error).__name__]
    line = lines[0] if len(lines[0]) <= _MAX_MESSAGE else lines[0][:_MAX_MESSAGE] + " ..."
    return line if line.isprintable() else repr(line)


def _float32(values: object) -> np.ndarray:
    values = np.asarray(values)
    return values.astype("float32", copy=False) if np.issubdtype(values.dtype, np.floating) else values


def _torch() -> ModuleType:
    """PyTorch, if it is there and reads foreign files safely."""
    try:
        import torch
    except ImportError as error:
        raise ImportError("PyTorch's checkpoints need PyTorch: pip install 'bisenetv1-plugin[convert]'.") from error
    if tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2]) < _SAFE_TORCH:
        raise ImportError(
            f"PyTorch {torch.__version__} can be made to run code by a crafted checkpoint (CVE-2025-32434): "
            "install PyTorch 2.6 or later."
        )
    return torch
