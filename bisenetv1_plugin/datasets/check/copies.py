"""Images that train and validate: the same file, a copy of it, or the same pixels in another file.

A picture that was resized, turned or saved as JPEG once more has other pixels, and is not seen.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Iterable, Sequence

import numpy as np

from bisenetv1_plugin import image_files
from bisenetv1_plugin.datasets.check.report import Problem

_BLOCK = 1 << 20


def leaks(train: Sequence[str], val: Sequence[str]) -> list[Problem]:
    """Images that are in both splits, by the files themselves."""
    trained = {os.path.realpath(image) for image in train}
    return [
        Problem("leak", image, f"image {image} is in train and in val: take it out of one of the lists.")
        for image in val
        if os.path.realpath(image) in trained
    ]


def digest_of(pixels: np.ndarray) -> bytes | None:
    """For images of equal pixels the same; None for one of a single color, which says nothing: a black frame."""
    if all((row == pixels[0, 0]).all() for row in pixels):  # ends with the first row, as a rule
        return None
    found = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    found.update(np.ascontiguousarray(pixels).data)
    return found.digest()


def with_equal_pixels(train: Sequence[str], val: Sequence[str], digests: dict[str, bytes | None]) -> list[Problem]:
    """Images of val whose pixels are those of an image of train. `digests`: `digest_of` of the images, by path."""
    first: dict[bytes, str] = {}
    for image in train:
        digest = digests.get(image)
        if digest:
            first.setdefault(digest, image)
    found = ((image, first.get(digests.get(image) or b"")) for image in val)
    return [_copy(image, original) for image, original in found if original]


def with_equal_bytes(train: Sequence[str], val: Sequence[str], end: float) -> tuple[list[Problem], bool]:
    """Images of val whose file is a copy of one of train; and whether all could be looked at until `time.monotonic`.

    Only files of equal size are read.
    """
    sizes: dict[int, tuple[list[str], list[str]]] = {}
    for index, images in enumerate((train, val)):
        for image in dict.fromkeys(images):
            if image_files.is_regular(image):
                sizes.setdefault(os.path.getsize(image), ([], []))[index].append(image)
    problems: list[Problem] = []
    for trained, validated in sizes.values():
        if not trained or not validated:
            continue
        first: dict[bytes, str] = {}
        for image in trained:
            digest = _digest_of_file(image, end)
            if digest:
                first.setdefault(digest, image)
        for image in validated:
            original = first.get(_digest_of_file(image, end) or b"")
            pixels = image_files.decode_file(image) if original else None
            if original and pixels is not None and digest_of(pixels):
                problems.append(_copy(image, original))
        if time.monotonic() > end:
            return problems, False
    return problems, True


def _digest_of_file(path: str, end: float) -> bytes | None:
    """None where the file cannot be read, or no time is left."""
    found = hashlib.blake2b(digest_size=16)
    try:
        with image_files.open_regular(path) as file:
            for block in iter(lambda: file.read(_BLOCK), b""):
                if time.monotonic() > end:
                    return None
                found.update(block)
    except (OSError, ValueError):
        return None
    return found.digest()


def _copy(image: str, original: str) -> Problem:
    return Problem("leak", image, f"image {image} of val is a copy of {original} of train: take one of them out.")


def exclude_files(problems: Iterable[Problem], known: Iterable[Problem]) -> list[Problem]:
    """Those about files that no known problem is about."""
    files = {problem.file for problem in known}
    return [problem for problem in problems if problem.file not in files]
