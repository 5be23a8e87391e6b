"""Write masks, overlays and confidences as picture files."""

from __future__ import annotations

import os

import cv2
import numpy as np

from bisenetv1_plugin.drawing.painter import Painter
from bisenetv1_plugin.files import made_by, write
from bisenetv1_plugin.image_files import READ_ERRORS, open_image
from bisenetv1_plugin.inference.engine import SegmentedPicture
from bisenetv1_plugin.inference.postprocess import confidence_picture

MADE_BY = "infer"  # see `files.whole_file`


class MaskFiles:
    """Writes masks, overlays and confidences as NAME.png, each kind into its folder; see `output_folders`.

    Args:
        save_dir: the folder of the results.
        masks, overlay, confidence: what to write. An overlay has a legend below the picture if the classes have
            names.
        painter: the classes' colors and names; default: PaddleSeg's colors.
    """

    def __init__(
        self,
        save_dir: str,
        masks: bool = True,
        overlay: bool = False,
        confidence: bool = False,
        painter: Painter | None = None,
    ) -> None:
        self._painter = painter or Painter()
        self._folders = output_folders(save_dir, masks, overlay, confidence)
        for folder in self._folders.values():
            os.makedirs(folder, exist_ok=True)

    def write(self, found: SegmentedPicture) -> None:
        """Write the files of one picture.

        Raises:
            OSError: a file cannot be written; no part of it is left.
        """
        mask, picture = found.mask, found.picture
        for kind, folder in self._folders.items():
            path = os.path.join(folder, f"{picture.name}.png")
            if kind == "color":
                write(path, self._painter.indexed_png(mask), MADE_BY)
            elif kind == "overlay":
                overlay = self._painter.with_legend(self._painter.overlay(mask, picture.pixels), mask)
                write_picture(path, overlay, MADE_BY)
            elif kind == "confidence":
                assert found.confidence is not None, "the engine was made with confidence=True"
                write_picture(path, confidence_picture(found.confidence), MADE_BY)
            else:
                write_picture(path, mask, MADE_BY)


def output_folders(save_dir: str, masks: bool, overlay: bool, confidence: bool) -> dict[str, str]:
    """The folders that `MaskFiles` writes into, by the kind of their files.

    Gray masks of class numbers are in `save_dir`; color/ has the same masks with a palette; confidence/ has gray
    pictures, 0 to 255.
    """
    kinds = ["", "color"] * masks + ["overlay"] * (masks and overlay) + ["confidence"] * confidence
    return {kind: os.path.join(save_dir, kind) for kind in kinds}


def is_done(path: str) -> bool:
    """Whether a file was written by `infer` and is intact, by its checksums."""
    try:
        if not made_by(MADE_BY)(path):
            return False
        if path.endswith(".png"):
            with open_image(path) as image:
                image.verify()
    except READ_ERRORS:
        return False
    return True


def write_picture(path: str, picture: np.ndarray, kind: str) -> None:
    """Write uint8 `[H, W]` or BGR `[H, W, 3]` in the format of the path's ending; `kind`: see `files.whole_file`.

    `cv2.imwrite` would report success on a full disk.

    Raises:
        OSError: the file cannot be written; no part of it is left.
    """
    write(path, cv2.imencode(os.path.splitext(path)[1], picture)[1].tobytes(), kind)
