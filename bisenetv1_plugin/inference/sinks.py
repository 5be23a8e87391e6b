"""Masks out: into files."""

from __future__ import annotations

import os

import cv2
import numpy as np

from bisenetv1_plugin.drawing.painter import Painter
from bisenetv1_plugin.files import write

MADE_BY = "infer"  # see `files.whole_file`


class MaskFiles:
    """Writes masks as NAME.png (gray, the class numbers), color/NAME.png and, if asked, overlay/NAME.png.

    Args:
        save_dir (str): where.
        overlay (bool): the third as well, with a legend below the picture where the classes have names.
        painter (Painter, optional): the classes' colors and names; default: PaddleSeg's colors.
    """

    def __init__(self, save_dir: str, overlay: bool = False, painter: Painter | None = None) -> None:
        self._painter = painter or Painter()
        self._folders = folders(save_dir, overlay)
        for folder in self._folders.values():
            os.makedirs(folder, exist_ok=True)

    def write(self, name: str, mask: np.ndarray, pixels: np.ndarray, seconds: float = 0.0) -> None:
        """`mask` uint8 `[H, W]`, `pixels` uint8 BGR `[H, W, 3]`; when a frame is shown is no matter for a file.

        Raises:
            OSError: a file cannot be written; it is not there then.
        """
        paths = {kind: os.path.join(folder, f"{name}.png") for kind, folder in self._folders.items()}
        write_picture(paths[""], mask, MADE_BY)
        write(paths["color"], self._painter.indexed(mask), MADE_BY)
        if "overlay" in paths:
            picture = self._painter.with_legend(self._painter.overlay(mask, pixels), mask)
            write_picture(paths["overlay"], picture, MADE_BY)


def folders(save_dir: str, overlay: bool) -> dict[str, str]:
    """The folders that a `MaskFiles` writes NAME.png into, by what they hold."""
    return {kind: os.path.join(save_dir, kind) for kind in ("", "color", *(["overlay"] * overlay))}


def write_picture(path: str, picture: np.ndarray, kind: str) -> None:
    """Write uint8 `[H, W]` or BGR `[H, W, 3]` in the format of the path's ending; `kind`: see `files.whole_file`.

    Not by `cv2.imwrite`, which reports success for what a full disk has swallowed.

    Raises:
        OSError: the file cannot be written; it is not there then.
    """
    write(path, cv2.imencode(os.path.splitext(path)[1], picture)[1].tobytes(), kind)
