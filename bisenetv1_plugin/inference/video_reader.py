"""Videos and cameras in: their frames one after another, and when each is shown."""

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
# FFmpeg goes by what is in a file: a playlist would open the files and addresses in it, whatever its own name is.
# These formats hold their own frames, and PyAV is given an open file, so that no protocol is needed.
_ONLY = {"format_whitelist": "mov,matroska,avi,mjpeg,jpeg_pipe", "protocol_whitelist": "none"}
_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"udta", b"uuid", b"junk")
_EBML = b"\x1a\x45\xdf\xa3"
_TURNS = (None, cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE)


def is_camera(path: str) -> bool:
    """Whether it is the number of a camera: no file and no folder has that name."""
    return path.isdecimal() and len(path) < 4 and not os.path.exists(path)


class Frames:
    """The frames of a video file or of a camera, as pairs (name, uint8 BGR `[H, W, 3]`), turned as the file says.

    Args:
        path: a video, or the number of a camera.

    Attributes:
        live (bool): a camera.
        name (str): of the file without its ending, or cameraNUMBER; frames are NAME_000001, ...
        total (int, optional): how many frames there are; None for a camera and for a video that does not say.
        rate (float): frames per second.
        seconds (float): when the latest frame is shown, from the first one on; a camera's, when it was taken.
        fault (str, optional): a sentence for the frames that could not be read.

    Raises:
        InputError: there is no such video or camera, or it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self.live = is_camera(path)
        self.name = f"camera{path}" if self.live else os.path.splitext(os.path.basename(path))[0]
        self._video: Camera | VideoReader = Camera(path) if self.live else VideoReader(path)
        self.total, self.rate = self._video.total, self._video.rate
        self._stopped = False
        self.rewind()

    def rewind(self) -> None:
        """Start again; a camera goes on."""
        self.seconds = 0.0
        self.fault: str | None = None

    def stop(self) -> None:
        """Let the latest frame be the last; from any thread, or a handler of a signal."""
        self._stopped = True

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        for number, (seconds, pixels) in enumerate(self._video, 1):
            self.seconds = seconds
            yield f"{self.name}_{number:06d}", pixels
            if self._stopped:
                return
        self.fault = self._video.fault


class Camera:
    """The frames of a camera, as pairs (seconds since the first, uint8 BGR `[H, W, 3]`), for ever.

    Args:
        path: its number.

    Attributes:
        total: None.
        rate (float): frames per second, as it says.
        fault (str, optional): a sentence, when it has ended all the same.

    Raises:
        InputError: there is none.
    """

    total = None

    def __init__(self, path: str) -> None:
        self._path, self.fault = path, ""
        self._camera = cv2.VideoCapture(int(path))  # PyAV would want to know the system's own name for it
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
        self.fault = f"camera {self._path} gives nothing more after frame {done}."


class VideoReader:
    """The frames of a video file, as pairs (seconds since the first, uint8 BGR `[H, W, 3]`), turned as the file says.

    MP4, MOV, Matroska, WebM or AVI inside, whatever its name, and no other file with it. Each loop begins anew.

    Args:
        path: the file.

    Attributes:
        path (str): the file.
        width, height (int): of a frame, before it is turned.
        total (int, optional): how many frames there are, where the file says so.
        rate (float): frames per second.
        fault (str, optional): a sentence for the frames that could not be read, after a loop.

    Raises:
        InputError: it is not there, is none of these, or cannot be opened; or PyAV is not installed.
    """

    def __init__(self, path: str) -> None:
        self._av: Any = optional_library("av")
        self.path = path
        self.fault: str | None = None
        with self._opened() as (_, stream):
            self.width, self.height = int(stream.codec_context.width), int(stream.codec_context.height)
            rate = stream.guessed_rate or 0
            self.rate = float(rate) if 0 < rate <= 1000 else _USUAL_RATE
            self.total = stream.frames or self._counted(stream, rate) or None

    @staticmethod
    def _counted(stream: Any, rate: Any) -> int:
        """How many frames its duration makes; of Matroska the file's, sound included. 0 where it has none."""
        duration = stream.duration * stream.time_base if stream.duration else (stream.container.duration or 0) / 1e6
        return max(0, math.floor(duration * rate + 0.5))

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        """The container and its first video stream."""
        if not is_regular(self.path):
            raise InputError(f"there is no video {self.path}.")
        with open_regular(self.path) as file:
            head = file.read(12)
            if head and not _is_video(head):
                raise self._refused("it is no MP4, MOV, MKV, WebM or AVI, whatever its name says: convert it")
            file.seek(0)
            container = None
            # Metadata in another encoding than UTF-8 is no reason to refuse a video. From 19 on PyAV takes it as it is.
            options = {} if int(self._av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "ignore"}
            # PyAV's errors have several parents; a file without a video has no first stream
            with suppress(self._av.FFmpegError, OSError, ValueError):
                container = self._av.open(file, container_options=_ONLY, **options)
            if container is None:
                raise self._refused("cut off or damaged: copy or download it again" if head else "it is empty")
            with container:
                streams = [stream for stream in container.streams.video if stream.codec_context]
                if not streams:
                    raise self._refused("there is none in it")
                yield container, streams[0]

    def _refused(self, why: str) -> InputError:
        return InputError(f"{self.path} is a video that PyAV cannot open ({why}).")

    def __iter__(self) -> Iterator[tuple[float, np.ndarray]]:
        self.fault = None
        done, first, turn = 0, None, None
        # Shared by all frames: a converter of its own for each would be set up each time.
        converter = self._av.video.reformatter.VideoReformatter()
        with self._opened() as (container, stream):
            stream.thread_type = "AUTO"
            tick = stream.time_base
            for frame in self._decoded(container, stream):
                if not done:
                    first, turn = frame.pts, _turn(frame)
                known = None not in (first, frame.pts)
                seconds = float((frame.pts - first) * tick) if known else done / self.rate
                pixels = converter.reformat(frame, format="bgr24").to_ndarray()
                done += 1
                yield seconds, pixels if turn is None else cv2.rotate(pixels, turn)
        if done < (self.total or 1) and (not done or self._is_cut()):
            whole = f" of {self.total}" if self.total else ""
            self.fault = f"{self.path} ends after frame {done}{whole}: the rest cannot be read."

    def _decoded(self, container: Any, stream: Any) -> Iterator[Any]:
        """PyAV's frames; what is damaged between them is passed over."""
        with suppress(self._av.FFmpegError, OSError):
            for packet in container.demux(stream):
                with suppress(self._av.FFmpegError):
                    yield from packet.decode()

    def _is_cut(self) -> bool:
        """Whether a file with fewer frames than it says has lost some."""
        with open_regular(self.path) as file:
            end = _declared_end(file)
            return end is None or end > os.path.getsize(self.path)


def _turn(frame: Any) -> int | None:
    """How to turn the frames of a file, by the matrix that phones write, for `cv2.rotate`.

    Of one frame: to ask for a frame's side data takes as long as its pixels, and keeps it in memory for a while.
    """
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return None
    across, down = struct.unpack("=2i", bytes(matrix)[:8])
    return _TURNS[round(math.atan2(down, across) / (math.pi / 2)) % 4]


def _is_video(head: bytes) -> bool:
    """Whether a file that begins so (12 bytes) is MP4, MOV, Matroska, WebM, AVI, or JPEGs one after another."""
    return (
        head[4:8] in _FIRST_BOXES
        or head.startswith((_EBML, b"\xff\xd8\xff"))
        or (head.startswith(b"RIFF") and head[8:11] == b"AVI")
    )


def _declared_end(file: BinaryIO) -> int | None:
    """Where an MP4 or a Matroska file says that it ends, 0 where it does not say; None for other formats.

    The number of frames of those others can be believed. MP4 counts the frames that an edit list leaves out; of a
    fragmented MP4, of Matroska and WebM the number is made of the duration, sound included. And FFmpeg reads a file
    that is cut off between two frames as a whole one, Matroska wherever it is cut.
    """
    head = file.read(64)
    if head.startswith(_EBML):  # RFC 8794, 4 and 11.2: the length of the header, and that of the segment
        length, at = _number(head, 4)
        at += (length or 0) + 4
        file.seek(at)
        length, after = _number(file.read(8), 0)
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


def _number(content: bytes, at: int) -> tuple[int | None, int]:
    """EBML's number of varying length, None for the one that means 'unknown', and where it ends."""
    count = 9 - content[at].bit_length() if at < len(content) else 9
    if count > 8:
        return None, at
    value = int.from_bytes(content[at : at + count], "big") & ((1 << 7 * count) - 1)
    return None if value == (1 << 7 * count) - 1 else value, at + count
