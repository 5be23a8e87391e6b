"""The images that a program may pass: a path, the bytes of a file, a NumPy array or a PIL image."""

from __future__ import annotations

import os
import re
from typing import Any, Iterator, Sequence

import numpy as np
from PIL import Image, ImageOps

from bisenetv1_plugin.errors import InputError, brief
from bisenetv1_plugin.image_files import opencv_turns
from bisenetv1_plugin.inference import sources
from bisenetv1_plugin.inference.sources import Picture

KINDS = "a path, the bytes of an image file, a NumPy array, a PIL image, or a list of them"


def to_pixels(image: Any, order: str | None = None) -> np.ndarray:
    """The pixels of an image, uint8 BGR `[H, W, 3]`. A path, its bytes and its PIL image give the same pixels.

    Args:
        image: see `segmenter.Segmenter.__call__`.
        order: 'RGB' or 'BGR', the channel order of an array.

    Raises:
        InputError: the image cannot be read or has another type; the message says what to pass.
    """
    if order not in (None, "RGB", "BGR"):
        raise InputError(f"order is {order!r}; it is 'RGB' or 'BGR'.")
    if isinstance(image, (str, os.PathLike)):
        return _from_path(os.fspath(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        try:
            return sources.decode(bytes(image))
        except InputError as error:
            raise InputError(f"these {len(image)} bytes are not a readable image file ({error}).") from error
    if isinstance(image, Image.Image):
        return _from_pillow(image)
    if isinstance(image, np.ndarray):
        return _from_array(image, order)
    raise InputError(f"a picture is {KINDS}, not a {type(image).__name__}.")


def to_pictures(several: Sequence[Any], order: str | None = None) -> Iterator[Picture]:
    """A `Picture` of each image, named by its path or its index."""
    for index, image in enumerate(several):
        place = f"picture {index}" if len(several) > 1 else "the picture"
        name = os.fspath(image) if isinstance(image, (str, os.PathLike)) else place
        yield Picture(name, to_pixels(image, order))


def _from_path(path: str) -> np.ndarray:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", path):
        raise InputError(f"{path} is an address, and nothing is downloaded: download the file, or give its bytes.")
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder: give a list of the paths of its images.")
    if path.lower().endswith(sources.VIDEOS):
        raise InputError(f"{path} is a video: use `segmenter.video(path)`.")
    try:
        return sources.decode(path)
    except InputError as error:
        raise InputError(f"{path} cannot be read ({error}).") from error


def _from_pillow(image: Image.Image) -> np.ndarray:
    """The pixels as OpenCV reads the file: upright, without transparency, the upper 8 of 16 bits."""
    if 0 in image.size:
        raise InputError(f"the PIL image has the size {image.size}: it has no pixels.")
    try:
        if not image.format or opencv_turns(image.format):  # OpenCV, and so PaddleSeg, rotates it too
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):
            gray = np.asarray(image).clip(0, 65535) >> 8
            image = Image.fromarray(gray.astype("uint8"))
        elif image.mode == "F":
            raise InputError("a PIL image of floating point numbers (mode F) has no known range: convert it to mode L.")
        return np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., ::-1])
    except sources.READ_ERRORS as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"the PIL image cannot be read ({brief(error)}).") from error


def _from_array(array: np.ndarray, order: str | None) -> np.ndarray:
    if array.dtype != np.uint8:
        raise InputError(f"the array is {array.dtype}; it must be uint8, with values from 0 to 255.")
    if array.ndim not in (2, 3) or not array.size or array.shape[2:] not in ((), (3,)):
        cure = " `array[..., :3]` drops the transparency." if array.shape[2:] == (4,) else ""
        raise InputError(f"the array has the shape {list(array.shape)}; it must be [H, W, 3] or, gray, [H, W].{cure}")
    if array.ndim == 2:
        return np.repeat(array[..., np.newaxis], 3, axis=2)
    if order is None:
        raise InputError("the channel order of an array is unknown: pass order='RGB' or order='BGR'.")
    return np.ascontiguousarray(array[..., ::-1] if order == "RGB" else array)
