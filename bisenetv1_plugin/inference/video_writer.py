"""Write overlays into a video without sound, each frame at its own time."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from fractions import Fraction
from typing import Any, Iterator

import cv2
import numpy as np

from bisenetv1_plugin import files
from bisenetv1_plugin.drawing.painter import Painter
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.engine import SegmentedPicture
from bisenetv1_plugin.inference.mask_files import MADE_BY
from bisenetv1_plugin.libraries import optional_library

_TICK = Fraction(1, 90000)  # second, the unit of the times of frames
_OPTIONS = {"preset": "superfast", "crf": "20"}  # superfast: the network needs most of the CPU time


class VideoWriter:
    """Writes pictures into an MP4 file (H.264, for players and browsers). The end of a `with` block finishes it.

    The video has the size of the first picture. Encoders need even sizes, so an odd one is extended by a pixel.

    Args:
        path: the file, ending with .mp4.
        rate: frames per second.

    Attributes:
        frames (int): the number of frames written so far.

    Raises:
        InputError: PyAV is not installed.
    """

    def __init__(self, path: str, rate: float) -> None:
        self._av: Any = optional_library("av")
        self._path, self.frames, self._ticks = path, 0, -1
        self._rate = Fraction(rate).limit_denominator(1001)
        self._container: Any = self._av.open(files.utf8_path(path), "w")

    def write(self, picture: np.ndarray, seconds: float) -> None:
        """Add a picture, uint8 BGR `[H, W, 3]`, shown after `seconds`.

        Raises:
            InputError: pictures of that size cannot be encoded.
            OSError: the file cannot be written.
        """
        if not self.frames:
            self._begin(*picture.shape[:2])
        if picture.shape[:2] != (self._height, self._width):
            picture = cv2.resize(picture, (self._width, self._height))
        if self._height % 2 or self._width % 2:
            picture = cv2.copyMakeBorder(picture, 0, self._height % 2, 0, self._width % 2, cv2.BORDER_REPLICATE)
        frame = self._av.VideoFrame.from_ndarray(picture, "bgr24")
        self._ticks = frame.pts = max(self._ticks + 1, round(seconds / _TICK))
        frame.time_base = _TICK
        with self._name_errors():
            self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def _begin(self, height: int, width: int) -> None:
        self._height, self._width = height, width
        self._stream = self._container.add_stream("libx264", self._rate, options=_OPTIONS)
        self._stream.width, self._stream.height = width + width % 2, height + height % 2
        self._stream.pix_fmt = "yuv420p"  # the only format that every player supports
        self._stream.codec_context.time_base = _TICK

    @contextmanager
    def _name_errors(self) -> Iterator[None]:
        """Raise PyAV's errors with the target's name: its OSError names the temporary file, and cannot be changed."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, self._path) from error
        except self._av.FFmpegError as error:
            raise InputError(
                f"no video of {self._width}x{self._height} pixels can be written here: make it smaller."
            ) from error

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            with suppress(OSError, self._av.FFmpegError):  # an earlier exception is being raised
                self._container.close()
        elif self.frames:
            with self._name_errors():
                self._container.mux(self._stream.encode(None))
                self._container.close()


class OverlayVideo:
    """Writes overlays into an MP4 file. Use it in a `with` block: the file is created at its end.

    No file is created if the block raises or there was no frame.

    Args:
        path: the file, ending with .mp4.
        rate: frames per second.
        painter: the classes' colors and names, for a legend below; default: PaddleSeg's colors.

    Attributes:
        frames (int): the number of frames written so far.
    """

    def __init__(self, path: str, rate: float, painter: Painter | None = None) -> None:
        self.frames = 0
        self._path, self._rate = path, rate
        self._painter = painter or Painter()
        self._open = ExitStack()

    def write(self, found: SegmentedPicture) -> None:
        """Add a frame: the mask over the pixels, at the frame's time.

        Raises:
            InputError: frames of that size cannot be encoded, or PyAV is not installed.
            OSError: the file cannot be written.
        """
        if not self.frames:
            temporary = self._open.enter_context(files.whole_file(files.utf8_path(self._path), MADE_BY))
            self._writer = self._open.enter_context(VideoWriter(temporary, self._rate))
        picture = self._painter.with_legend(self._painter.overlay(found.mask, found.picture.pixels))
        self._writer.write(picture, found.picture.seconds)
        self.frames += 1

    def __enter__(self) -> OverlayVideo:
        return self

    def __exit__(self, *error: Any) -> None:
        """Finish the file.

        Raises:
            OSError: the file cannot be written. An existing file of that name is kept.
        """
        self._open.__exit__(*error)
