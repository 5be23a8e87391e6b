"""The probe: a picture and the network's mask of it, stored in an export to check a runtime."""

from __future__ import annotations

import math
import os

import numpy as np

from bisenetv1_plugin.errors import InputError, brief
from bisenetv1_plugin.inference.runtimes import Runtime

NAME = "probe.npz"
_LARGEST = 1 << 28  # number of values in the picture


def picture(shape: tuple[int, int, int, int]) -> np.ndarray:
    """Blobs and noise, float32 in -2..2 like normalized pixels. A shape gives the same values on every machine."""
    random = np.random.RandomState(0)
    batch, channels, height, width = shape
    coarse = random.uniform(-1.5, 1.5, (batch, channels, 1 + height // 16, 1 + width // 16))
    blobs = coarse.repeat(16, axis=2).repeat(16, axis=3)[:, :, :height, :width]
    return (blobs + random.uniform(-0.5, 0.5, shape)).astype("float32")


def is_right(runtime: Runtime, folder: str) -> bool | None:
    """Whether a runtime gives the network's fp32 mask of the probe; None if the export has no probe.

    Raises:
        InputError: the probe's file is damaged.
    """
    path = os.path.join(folder, NAME)
    if not os.path.isfile(path):
        return None
    try:
        with np.load(path) as stored:
            shape, mask, clear = stored["shape"], stored["mask"], stored["clear"]
    except Exception as error:  # zipfile and NumPy may raise anything for a damaged file
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
