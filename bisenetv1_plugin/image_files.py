"""Reading an image file, wherever this package does: what its first bytes say, its pixels, and what can be raised.

OpenCV is never given a path: a name that is no text kills the process in it, and a pipe or a device stops it for ever.
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

# What Pillow raises for a file that is no whole image. A picture of more than 179 million pixels is a
# DecompressionBombError to it: a few bytes that fill the memory.
READ_ERRORS = (
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error),
    *(Image.DecompressionBombError, Image.DecompressionBombWarning),  # the warning where warnings are made errors
)
JPEG_FORMATS = ("JPEG", "MPO")  # MPO: a JPEG with a second picture behind, as telephones write it
_ORIENTATION = 0x0112
_NO_FILE = "it is no regular file but a pipe, a device or a folder"
# How files begin that OpenCV reads in one version or another, and what Pillow calls them.
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
    """The first bytes of an image file.

    Attributes:
        stored_size: (width, height) as the pixels lie in the file, which is how Pillow reads a label.
        upright_size: (width, height) as OpenCV, PaddleSeg's reader of images, turns it by its EXIF orientation.
        orientation: of EXIF, 1..8; 1 is upright, 5..8 swap width and height.
        format, mode: Pillow's, such as `JPEG` and `RGB`.
    """

    stored_size: tuple[int, int]
    upright_size: tuple[int, int]
    orientation: int
    format: str
    mode: str


def header(path: str | os.PathLike[str]) -> Header:
    """Reads the header of an image file; no pixel is decoded.

    Raises:
        READ_ERRORS: the file is not there, is no regular file, no image, or claims more pixels than Pillow reads.
    """
    with open_image(path) as image:
        orientation = 1
        # A PNG's EXIF may stand behind its pixels, and getexif() would decode them to get there.
        if image.format in JPEG_FORMATS or (
            image.format in ("PNG", "WEBP") and "exif" in image.info and opencv_turns(image.format)
        ):
            orientation = image.getexif().get(_ORIENTATION, 1)
        orientation = orientation if orientation in range(1, 9) else 1
        width, height = image.size
        upright = (height, width) if orientation >= 5 else (width, height)
        return Header((width, height), upright, orientation, image.format or "", image.mode)


def is_regular(path: str | os.PathLike[str]) -> bool:
    """Whether a path, its links followed, is a file that ends: no pipe, no device, no folder, and there."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except (OSError, ValueError):  # ValueError: no path at all
        return False


@contextmanager
def open_image(file: str | os.PathLike[str] | BinaryIO) -> Iterator[ImageFile.ImageFile]:
    """`Image.open` of a regular file, or of one in memory.

    READ_ERRORS as well where it is a pipe or a device, which would never end, and where it is PostScript, whatever its
    name says: Pillow starts Ghostscript for its pixels, which runs the program in it.
    """
    if isinstance(file, (str, os.PathLike)) and not stat.S_ISREG(os.stat(file).st_mode):
        raise OSError(_NO_FILE)
    with Image.open(file) as image:
        if image.format == "EPS":
            raise UnidentifiedImageError("it is PostScript, which is a program and no picture")
        yield image


@contextmanager
def open_regular(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A regular file, open to be read; any other is refused, and nobody is waited for.

    Raises:
        OSError: it is not there, is no regular file, or cannot be read.
        ValueError: the path is none, as with a NUL in it.
    """
    # Without O_NONBLOCK, opening a pipe waits until somebody writes.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(_NO_FILE)
        yield file


def read_bytes(path: str | os.PathLike[str], most: int = _MOST_BYTES) -> bytes:
    """The content of a regular file; OSError and ValueError as `open_regular`, and where it has more bytes than `most`.

    A text in a folder of pictures may be a film by mistake, and would fill the memory.
    """
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(f"it has {size} bytes, and {most} are the most")
        return file.read(size)  # not `most`, for which Python would ask the system at once


def decode_bytes(content: bytes, flags: int = cv2.IMREAD_COLOR) -> np.ndarray | None:
    """What `cv2.imdecode` gives for the content of an image file; None where it gives none.

    Raises:
        MemoryError: the memory does not suffice.
    """
    try:
        return cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:  # an empty file, or one of too many pixels, for two
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError(str(error)) from error
        return None


def decode_file(path: str | os.PathLike[str], flags: int = cv2.IMREAD_COLOR) -> np.ndarray | None:
    """What `cv2.imread` gives for a regular file of any name, read by Python; None where it gives none."""
    try:
        return decode_bytes(read_bytes(path), flags)
    except (OSError, ValueError, MemoryError):
        return None


def has_reader(path: str | os.PathLike[str]) -> bool:
    """What `cv2.haveImageReader` says of a regular file of any name: its first bytes are those of a kind it reads."""
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
    """Whether OpenCV reads a format, by Pillow's name of it: it is asked with a small picture that Pillow writes."""
    picture = io.BytesIO()
    try:
        Image.new("RGB", (16, 16)).save(picture, format)
    except (KeyError, OSError, ValueError):  # Pillow writes none, so that decoding will tell
        return True
    return cv2.imdecode(np.frombuffer(picture.getvalue(), np.uint8), cv2.IMREAD_COLOR) is not None


@functools.lru_cache(maxsize=None)
def opencv_turns(format: str) -> bool:
    """Whether this OpenCV turns a format, by Pillow's name of it, upright by its EXIF; of WebP, version 5 does."""
    picture, exif = io.BytesIO(), Image.Exif()
    exif[_ORIENTATION] = 6
    try:
        Image.new("RGB", (32, 16)).save(picture, format, exif=exif)
    except (KeyError, OSError, ValueError):  # Pillow writes none
        return False
    pixels = cv2.imdecode(np.frombuffer(picture.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    return pixels is not None and pixels.shape[:2] == (32, 16)


def name_fault(path: str | os.PathLike[str]) -> str | None:
    """What keeps PaddleSeg from an image of this name, as a sentence; None for a name that it can read.

    It gives names to `cv2.imread`: that dies of the surrogates which Python makes of bytes that are no text, and on
    Windows reads UTF-8 in the system's code page.
    """
    path = os.fspath(path)
    if os.name == "nt" and not path.isascii():
        return f"OpenCV, which reads images for PaddleSeg, takes no name but of ASCII on Windows: rename {path}."
    return text_fault(path)


def text_fault(path: str | os.PathLike[str]) -> str | None:
    """Why no list, which is UTF-8, can hold a path, as a sentence; None if it can."""
    path = os.fspath(path)
    try:
        path.encode("utf-8")
        return None
    except UnicodeEncodeError:
        pass
    try:
        name = os.fsencode(path)
    except UnicodeEncodeError:  # surrogates that no file name has, but a JSON may
        name = path.encode("utf-8", "surrogatepass")
    shown = name.decode("utf-8", "backslashreplace")
    if "\\x" in shown:
        return f"the name of {shown} is not UTF-8, and PaddleSeg's lists are: rename it."
    used = sys.getfilesystemencoding()
    return f"the name of {shown} cannot be used where names are {used}: set LC_ALL=C.UTF-8 and PYTHONUTF8=1."
