"""Masks out: back to the image's own size, and into files."""

from __future__ import annotations

import functools
import os
import struct
import zlib
from typing import Any, Sequence

import cv2
import numpy as np

from bisenetv1_plugin import figures
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.files import write

MADE_BY = "infer"  # see `files.whole_file`
_MOST = 256  # classes, of a mask of 8 bits


def of_output(output: np.ndarray, trans_info: list[Any]) -> np.ndarray:
    """The mask of a picture in its own size, uint8 `[H, W]`.

    As PaddleSeg's `val` and `predict`, it enlarges the logits and takes the best class then. Of an export that ends in
    argmax there is only a mask to enlarge.

    Args:
        output (numpy.ndarray): what a runtime gives for the picture: logits `[classes, h, w]` or integer `[h, w]`.
        trans_info (list): PaddleSeg's record of the transforms.

    Raises:
        InputError: there are more classes than a mask has numbers.
    """
    if output.ndim == 3:
        check_classes(output.shape[0])
        return restore_logits(output, trans_info).argmax(axis=0).astype("uint8")
    if output.size:
        check_classes(int(output.max()) + 1)
    return restore(output.astype("uint8"), trans_info)


def logits_of(output: np.ndarray, output_op: str) -> np.ndarray:
    """The logits of what an export gives; of probabilities, up to a constant of each pixel, which changes no class."""
    return np.log(np.maximum(output, np.finfo("float32").tiny)) if output_op == "softmax" else output


def check_classes(count: int) -> None:
    """
    Raises:
        InputError: a mask of 8 bits has no number for so many classes.
    """
    if count > _MOST:
        raise InputError(f"the network has {count} classes or more, and a mask of 8 bits has numbers for {_MOST}.")


def restore(mask: np.ndarray, trans_info: list[Any]) -> np.ndarray:
    """Undo the resizing and padding of the transforms: uint8 `[h, w]` -> the image's own `[H, W]`."""
    for kind, (height, width) in reversed(trans_info):
        if (kind[0] if isinstance(kind, list) else kind) == "resize":
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        else:
            mask = mask[:height, :width]
    return mask


def restore_logits(logits: np.ndarray, trans_info: list[Any]) -> np.ndarray:
    """The same for logits `[classes, h, w]`, bilinear as in PaddleSeg's `reverse_transform`: `[classes, H, W]`."""
    for kind, (height, width) in reversed(trans_info):
        if (kind[0] if isinstance(kind, list) else kind) == "resize":
            planes = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in logits]
            logits = np.stack(planes)
        else:
            logits = logits[:, :height, :width]
    return logits


class Painter:
    """The classes' colours for masks.

    Args:
        classes (sequence[str]): the names of the classes, by number.
        colors (sequence[tuple[int]] or numpy.ndarray): their colours, RGB 0..255; default: PaddleSeg's.
    """

    def __init__(self, classes: Sequence[str] = (), colors: Any = ()) -> None:
        self._classes = classes
        self._rgb = figures.palette(len(colors) or 256, colors)
        # The frames of a video have the same legend.
        self._legend = functools.lru_cache(16)(
            lambda width, numbers: figures.legend(width, numbers, self._classes, self._rgb)
        )
        self._bgr = np.ascontiguousarray(self._rgb[np.newaxis, :, ::-1])  # as OpenCV looks up

    def color(self, mask: np.ndarray) -> np.ndarray:
        """uint8 `[H, W]` -> BGR `[H, W, 3]`."""
        return cv2.LUT(cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR), self._bgr)

    def indexed(self, png: bytes) -> bytes:
        """A PNG, gray in 8 bits, with the colours as its palette.

        The same compressed pixels under another heading (PNG specification, 11.2.2 and 11.2.3): to compress them a
        second time would be an eighth of all reading and writing.
        """
        heading = png[16:25] + b"\3" + png[26:29]  # the kind of colour: indexed
        return b"".join([png[:8], _chunk(b"IHDR", heading), _chunk(b"PLTE", self._rgb.tobytes()), png[33:]])

    def overlay(self, mask: np.ndarray, pixels: np.ndarray, opacity: float = 0.5) -> np.ndarray:
        """The colours over `pixels`, uint8 BGR `[H, W, 3]`."""
        return cv2.addWeighted(pixels, 1 - opacity, self.color(mask), opacity, 0)

    def with_legend(self, picture: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """A picture, BGR, on a strip that names the classes of its mask, or all of them, where they have names."""
        if not self._classes:
            return picture
        shown = range(len(self._classes)) if mask is None else np.unique(mask)
        strip = self._legend(picture.shape[1], tuple(shown))
        return np.vstack([picture, strip[..., ::-1]])


class Writer:
    """Writes masks as NAME.png (gray, the class numbers), color/NAME.png and, if asked, overlay/NAME.png.

    Args:
        save_dir (str): where.
        overlay (bool): the third as well, with a legend below the picture where the classes have names.
        painter (Painter, optional): the classes' colours and names; default: PaddleSeg's colours.
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
        png = _encoded(".png", mask)
        write(paths[""], png, MADE_BY)
        write(paths["color"], self._painter.indexed(png), MADE_BY)
        if "overlay" in paths:
            picture = self._painter.with_legend(self._painter.overlay(mask, pixels), mask)
            write_picture(paths["overlay"], picture, MADE_BY)


def folders(save_dir: str, overlay: bool) -> dict[str, str]:
    """The folders that a `Writer` writes NAME.png into, by what they hold."""
    return {kind: os.path.join(save_dir, kind) for kind in ("", "color", *(["overlay"] * overlay))}


def write_picture(path: str, picture: np.ndarray, kind: str) -> None:
    """Write uint8 `[H, W]` or BGR `[H, W, 3]` in the format of the path's ending; `kind`: see `files.whole_file`.

    Not by `cv2.imwrite`, which reports success for what a full disk has swallowed.

    Raises:
        OSError: the file cannot be written; it is not there then.
    """
    write(path, _encoded(os.path.splitext(path)[1], picture), kind)


def _encoded(ending: str, picture: np.ndarray) -> bytes:
    return cv2.imencode(ending, picture)[1].tobytes()


def _chunk(kind: bytes, content: bytes) -> bytes:
    """Of a PNG (5.3)."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
