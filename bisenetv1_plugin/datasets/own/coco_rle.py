"""COCO's run-length encoding: how many pixels are outside, inside, outside, ... down the columns."""

from __future__ import annotations

from typing import Any

import numpy as np

from bisenetv1_plugin.errors import InputError


def decode(where: str, shape: dict[str, Any], height: int, width: int) -> np.ndarray:
    """bool [H, W], True inside.

    Not pycocotools: it believes the numbers, and writes behind the end of its memory where they are too many.

    Args:
        where: the object stands, for the sentence.
        shape: with `size`, height and width, and `counts`, a list or COCO's text of them.

    Raises:
        InputError: it is none, or not of this size.
    """
    if shape.get("size") != [height, width]:
        raise InputError(f"{where}.size is not height and width of the image, [{height}, {width}]: correct it.")
    counts = shape.get("counts")
    if isinstance(counts, str):
        counts = _counts(counts)
    valid = isinstance(counts, list) and all(type(count) is int and count >= 0 for count in counts)
    if counts is None or not valid or sum(counts) > height * width:
        raise InputError(f"{where}.counts are no numbers of pixels that {width}x{height} have: export them again.")
    flat = np.zeros(height * width, bool)  # what the counts leave out at the end is outside
    runs = np.repeat((np.arange(len(counts)) & 1).astype(bool), counts)
    flat[: len(runs)] = runs
    return flat.reshape(width, height).T


def _counts(text: str) -> list[int]:
    """The numbers of COCO's text: five bits a character, the lowest first; from the fourth on, less the last but one.

    Text that is none gives a number below zero.
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
