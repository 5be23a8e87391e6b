"""Limits of the files that visitors upload, and the folder that holds them."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Callable, Iterator

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.image_files import is_regular
from bisenetv1_plugin.inference.video_reader import VideoReader
from bisenetv1_plugin.serve import pictures

# Uploads and results are removed after this time.
KEPT_SECONDS = 600
# All uploads and results together may take the space of this many of the largest files.
_KEPT_FILES = 64
# Every file counts as at least this many bytes, so that many small files fill the folder too.
_MIN_FILE_BYTES = 1 << 16
_MAX_FRAME_RATE = 60


@dataclass(frozen=True)
class Limits:
    """Limits of an uploaded file.

    Attributes:
        megabytes: size of a file.
        megapixels: million pixels of a picture, or of a frame of a video.
        seconds: length of a video, at up to 60 frames a second.
    """

    megabytes: int
    megapixels: int
    seconds: int

    @property
    def bytes(self) -> int:
        """`megabytes` in bytes."""
        return self.megabytes << 20

    @property
    def kept_bytes(self) -> int:
        """Limit of all files together, in bytes."""
        return self.bytes * _KEPT_FILES

    def check_picture(self, path: str, name: str) -> None:
        """Refuse a picture before a pixel is decoded.

        Args:
            path: the uploaded file.
            name: the visitor's name for it, for the message.

        Raises:
            InputError: it is not an accepted image, or has too many pixels.
        """
        pictures.check(path, name, self.megapixels)

    def check_video(self, path: str, name: str, check_time: Callable[[], object]) -> None:
        """Refuse a video before it is segmented.

        Reads the video once to its end, because frames may differ from the size in the file's head.

        Args:
            path: the uploaded file.
            name: the visitor's name for it, for the message.
            check_time: called for every frame; raises to stop the reading.

        Raises:
            InputError: it cannot be read, is too large or too long, or has frames of different sizes.
        """
        video = VideoReader(path)
        pictures.check_pixels(name, video.width, video.height, self.megapixels)
        max_frames = self.seconds * _MAX_FRAME_RATE
        size = None
        for number, (seconds, frame) in enumerate(video, 1):
            check_time()
            if seconds >= self.seconds or number > max_frames:
                raise InputError(
                    f"{name} is longer than {self.seconds} seconds, or has more than {max_frames} frames: cut it."
                )
            height, width = frame.shape[:2]
            pictures.check_pixels(name, width, height, self.megapixels)
            size = size or (width, height)
            if (width, height) != size:
                raise InputError(
                    f"{name} changes its size at frame {number}, from {size[0]} x {size[1]} to {width} x {height} "
                    "pixels: convert it to one size."
                )


class Uploads:
    """The folder of uploads and results, each in a folder of its own: FOLDER/HASH/NAME.

    Args:
        folder: the folder.
        max_bytes: limit of all files together.
    """

    def __init__(self, folder: str, max_bytes: int) -> None:
        self.folder, self._max_bytes = os.path.realpath(folder), max_bytes

    def own(self, path: object) -> str:
        """The real path of an upload or a result.

        Raises:
            InputError: the path is any other file, a link, a device or an address, or the file was removed.
        """
        real = os.path.realpath(path) if isinstance(path, str) and "\0" not in path else ""
        start, inside = os.path.join(self.folder, ""), real[len(self.folder) + 1 :]
        if not (real.startswith(start) and re.fullmatch(r"[0-9a-f]{64}[/\\][^/\\]+", inside) and is_regular(real)):
            raise InputError("this file was not uploaded, or is no longer here: upload it again.")
        return real

    def check_room(self, new_bytes: int = 0) -> None:
        """Check that new files have room.

        Args:
            new_bytes: their size.

        Raises:
            InputError: there is no room until older files are removed.
        """
        if sum(max(size, _MIN_FILE_BYTES) for _, size, _ in self._files()) + new_bytes > self._max_bytes:
            raise InputError(
                "this server has no room for more files; files are removed after "
                f"{KEPT_SECONDS // 60} minutes: try again then."
            )

    def remove_old(self) -> None:
        """Remove files older than `KEPT_SECONDS`, also of interrupted uploads, and then their folders."""
        for path, _, changed in self._files():
            if time.time() - changed > KEPT_SECONDS:
                with suppress(OSError):  # removed already, or open (Windows)
                    os.unlink(path)
        for name in os.listdir(self.folder) if os.path.isdir(self.folder) else ():
            path = os.path.join(self.folder, name)
            with suppress(OSError):
                if time.time() - os.stat(path, follow_symlinks=False).st_mtime > KEPT_SECONDS:
                    os.rmdir(path)  # fails if it contains files

    def _files(self) -> Iterator[tuple[str, int, float]]:
        """(path, bytes, seconds since 1970) of every file."""
        for inner, _, names in os.walk(self.folder):
            for name in names:
                path = os.path.join(inner, name)
                try:
                    state = os.stat(path, follow_symlinks=False)
                except OSError:
                    continue
                yield path, state.st_size, state.st_mtime
