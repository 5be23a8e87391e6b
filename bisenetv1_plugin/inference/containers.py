"""Whether a file is a video at all, and a whole one, by its container.

OpenCV's number of frames does not say so for these: MP4 counts the frames that an edit list leaves out; of a fragmented
MP4, of Matroska and WebM it is made of the duration, sound included.
"""

from __future__ import annotations

import os
from typing import BinaryIO

BOXES, ELEMENTS = (".mp4", ".mov"), (".mkv", ".webm")
# FFmpeg goes by what is in a file: a playlist, or a list to concatenate, would open the files and addresses in it,
# whatever its own name ends with. These hold their own frames. For OpenCV and for PyAV, in FFmpeg's words.
FFMPEG_OPTIONS = {"format_whitelist": "mov,matroska,avi,mjpeg,jpeg_pipe", "protocol_whitelist": "file"}
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"udta", b"uuid", b"junk")


def is_video(head: bytes) -> bool:
    """Whether a file that begins so (12 bytes) is MP4, MOV, Matroska, WebM, AVI, or JPEGs one after another."""
    return (
        head[4:8] in _FIRST_BOXES
        or head.startswith((b"\x1a\x45\xdf\xa3", b"\xff\xd8\xff"))  # EBML, JPEG
        or (head.startswith(b"RIFF") and head[8:11] == b"AVI")
    )


def is_cut(path: str) -> bool:
    """Whether the file ends before its container does.

    Args:
        path (str): a file that ends as `BOXES` or `ELEMENTS` say.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        return (_boxes_end if path.lower().endswith(BOXES) else _segment_end)(file, size) > size


def _boxes_end(file: BinaryIO, size: int) -> int:
    """Where the last box ends (ISO/IEC 14496-12, 4.2)."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:  # a length of 64 bits follows
            length = int.from_bytes(head[8:], "big")
        if length == 0:  # to the end of the file
            return size
        at += max(length, 8)
    return at


def _segment_end(file: BinaryIO, size: int) -> int:
    """Where the segment after EBML's header ends (RFC 8794, 4 and 11.2); the file's own end where it does not say."""
    head = file.read(64)
    header, at = _number(head, 4)
    file.seek(at + (header or 0) + 4)
    length, after = _number(file.read(8), 0)
    return size if length is None else at + (header or 0) + 4 + after + length


def _number(content: bytes, at: int) -> tuple[int | None, int]:
    """EBML's number of varying length, None for the one that means 'unknown', and where it ends."""
    count = 9 - content[at].bit_length() if at < len(content) else 9
    if count > 8:
        return None, at
    value = int.from_bytes(content[at : at + count], "big") & ((1 << 7 * count) - 1)
    return None if value == (1 << 7 * count) - 1 else value, at + count
