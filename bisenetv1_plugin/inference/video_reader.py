"""Read the frames of videos and cameras, with their times."""

from __future__ import annotations

import math
import os
import struct
import time
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, Iterator

import cv2
import numpy as np

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.image_files import is_regular, open_regular
from bisenetv1_plugin.libraries import optional_library

VIDEOS = (".avi", ".mkv", ".mov", ".mp4", ".webm")
_USUAL_RATE = 25.0
# FFmpeg detects the format by content, so a file named .mp4 may be a playlist that opens other files and addresses.
# Only formats that contain their frames are allowed. No protocol is needed, because PyAV gets an open file.
_ONLY = {"format_whitelist": "mov,matroska,avi,mjpeg,jpeg_pipe", "protocol_whitelist": "none"}
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"udta", b"uuid", b"junk")
_EBML = b"\x1a\x45\xdf\xa3"
_ROTATIONS = (None, cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE)


def is_camera(path: str) -> bool:
    """Whether a path is the number of a camera, and not the name of a file or folder."""
    return path.isdecimal() and len(path) < 4 and not os.path.exists(path)


class Frames:
    """The frames of a video or camera, as pairs (name, uint8 BGR `[H, W, 3]`), rotated as the file says.

    Args:
        path: a video, or the number of a camera.

    Attributes:
        live (bool): whether it is a camera.
        name (str): the file's name without its ending, or cameraNUMBER. Frames are named NAME_000001, ...
        total (int, optional): the number of frames; None for a camera, or a video of unknown length.
        rate (float): frames per second.
        seconds (float): the time of the latest frame since the first one.
        fault (str, optional): a sentence for the frames that could not be read.

    Raises:
        InputError: the video or camera does not exist or cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.live = is_camera(path)
        self.name = f"camera{path}" if self.live else os.path.splitext(os.path.basename(path))[0]
        self._video: Camera | VideoReader = Camera(path) if self.live else VideoReader(path)
        self.total, self.rate = self._video.total, self._video.rate
        self._stopped = False
        self.rewind()

    def rewind(self) -> None:
        """Start again from the first frame; a camera just continues."""
        self.seconds = 0.0
        self.fault: str | None = None

    def stop(self) -> None:
        """End the iteration after the latest frame. May be called from any thread or a signal handler."""
        self._stopped = True

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        for number, (seconds, pixels) in enumerate(self._video, 1):
            self.seconds = seconds
            yield f"{self.name}_{number:06d}", pixels
            if self._stopped:
                return
        self.fault = self._video.fault


class Camera:
    """The frames of a camera, as pairs (seconds since the first, uint8 BGR `[H, W, 3]`), without end.

    Args:
        path: the number of the camera.

    Attributes:
        total: None.
        rate (float): frames per second, reported by the camera.
        fault (str): a sentence if the camera stopped, else empty.

    Raises:
        InputError: there is no such camera.
    """

    total = None

    def __init__(self, path: str) -> None:
        self._path, self.fault = path, ""
        self._camera = cv2.VideoCapture(int(path))  # PyAV would need the system's name of the device
        if not self._camera.isOpened():
            raise InputError(f"there is no camera {path} that OpenCV can open, and no file of that name.")
        rate = self._camera.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate <= 1000 else _USUAL_RATE

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        begin, done = 0.0, 0
        while True:
            more, pixels = self._camera.read()
            if not more:
                break
            now = time.monotonic()
            begin = begin or now
            done += 1
            yield now - begin, pixels
        self.fault = f"camera {self._path} sent nothing more after frame {done}."


class VideoReader:
    """The frames of a video file, as pairs (seconds since the first, uint8 BGR `[H, W, 3]`), rotated as the file says.

    The content must be MP4, MOV, Matroska, WebM or AVI. Each loop starts at the first frame.

    Args:
        path: the file.

    Attributes:
        path (str): the file.
        width, height (int): the size of a frame, before rotation.
        total (int, optional): the number of frames, if the file tells.
        rate (float): frames per second.
        fault (str, optional): a sentence for the frames that could not be read, after a loop.

    Raises:
        InputError: the file does not exist, has another format or cannot be opened, or PyAV is not installed.
    """

    def __init__(self, path: str) -> None:
        self._av: Any = optional_library("av")
        self.path = path
        self.fault: str | None = None
        with self._open() as (_, stream):
            self.width, self.height = int(stream.codec_context.width), int(stream.codec_context.height)
            rate = stream.guessed_rate or 0
            self.rate = float(rate) if 0 < rate <= 1000 else _USUAL_RATE
            self.total = stream.frames or self._count_frames(stream, rate) or None

    @staticmethod
    def _count_frames(stream: Any, rate: Any) -> int:
        """The number of frames by the duration, for Matroska that of the file with its sound. 0 without a duration."""
        duration = stream.duration * stream.time_base if stream.duration else (stream.container.duration or 0) / 1e6
        return max(0, math.floor(duration * rate + 0.5))

    @contextmanager
    def _open(self) -> Iterator[tuple[Any, Any]]:
        """The container and its first video stream."""
        if not is_regular(self.path):
            raise InputError(f"there is no video {self.path}.")
        with open_regular(self.path) as file:
            head = file.read(12)
            if head and not _is_video(head):
                raise self._error("it is not MP4, MOV, MKV, WebM or AVI, despite its name: convert it")
            file.seek(0)
            container = None
            # Accept metadata that is not UTF-8; PyAV does so by default from version 19.
            options = {} if int(self._av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "ignore"}
            # PyAV's errors have several base classes
            with suppress(self._av.FFmpegError, OSError, ValueError):
                container = self._av.open(file, container_options=_ONLY, **options)
            if container is None:
                raise self._error("cut off or damaged: copy or download it again" if head else "it is empty")
            with container:
                streams = [stream for stream in container.streams.video if stream.codec_context]
                if not streams:
                    raise self._error("it contains no video stream")
                yield container, streams[0]

    def _error(self, why: str) -> InputError:
        return InputError(f"{self.path} is a video that PyAV cannot open ({why}).")

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        self.fault = None
        done, first, rotation = 0, None, None
        # One converter for all frames, because setting one up takes time.
        converter = self._av.video.reformatter.VideoReformatter()
        with self._open() as (container, stream):
            stream.thread_type = "AUTO"
            tick = stream.time_base
            for frame in self._decode(container, stream):
                if not done:
                    first, rotation = frame.pts, _rotation(frame)
                known = None not in (first, frame.pts)
                seconds = float((frame.pts - first) * tick) if known else done / self.rate
                pixels = converter.reformat(frame, format="bgr24").to_ndarray()
                done += 1
                yield seconds, pixels if rotation is None else cv2.rotate(pixels, rotation)
        if done < (self.total or 1) and (not done or self._is_cut()):
            whole = f" of {self.total}" if self.total else ""
            self.fault = f"{self.path} ends after frame {done}{whole}: the rest cannot be read."

    def _decode(self, container: Any, stream: Any) -> Iterator[Any]:
        """PyAV's frames; damaged packets are skipped."""
        with suppress(self._av.FFmpegError, OSError):
            for packet in container.demux(stream):
                with suppress(self._av.FFmpegError):
                    yield from packet.decode()

    def _is_cut(self) -> bool:
        """Whether a file with fewer frames than it declares is cut off."""
        with open_regular(self.path) as file:
            end = _declared_end(file)
            return end is None or end > os.path.getsize(self.path)


def _rotation(frame: Any) -> int | None:
    """The rotation for `cv2.rotate`, from the display matrix that phones write.

    Called for one frame only, because reading a frame's side data takes as long as its pixels.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return None
    across, down = struct.unpack("=2i", bytes(matrix)[:8])
    return _ROTATIONS[round(math.atan2(down, across) / (math.pi / 2)) % 4]


def _is_video(head: bytes) -> bool:
    """Whether these first 12 bytes are of MP4, MOV, Matroska, WebM, AVI, or a sequence of JPEGs."""
    return (
        head[4:8] in _FIRST_BOXES
        or head.startswith((_EBML, b"\xff\xd8\xff"))
        or (head.startswith(b"RIFF") and head[8:11] == b"AVI")
    )


def _declared_end(file: BinaryIO) -> int | None:
    """The size that an MP4 or Matroska file declares, 0 if it declares none; None for other formats.

    The number of frames is exact in other formats. MP4 also counts frames that an edit list omits. For fragmented MP4,
    Matroska and WebM, the number is computed from the duration, sound included. FFmpeg does not report a file that is
    cut off between two frames, and for Matroska no cut at all.
    """
    head = file.read(64)
    if head.startswith(_EBML):  # RFC 8794, 4 and 11.2: the length of the header, and that of the segment
        length, at = _ebml_number(head, 4)
        at += (length or 0) + 4
        file.seek(at)
        length, after = _ebml_number(file.read(8), 0)
        return 0 if length is None else at + after + length
    if head[4:8] not in _FIRST_BOXES:
        return None
    at = 0
    while len(head) >= 8:  # ISO/IEC 14496-12, 4.2: the length of every box
        length = int.from_bytes(head[:4], "big")
        if length == 1:  # 64 bits follow
            length = int.from_bytes(head[8:16], "big")
        if length == 0:  # to the end of the file
            return 0
        at += max(length, 8)
        file.seek(at)
        head = file.read(16)
    return at


def _ebml_number(content: bytes, at: int) -> tuple[int | None, int]:
    """An EBML number of variable length, None if it means 'unknown', and its end."""
    count = 9 - content[at].bit_length() if at < len(content) else 9
    if count > 8:
        return None, at
    value = int.from_bytes(content[at : at + count], "big") & ((1 << 7 * count) - 1)
    return None if value == (1 << 7 * count) - 1 else value, at + count
