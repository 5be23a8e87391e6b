"""Lists whose columns are exchanged: the label first, then the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Sequence

import numpy as np

from bisenetv1_plugin import image_files

_SAMPLES = 3  # pairs, spread over the list
_COLORS = 64  # more than a label has, fewer than a photograph
_PIXELS = 1 << 18  # about as many are counted


def order_fault(list_path: str | Path, pairs: Sequence[tuple[Any, ...]]) -> str | None:
    """Says so of a list whose first files have few colors, as labels have, and whose second ones have many.

    Nothing is decoded where a first file has colors and its second is gray or has a palette, as is usual.

    Args:
        list_path: the list, for the sentence.
        pairs: of files, which begin with the two of a line.
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
    except image_files.READ_ERRORS:  # which others report
        return False


def _colors(path: str | Path) -> int:
    """How many colors an image has, among pixels that are spread over it."""
    with image_files.open_image(path) as image:
        pixels = np.asarray(image if image.mode in ("L", "P") else image.convert("RGB"))
    step = max(1, int((pixels.shape[0] * pixels.shape[1] / _PIXELS) ** 0.5))
    return len(np.unique(pixels[::step, ::step].reshape(-1, *pixels.shape[2:]), axis=0))
