"""What reading an image file can raise, and what its first bytes say, wherever this package reads one."""

import struct
import zlib
from typing import NamedTuple, Tuple

from PIL import Image

# What Pillow raises for a file that is no whole image. A picture of more than 179 million pixels is a
# DecompressionBombError to it: a few bytes that fill the memory.
READ_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),  # the warning where warnings are made errors
)
JPEG_FORMATS = ("JPEG", "MPO")  # MPO: a JPEG with a second picture behind, as telephones write it
_ORIENTATION = 0x0112


class Header(NamedTuple):
    """The first bytes of an image file.

    Attributes:
        stored: (width, height) as the pixels lie in the file, which is how Pillow reads a label.
        seen: (width, height) as OpenCV, PaddleSeg's reader of images, turns it by its EXIF orientation.
        orientation: of EXIF, 1..8; 1 is upright, 5..8 swap width and height.
        format, mode: Pillow's, such as `JPEG` and `RGB`.
    """

    stored: Tuple[int, int]
    seen: Tuple[int, int]
    orientation: int
    format: str
    mode: str


def header(path) -> Header:
    """Reads the header of an image file; no pixel is decoded.

    Raises:
        READ_ERRORS: the file is not there, is no image, or claims more pixels than Pillow reads.
    """
    with Image.open(path) as image:
        orientation = 1
        # A PNG's EXIF may stand behind its pixels, and getexif() would decode them to get there.
        if image.format in JPEG_FORMATS or (image.format == "PNG" and "exif" in image.info):
            orientation = image.getexif().get(_ORIENTATION, 1)
        orientation = orientation if orientation in range(1, 9) else 1
        width, height = image.size
        seen = (height, width) if orientation >= 5 else (width, height)
        return Header((width, height), seen, orientation, image.format or "", image.mode)
