"""Finds lists with swapped columns: the label first, then the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

import numpy as np

from bisenetv1_plugin import image_files

_SAMPLES = 3  # pairs, spread over the list
_COLORS = 64  # more than a label has, fewer than a photograph
_PIXELS = 1 << 18  # number of pixels read, about


def order_fault(list_path: str | Path, pairs: Sequence[tuple[Any, ...]]) -> str | None:
    """A message if the first files of the pairs have few colors, as labels do, and the second files have many.

    In the usual case, an RGB file before a gray or palette file, nothing is decoded.

    Args:
        list_path: the list, for the message.
        pairs: the lines of the list, with the two files first.
    """
    some = sorted({index * (len(pairs) - 1) // (_SAMPLES - 1) for index in range(_SAMPLES)}) if pairs else []
    if not some or not all(_looks_swapped(*pairs[index][:2]) for index in some):
        return None
    first, second = pairs[0][:2]
    return (
        f"{list_path} has the label in front of the image: {first} has few colors, as labels have, and {second} has "
        "many. Write `image label` in every line."
    )


def _looks_swapped(first: str | Path, second: str | Path) -> bool:
    try:
        modes = [image_files.header(path).mode for path in (first, second)]
        return not (modes[0] == "RGB" and modes[1] in "LP") and _colors(first) <= _COLORS < _colors(second)
    except image_files.READ_ERRORS:  # reported by other checks
        return False


def _colors(path: str | Path) -> int:
    """The number of colors among pixels spread over an image."""
    with image_files.open_image(path) as image:
        pixels = np.asarray(image if image.mode in ("L", "P") else image.convert("RGB"))
    step = max(1, int((pixels.shape[0] * pixels.shape[1] / _PIXELS) ** 0.5))
    return len(np.unique(pixels[::step, ::step].reshape(-1, *pixels.shape[2:]), axis=0))
