"""A picture and the network's answer to it, kept in an export: whoever runs it can see whether it runs right."""

from __future__ import annotations

import math
import os

import numpy as np

from bisenetv1_plugin.errors import InputError, brief
from bisenetv1_plugin.inference.runtimes import Runtime

NAME = "probe.npz"
_LARGEST = 1 << 28  # values of a probe's picture


def picture(shape: tuple[int, int, int, int]) -> np.ndarray:
    """Blobs and noise, the same for a shape everywhere: float32 in -2..2, as `Normalize` leaves pixels."""
    random = np.random.RandomState(0)
    batch, channels, height, width = shape
    coarse = random.uniform(-1.5, 1.5, (batch, channels, 1 + height // 16, 1 + width // 16))
    blobs = coarse.repeat(16, axis=2).repeat(16, axis=3)[:, :, :height, :width]
    return (blobs + random.uniform(-0.5, 0.5, shape)).astype("float32")


def is_right(runtime: Runtime, folder: str) -> bool | None:
    """Whether a runtime gives the network's answer in fp32; None where the export holds no probe.

    Raises:
        InputError: the probe's file is damaged.
    """
    path = os.path.join(folder, NAME)
    if not os.path.isfile(path):
        return None
    try:
        with np.load(path) as kept:
            shape, mask, clear = kept["shape"], kept["mask"], kept["clear"]
    except Exception as error:  # what a damaged file makes zipfile and NumPy raise has no end
        raise InputError(f"{path} cannot be read ({brief(error)}): export again, or remove it.") from error
    sizes = shape.ravel().tolist()
    if shape.shape != (4,) or shape.dtype.kind not in "iu" or min(sizes) < 1 or math.prod(sizes) > _LARGEST:
        raise InputError(f"{path}: its picture has the shape {sizes[:9]}: export again, or remove it.")
    batch, channels, height, width = sizes
    if mask.shape != (batch, height, width) or clear.shape != mask.shape or clear.dtype != bool:
        raise InputError(f"{path}: its mask does not fit its picture: export again, or remove it.")
    output = runtime.run(picture((batch, channels, height, width)))
    found = output.argmax(axis=1) if output.ndim == 4 else output
    if found.size != mask.size:
        return False
    return bool((found.reshape(mask.shape) == mask)[clear].all()) if clear.any() else None
