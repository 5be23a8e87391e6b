"""Read image files: their headers, their pixels, and the errors of both. The whole package reads images here.

Python opens the files, not OpenCV: OpenCV crashes on a name that is not text, and hangs on a pipe or a device.
"""

from __future__ import annotations

import functools
import io
import os
import stat
import struct
import sys
import zlib
from contextlib import contextmanager
from typing import BinaryIO, Iterator, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

# The errors of Pillow for a file that is not a whole image. For a picture of more than 179 million pixels it raises
# DecompressionBombError, because a few bytes could fill the memory.
READ_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),  # the warning if warnings are errors
)
JPEG_FORMATS = ("JPEG", "MPO")  # MPO: a JPEG followed by a second picture, as phones write it
_ORIENTATION = 0x0112
_NO_FILE = "it is not a regular file but a pipe, a device or a folder"
# The first bytes of the formats that some version of OpenCV reads, and Pillow's names for them.
_SIGNS = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"BM": "BMP",
    **dict.fromkeys((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), "TIFF"),
    b"RIFF": "WEBP",
    b"GIF8": "GIF",
    **dict.fromkeys((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"), "JPEG2000"),
    **dict.fromkeys((b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), "PPM"),
    **{b"P7": "PAM", b"PF": "PFM", b"Pf": "PFM", b"#?R": "HDR", b"v/1\x01": "EXR", b"\x59\xa6\x6a\x95": "SUN"},
}
MOST_PIXELS = 1 << 30  # of a picture: OpenCV reads no more
_MOST_BYTES = 1 << 31  # of an image file: OpenCV counts in 31 bits


class Header(NamedTuple):
    """The header of an image file.

    Attributes:
        stored_size: (width, height) of the stored pixels, as Pillow reads a label.
        upright_size: (width, height) after a rotation by EXIF, as OpenCV reads an image for PaddleSeg.
        orientation: EXIF's orientation, 1..8; 1 is upright, 5..8 swap width and height.
        format, mode: Pillow's names, such as `JPEG` and `RGB`.
    """

    stored_size: tuple[int, int]
    upright_size: tuple[int, int]
    orientation: int
    format: str
    mode: str


def header(path: str | os.PathLike[str]) -> Header:
    """Read the header of an image file without decoding its pixels.

    Raises:
        READ_ERRORS: the file is missing, is not a regular file or an image, or has more pixels than Pillow reads.
    """
    with open_image(path) as image:
        orientation = 1
        # A PNG's EXIF may come after its pixels, and getexif() would decode them first.
        if image.format in JPEG_FORMATS or (
            image.format in ("PNG", "WEBP") and "exif" in image.info and opencv_turns(image.format)
        ):
            orientation = image.getexif().get(_ORIENTATION, 1)
        orientation = orientation if orientation in range(1, 9) else 1
        width, height = image.size
        upright = (height, width) if orientation >= 5 else (width, height)
        return Header((width, height), upright, orientation, image.format or "", image.mode)


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Whether a path is an existing file or a link to one, and not a pipe, a device or a folder."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):  # ValueError: not a path
        return False


@contextmanager
def open_image(file: str | os.PathLike[str] | BinaryIO) -> Iterator[ImageFile.ImageFile]:
    """`Image.open` for a regular file, or for one in memory.

    It also raises READ_ERRORS for a pipe or a device, which might never end, and for PostScript, whatever the file's
    name: Pillow would start Ghostscript, which runs the program in the file.
    """
    if isinstance(file, (str, os.PathLike)) and not stat.S_ISREG(os.stat(file).st_mode):
        raise OSError(_NO_FILE)
    with Image.open(file) as image:
        if image.format == "EPS":
            raise UnidentifiedImageError("it is PostScript, which is a program and not a picture")
        yield image


@contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Open a regular file for reading. It never blocks on a pipe.

    Raises:
        OSError: the file is missing, is not a regular file, or cannot be read.
        ValueError: the path is invalid, as with a NUL in it.
    """
    # Without O_NONBLOCK, opening a pipe waits for a writer.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(_NO_FILE)
        yield file


def read_bytes(path: str | os.PathLike[str], most: int = _MOST_BYTES) -> bytes:
    """The content of a regular file.

    Raises:
        OSError, ValueError: see `open_regular`; or the file has more than `most` bytes, and might fill the memory.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(f"it has {size} bytes, more than the limit of {most}")
        return file.read(size)  # not `most`: Python would allocate that many bytes at once


def decode_bytes(content: bytes, flags: int = cv2.IMREAD_COLOR) -> np.ndarray | None:
    """Decode the content of an image file with `cv2.imdecode`; None if OpenCV cannot.

    Raises:
        MemoryError: there is not enough memory.
    """
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:  # an empty file, or one with too many pixels, for example
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(str(error)) from error
        return None


def decode_file(path: str | os.PathLike[str], flags: int = cv2.IMREAD_COLOR) -> np.ndarray | None:
    """Decode a regular file of any name as `cv2.imread` does; None if it cannot be read or decoded."""
    try:
        return decode_bytes(read_bytes(path), flags)
    except (OSError, ValueError, MemoryError):
        return None


def has_reader(path: str | os.PathLike[str]) -> bool:
    """Like `cv2.haveImageReader` for a file of any name: whether OpenCV reads a format with these first bytes."""
    try:
        with open_regular(path) as file:
            start = file.read(12)
    except (OSError, ValueError):
        return False
    format = "AVIF" if start[4:12] in (b"ftypavif", b"ftypavis") else None
    format = format or next((format for sign, format in _SIGNS.items() if start.startswith(sign)), None)
    return format is not None and _opencv_reads(format)


@functools.lru_cache(maxsize=None)
def _opencv_reads(format: str) -> bool:
    """Whether OpenCV reads a format, by Pillow's name: tried with a small picture that Pillow writes."""
    picture = io.BytesIO()
    try:
        Image.new("RGB", (16, 16)).save(picture, format)
    except (KeyError, OSError, ValueError):  # Pillow cannot write this format; assume that OpenCV reads it
        return True
    return cv2.imdecode(np.frombuffer(picture.getvalue(), np.uint8), cv2.IMREAD_COLOR) is not None


@functools.lru_cache(maxsize=None)
def opencv_turns(format: str) -> bool:
    """Whether this OpenCV rotates a format by its EXIF, by Pillow's name; for WebP, only version 5 does."""
    picture, exif = io.BytesIO(), Image.Exif()
    exif[_ORIENTATION] = 6
    try:
        Image.new("RGB", (32, 16)).save(picture, format, exif=exif)
    except (KeyError, OSError, ValueError):  # Pillow cannot write this format
        return False
    pixels = cv2.imdecode(np.frombuffer(picture.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    return pixels is not None and pixels.shape[:2] == (32, 16)


def name_fault(path: str | os.PathLike[str]) -> str | None:
    """A sentence that says why PaddleSeg cannot read an image of this name; None if it can.

    PaddleSeg passes names to `cv2.imread`. That crashes on the surrogates that Python uses for bytes that are not text,
    and on Windows it reads UTF-8 in the system's code page.
    """
    path = os.fspath(path)
    if os.name == "nt" and not path.isascii():
        return f"OpenCV, which reads images for PaddleSeg, needs ASCII names on Windows: rename {path}."
    return text_fault(path)


def text_fault(path: str | os.PathLike[str]) -> str | None:
    """A sentence that says why a list, which is UTF-8, cannot contain this path; None if it can."""
    path = os.fspath(path)
    try:
        path.encode("utf-8")
        return None
    except UnicodeEncodeError:
        pass
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:  # surrogates that JSON may contain, but no file name
        name = path.encode("utf-8", "surrogatepass")
    shown = name.decode("utf-8", "backslashreplace")
    if "\\x" in shown:
        return f"the name of {shown} is not UTF-8, which PaddleSeg's lists need: rename it."
    used = sys.getfilesystemencoding()
    return f"the name of {shown} cannot be used while names are {used}: set LC_ALL=C.UTF-8 and PYTHONUTF8=1."
