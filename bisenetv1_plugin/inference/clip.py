"""Videos out: the overlays of frames in one file, which is whole or not there.

OpenCV of PyPI has no encoder for H.264, which every player and browser knows, and keeps one constant rate. PyAV has
one and keeps each frame's own time. So H.264 is written where PyAV is installed, and else MPEG-4 by OpenCV.
"""

from __future__ import annotations

import importlib
from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from types import TracebackType
from typing import Any, Iterator

import cv2
import numpy as np

from bisenetv1_plugin import files
from bisenetv1_plugin.drawing.painter import Painter
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.files import whole_file
from bisenetv1_plugin.inference.containers import FFMPEG_OPTIONS
from bisenetv1_plugin.inference.sinks import MADE_BY

av: Any  # None where it is not installed
try:
    av = importlib.import_module("av")
except ImportError:
    av = None

_TICK = Fraction(1, 90000)  # the part of a second that the times of frames are counted in


def kind() -> str:
    """What a clip is written as, and by what."""
    return "H.264 by PyAV" if av else "MPEG-4 by OpenCV"


def times_of(path: str) -> list[float]:
    """The seconds at which the frames of a video are shown, from the first one on, in order.

    Empty where PyAV is not installed or the file does not say.
    """
    stamps: list[int | None] = []
    tick = Fraction(1)
    if av:
        with suppress(av.FFmpegError), av.open(
            files.for_libraries(path), container_options=FFMPEG_OPTIONS
        ) as container:  # of a file that is cut off: those that are there
            stream = container.streams.video[0]
            tick = stream.time_base  # which does not outlive the container
            stamps.extend(packet.pts for packet in container.demux(stream) if packet.size and not packet.is_discard)
    known = sorted(stamp for stamp in stamps if stamp is not None)
    return [float((stamp - known[0]) * tick) for stamp in known] if len(known) == len(stamps) else []


class Clip:
    """Writes overlays into one MP4 file without sound; use it in a `with` block, at whose end the file appears.

    It has the size of the first frame; an odd width or height gets one pixel more, since encoders need even ones. No
    file appears where the block raises or no frame came.

    Args:
        path (str): where, ending with .mp4.
        rate (float): frames per second.
        painter (Painter, optional): the classes' colours and names, for a legend below; default: PaddleSeg's colours.

    Attributes:
        frames (int): how many came so far.
    """

    def __init__(self, path: str, rate: float, painter: Painter | None = None) -> None:
        self.frames = 0
        self._path, self._rate = path, rate
        self._painter = painter or Painter()
        self._open = ExitStack()

    def write(self, name: str, mask: np.ndarray, pixels: np.ndarray, seconds: float) -> None:
        """Add a frame: `mask` uint8 `[H, W]` over `pixels` uint8 BGR `[H, W, 3]`, shown after `seconds`.

        Raises:
            InputError: frames of that size cannot be encoded.
            OSError: the file cannot be written.
        """
        picture = self._painter.with_legend(self._painter.overlay(mask, pixels))
        if not self.frames:
            self._height, self._width = picture.shape[:2]
            self._begin()
        if picture.shape[:2] != (self._height, self._width):
            picture = cv2.resize(picture, (self._width, self._height))
        picture = cv2.copyMakeBorder(picture, 0, self._height % 2, 0, self._width % 2, cv2.BORDER_REPLICATE)
        self._encoder.write(picture, seconds)
        self.frames += 1

    def _begin(self) -> None:
        beside = self._open.enter_context(whole_file(files.for_libraries(self._path), MADE_BY))
        size = self._width + self._width % 2, self._height + self._height % 2
        self._encoder: _H264 | _MPEG4 = (_H264 if av else _MPEG4)(beside, size, self._rate)
        self._open.push(lambda kind, *_: self._encoder.end() if kind is None else self._encoder.abandon())

    def __enter__(self) -> Clip:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Finish the file.

        Raises:
            OSError: the file cannot be written; it is not there then, and one that was there before still is.
        """
        self._open.__exit__(kind, error, trace)


class _H264:
    """Each frame at its own time."""

    def __init__(self, path: str, size: tuple[int, int], rate: float) -> None:
        self._path = path
        self._container = av.open(path, "w")
        # superfast: the network needs the processor more
        options = {"preset": "superfast", "crf": "20"}
        self._stream = self._container.add_stream("libx264", Fraction(rate).limit_denominator(1001), options=options)
        self._stream.width, self._stream.height = size
        self._stream.pix_fmt = "yuv420p"  # the only one that every player knows
        self._stream.codec_context.time_base = _TICK
        self._ticks = -1

    def write(self, picture: np.ndarray, seconds: float) -> None:
        frame = av.VideoFrame.from_ndarray(picture, "bgr24")
        self._ticks = frame.pts = max(self._ticks + 1, round(seconds / _TICK))
        frame.time_base = _TICK
        with self._plain_errors():
            self._container.mux(self._stream.encode(frame))

    def end(self) -> None:
        with self._plain_errors():
            self._container.mux(self._stream.encode(None))
            self._container.close()

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        """PyAV's own kind of OSError keeps the passing name of the file, which nobody can change."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._path) from error

    def abandon(self) -> None:
        with suppress(OSError):  # what it says is being said already
            self._container.close()


class _MPEG4:
    """At one constant rate: where no frame has come in time, the last one is held; of two at a time the first stays."""

    def __init__(self, path: str, size: tuple[int, int], rate: float) -> None:
        # MPEG-4 counts up to 65535 parts of a second, and OpenCV takes a power of ten times the rate.
        self._rate = round(rate, 3 if rate < 65 else 2 if rate < 650 else 1)
        self._path, self._frames = path, 0
        self._last: np.ndarray | None = None
        self._writer = cv2.VideoWriter(path, cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"mp4v"), self._rate, size)
        if not self._writer.isOpened():
            raise InputError(
                f"OpenCV cannot write a video of {size[0]}x{size[1]} pixels; pip install 'bisenetv1-plugin[video]' "
                "for an encoder that can, or make it smaller."
            )

    def write(self, picture: np.ndarray, seconds: float) -> None:
        due = round(seconds * self._rate)
        for _ in range(self._frames, due):
            self._add(picture if self._last is None else self._last)
        if due >= self._frames:
            self._add(picture)
        self._last = picture

    def _add(self, picture: np.ndarray | None) -> None:
        self._writer.write(picture)
        self._frames += 1

    def end(self) -> None:
        self._writer.release()
        check_written(self._path, self._frames)

    def abandon(self) -> None:
        self._writer.release()


def check_written(path: str, frames: int) -> None:
    """Raise what OpenCV keeps to itself: that the disk was full.

    Raises:
        OSError: the system's reason.
        InputError: there is none.
    """
    count = cv2.VideoCapture(path).get(cv2.CAP_PROP_FRAME_COUNT)
    if count > 0 and abs(count - frames) <= 1:  # WebM has a duration only; a file without its end 0 or less
        return
    with open(path, "ab") as file:
        file.write(bytes(1 << 20))  # raises what the system has to say
    raise InputError(f"OpenCV could not write the {frames} frames of the video: try it again.")
