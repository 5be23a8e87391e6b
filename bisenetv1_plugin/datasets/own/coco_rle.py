"""COCO's run-length encoding: the numbers of pixels outside, inside, outside, ... down the columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from bisenetv1_plugin.errors import InputError


def decode(where: str, shape: dict[str, Any], height: int, width: int) -> np.ndarray:
    """Decodes a mask, bool [H, W], True inside.

    pycocotools is not used, because it does not check the counts and writes past its memory if they are too large.

    Args:
        where: place of the mask in the JSON, for messages.
        shape: a dict with `size`, [height, width], and `counts`, a list of numbers or COCO's text.

    Raises:
        InputError: the counts are invalid, or the size is another.
    """
    if shape.get("size") != [height, width]:
        raise InputError(f"{where}.size is not height and width of the image, [{height}, {width}]: correct it.")
    counts = shape.get("counts")
    if isinstance(counts, str):
        counts = _counts(counts)
    valid = isinstance(counts, list) and all(type(count) is int and count >= 0 for count in counts)
    if counts is None or not valid or sum(counts) > height * width:
        raise InputError(f"{where}.counts do not fit {width}x{height} pixels: export them again.")
    flat = np.zeros(height * width, bool)  # pixels after the last count are outside
    runs = np.repeat((np.arange(len(counts)) & 1).astype(bool), counts)
    flat[: len(runs)] = runs
    return flat.reshape(width, height).T


def _counts(text: str) -> list[int]:
    """The numbers in COCO's text: five bits per character, the lowest first.

    From the fourth on, each is the difference from the number two before. Invalid text gives a negative number.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            return [-1]
        value |= (bits & 0x1F) << shift
        shift += 5
        if not bits & 0x20:
            if bits & 0x10:
                value -= 1 << shift
            counts.append(value + counts[-2] if len(counts) > 2 else value)
            value = shift = 0
    return [-1] if shift else counts
