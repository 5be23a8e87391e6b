"""What a server takes of its visitors: only files that were uploaded to it, and none that takes too much to open."""

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

# What was given and what was made of it is removed when it is so old.
KEPT_SECONDS = 600
# Of visitors' files and results that lie there at a time, in files of the largest size that is taken.
_KEPT_FILES = 64
# A file takes a place in its folder, however short it is.
_LEAST_BYTES = 1 << 16
_MOST_FRAMES_A_SECOND = 60


@dataclass(frozen=True)
class Limits:
    """Of what is given to the server.

    Attributes:
        megabytes (int): of a file.
        megapixels (int): of a picture, or of a video's frame.
        seconds (int): of a video, at up to 60 frames a second.
    """

    megabytes: int
    megapixels: int
    seconds: int

    @property
    def bytes(self) -> int:
        """Of a file."""
        return self.megabytes << 20

    @property
    def kept_bytes(self) -> int:
        """Of all files that lie there at a time."""
        return self.bytes * _KEPT_FILES

    def check_picture(self, path: str, name: str) -> None:
        """Refuse a picture before a pixel is decoded.

        Args:
            path (str): where it is.
            name (str): the visitor's name for it, for the message.

        Raises:
            InputError: it is none that is taken, or has too many pixels.
        """
        pictures.check(path, name, self.megapixels)

    def check_video(self, path: str, name: str, until: Callable[[], object]) -> None:
        """Refuse a video before it is computed: it is read once, to its end.

        Every frame may have a size of its own, whatever the file says.

        Args:
            path, name: as `check_picture`.
            until (callable): asked now and then; it ends the reading by raising.

        Raises:
            InputError: it cannot be read, or is too large, too long or of more than one size.
        """
        video = VideoReader(path)
        pictures.check_pixels(name, video.width, video.height, self.megapixels)
        most = self.seconds * _MOST_FRAMES_A_SECOND
        size = None
        for number, (seconds, frame) in enumerate(video, 1):
            until()
            if seconds >= self.seconds or number > most:
                raise InputError(
                    f"{name} is longer than {self.seconds} seconds, or has more than {most} frames: cut it."
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
    """The folder of what visitors gave and of what was made of it, a folder each: FOLDER/HASH/NAME.

    Args:
        folder (str): the folder.
        max_bytes (int): of all that may lie there at a time.
    """

    def __init__(self, folder: str, max_bytes: int) -> None:
        self.folder, self._max_bytes = os.path.realpath(folder), max_bytes

    def own(self, path: object) -> str:
        """The real path of a file that was uploaded, or made here.

        Raises:
            InputError: it is none: a path of anything else, a link, a device, an address, or removed already.
        """
        real = os.path.realpath(path) if isinstance(path, str) and "\0" not in path else ""
        start, inside = os.path.join(self.folder, ""), real[len(self.folder) + 1 :]
        if not (real.startswith(start) and re.fullmatch(r"[0-9a-f]{64}[/\\][^/\\]+", inside) and is_regular(real)):
            raise InputError("this file was not uploaded, or is no longer here: upload it again.")
        return real

    def check_room(self, coming: int = 0) -> None:
        """Refuse what would not have room.

        Args:
            coming (int): bytes.

        Raises:
            InputError: there are too many files, for now.
        """
        if sum(max(size, _LEAST_BYTES) for _, size, _ in self._files()) + coming > self._max_bytes:
            raise InputError(
                "this server holds as many files as it may; they are removed after "
                f"{KEPT_SECONDS // 60} minutes: come back then."
            )

    def sweep(self, seconds: float = KEPT_SECONDS) -> None:
        """Remove what is older, be it whole or of an upload that was broken off."""
        for path, _, changed in self._files():
            if time.time() - changed > seconds:
                try:
                    os.unlink(path)
                except OSError:  # somebody else was quicker, or has it open (Windows)
                    continue
        self._sweep_folders(seconds)

    def _sweep_folders(self, seconds: float) -> None:
        """Remove those of files that are gone for so long; the system refuses it for one with a file in it."""
        for name in os.listdir(self.folder) if os.path.isdir(self.folder) else ():
            path = os.path.join(self.folder, name)
            with suppress(OSError):
                if time.time() - os.stat(path, follow_symlinks=False).st_mtime > seconds:
                    os.rmdir(path)

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
