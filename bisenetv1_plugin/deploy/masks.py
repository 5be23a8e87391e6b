"""Masks out: back to the image's own size, and into files."""

from __future__ import annotations

import os
from typing import Any

import cv2
import numpy as np

from bisenetv1_plugin import figures
from bisenetv1_plugin.files import write


def restore(mask: np.ndarray, trans_info: list[Any]) -> np.ndarray:
    """Undo the resizing and padding of the transforms: uint8 `[h, w]` -> the image's own `[H, W]`."""
    for kind, (height, width) in reversed(trans_info):
        if (kind[0] if isinstance(kind, list) else kind) == "resize":
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        else:
            mask = mask[:height, :width]
    return mask


class Writer:
    """Writes masks as NAME.png (gray, the class numbers), color/NAME.png and, if asked, overlay/NAME.png."""

    def __init__(self, save_dir: str, overlay: bool = False) -> None:
        self._colors = np.ascontiguousarray(figures.palette(256)[np.newaxis, :, ::-1])  # as OpenCV looks up: BGR
        self._folders = {kind: os.path.join(save_dir, kind) for kind in ("", "color", *(["overlay"] * overlay))}
        for folder in self._folders.values():
            os.makedirs(folder, exist_ok=True)

    def write(self, name: str, mask: np.ndarray, pixels: np.ndarray) -> None:
        """`mask` uint8 `[H, W]`, `pixels` uint8 BGR `[H, W, 3]`.

        Raises:
            OSError: a file cannot be written; it is not there then.
        """
        color = cv2.LUT(cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR), self._colors)
        pictures = {"": mask, "color": color}
        if "overlay" in self._folders:
            pictures["overlay"] = cv2.addWeighted(pixels, 0.5, color, 0.5, 0)
        for kind, picture in pictures.items():
            write_picture(os.path.join(self._folders[kind], f"{name}.png"), picture)


def write_picture(path: str, picture: np.ndarray) -> None:
    """Write uint8 `[H, W]` or BGR `[H, W, 3]` in the format of the path's ending.

    Not by `cv2.imwrite`, which reports success for what a full disk has swallowed.

    Raises:
        OSError: the file cannot be written; it is not there then.
    """
    write(path, cv2.imencode(os.path.splitext(path)[1], picture)[1].tobytes())
