"""Finds images in both train and val: the same file, a copy of it, or the same pixels in another file.

An image that was resized, turned or saved again as JPEG has other pixels, and is not found.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import Callable, Iterable, Sequence, TypeVar

import numpy as np

from bisenetv1_plugin import image_files
from bisenetv1_plugin.datasets.check.report import Problem

_BLOCK = 1 << 20
Item = TypeVar("Item")


def leaks(train: Sequence[str], val: Sequence[str]) -> list[Problem]:
    """Files that are in both splits."""
    trained = {os.path.realpath(image) for image in train}
    return [
        Problem("leak", image, f"image {image} is in train and in val: take it out of one of the lists.")
        for image in val
        if os.path.realpath(image) in trained
    ]


def digest_of(pixels: np.ndarray) -> bytes | None:
    """A digest that equal images share; None for a single color, such as black frames, which are not copies."""
    if all((row == pixels[0, 0]).all() for row in pixels):  # usually ends with the first row
        return None
    found = hashlib.blake2b(str(pixels.shape).encode(), digest_size=16)
    found.update(np.ascontiguousarray(pixels).data)
    return found.digest()


def find_copies(
    train: Iterable[Item], val: Iterable[Item], digest: Callable[[Item], bytes | None]
) -> list[tuple[Item, Item]]:
    """Each item of val with the digest of an item of train, and the first such item. None is equal to nothing."""
    first: dict[bytes, Item] = {}
    for item in train:
        found = digest(item)
        if found:
            first.setdefault(found, item)
    pairs = ((item, digest(item)) for item in val)
    return [(item, first[found]) for item, found in pairs if found in first]


def pixel_copies(train: Sequence[str], val: Sequence[str], digests: dict[str, bytes | None]) -> list[Problem]:
    """Val images with the pixels of a train image. `digests`: `digest_of` of the images, by path."""
    return [_copy_problem(*pair) for pair in find_copies(train, val, digests.get)]


def file_copies(train: Sequence[str], val: Sequence[str], end: float) -> tuple[list[Problem], bool]:
    """Val images that are copies of a train file, and whether all were compared before `end` by `time.monotonic`.

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
        for image, original in find_copies(trained, validated, lambda path: _digest_of_file(path, end)):
            pixels = image_files.decode_file(image)
            if pixels is not None and digest_of(pixels):
                problems.append(_copy_problem(image, original))
        if time.monotonic() > end:
            return problems, False
    return problems, True


def _digest_of_file(path: str, end: float) -> bytes | None:
    """A file's digest; None if the file cannot be read or the time is over."""
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


def _copy_problem(image: str, original: str) -> Problem:
    return Problem("leak", image, f"image {image} of val is a copy of {original} of train: take one of them out.")


def exclude_files(problems: Iterable[Problem], known: Iterable[Problem]) -> list[Problem]:
    """The problems of files without a known problem."""
    files = {problem.file for problem in known}
    return [problem for problem in problems if problem.file not in files]
