"""Checks of pictures that a server receives, before a pixel is decoded."""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.image_files import JPEG_FORMATS, READ_ERRORS

# Photographs need no other formats, and the decoders of the others have had more security bugs.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
# A scan of a progressive JPEG goes over all pixels, and may take a few bytes of the file. Usual files have about ten.
_MAX_SCANS, _SCAN_MARKER = 100, b"\xff\xda"


def check(file: str | BinaryIO, name: str, megapixels: int, server: str = "this page") -> None:
    """Refuse a picture before a pixel is decoded.

    Args:
        file: its path, or an open file, whose position changes.
        name: its name in the message.
        megapixels: million pixels of the largest picture.
        server: the server's name in the message.

    Raises:
        InputError: it is not an accepted image, or has too many pixels.
    """
    try:
        with Image.open(file, formats=_FORMATS) as image:
            (width, height), format = image.size, image.format
    except Image.DecompressionBombError as error:  # Pillow's own limit
        raise InputError(
            f"{name} has too many pixels, and {server} takes {megapixels} million at most: make it smaller."
        ) from error
    except READ_ERRORS as error:
        raise InputError(
            f"{name} cannot be read: it is not an image that {server} accepts; save it as PNG, JPEG, WebP or BMP."
        ) from error
    check_pixels(name, width, height, megapixels, server)
    if format in JPEG_FORMATS:
        scans = _content(file).count(_SCAN_MARKER)
        if scans > _MAX_SCANS:
            raise InputError(f"{name} has {scans} scans, and a JPEG may have {_MAX_SCANS}: save it again.")


def check_pixels(name: str, width: int, height: int, megapixels: int, server: str = "this page") -> None:
    """Refuse a size of too many pixels.

    Raises:
        InputError: width x height is more than `megapixels` million.
    """
    if width * height > megapixels * 1e6:
        raise InputError(
            f"{name} has {width} x {height} pixels, and {server} takes {megapixels} million at most: make it smaller."
        )


def _content(file: str | BinaryIO) -> bytes:
    if isinstance(file, str):
        with open(file, "rb") as opened:
            return opened.read()
    file.seek(0)
    return file.read()
