"""Which pictures a server takes: decided by their first bytes, before a pixel is decoded."""

from __future__ import annotations

from typing import BinaryIO

from PIL import Image

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.image_files import JPEG_FORMATS, READ_ERRORS

# Other formats have had more faults in their decoders than photographs need.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
# Every scan of a progressive JPEG goes over all pixels, and may be a few bytes long. Writers of JPEG make about ten.
_MOST_SCANS, _SCAN = 100, b"\xff\xda"


def check(file: str | BinaryIO, name: str, megapixels: int, server: str = "this page") -> None:
    """Refuse a picture before a pixel is decoded.

    Args:
        file (str or BinaryIO): its path, or the file, which is left at another place.
        name (str): what it is called in the message.
        megapixels (int): million pixels of the largest that is taken.
        server (str): what takes it, in the message.

    Raises:
        InputError: it is none that is taken, or has too many pixels.
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
            f"{name} cannot be read: it is no image that is taken here; save it as PNG, JPEG, WebP or BMP."
        ) from error
    check_pixels(name, width, height, megapixels, server)
    if format in JPEG_FORMATS:
        scans = _content(file).count(_SCAN)
        if scans > _MOST_SCANS:
            raise InputError(f"{name} has {scans} scans, and {_MOST_SCANS} are taken at most: save it anew.")


def check_pixels(name: str, width: int, height: int, megapixels: int, server: str = "this page") -> None:
    """
    Raises:
        InputError: they are too many.
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
