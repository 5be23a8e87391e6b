"""Videos and cameras in: their frames one after another, and when each is shown."""

from __future__ import annotations

import os
import tempfile
import threading
import time
from contextlib import contextmanager
from typing import Iterator

import cv2
import numpy as np

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.image_files import is_regular, open_regular
from bisenetv1_plugin.inference import containers

VIDEOS = (".avi", ".mkv", ".mov", ".mp4", ".webm")
_USUAL_RATE = 25.0
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_OPENING = threading.Lock()
# OpenCV's other readers go by a file's name, and know formats that are no videos.
_READER = cv2.CAP_FFMPEG if cv2.CAP_FFMPEG in cv2.videoio_registry.getBackends() else cv2.CAP_ANY


def opened(path: str) -> cv2.VideoCapture:
    """A video file, opened: MP4, MOV, Matroska, WebM or AVI inside, whatever its name, and no other file with it.

    Raises:
        InputError: it is not there, is none of these, or OpenCV cannot open it.
    """
    if not is_regular(path):
        raise InputError(f"there is no video {path}.")
    with open_regular(path) as file:
        head = file.read(12)
    why = "cut off or damaged: copy or download it again" if head else "it is empty"
    if head and not containers.is_video(head):
        why = "it is no MP4, MOV, MKV, WebM or AVI, whatever its name says: convert it"
    else:
        with _OPENING, _ffmpeg_told(), _spelt(path) as name:
            video = cv2.VideoCapture(name, _READER)
        if video.isOpened():
            return video
    raise InputError(f"{path} is a video that OpenCV cannot open ({why}).")


@contextmanager
def _ffmpeg_told() -> Iterator[None]:
    """OpenCV's FFmpeg knows no formats and protocols but ours while a file is opened; what else was set stays so."""
    before = os.environ.get(_OPTIONS)
    ours = [f"{key};{value}" for key, value in containers.FFMPEG_OPTIONS.items()]
    os.environ[_OPTIONS] = "|".join([before, *ours] if before else ours)  # of a key that is there twice, the latter
    try:
        yield
    finally:
        if before is None:
            del os.environ[_OPTIONS]
        else:
            os.environ[_OPTIONS] = before


@contextmanager
def _spelt(path: str) -> Iterator[str]:
    """The path, or a link to it for a while: one that is no text kills the process in OpenCV."""
    whole = os.path.abspath(path)  # which begins with no protocol, as a relative path may
    try:
        whole.encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            link = os.path.join(folder, "video")
            os.symlink(whole, link)
            yield link
    else:
        yield whole


def is_camera(path: str) -> bool:
    """Whether it is the number of a camera: no file and no folder has that name."""
    return path.isdecimal() and len(path) < 4 and not os.path.exists(path)


class Frames:
    """The frames of a video file or of a camera, as pairs (name, uint8 BGR `[H, W, 3]`), turned as the file says.

    Args:
        path (str): a video, or the number of a camera.

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
        self._path, self._stopped = path, False
        self._times: list[float] = []
        self._camera: cv2.VideoCapture | None = None
        if self.live:
            video = self._camera = cv2.VideoCapture(int(path))
            if not video.isOpened():
                raise InputError(f"there is no camera {path} that OpenCV can open, and no file of that name.")
        else:
            video = opened(path)
        count, rate = video.get(cv2.CAP_PROP_FRAME_COUNT), video.get(cv2.CAP_PROP_FPS)
        self.total = int(count) if count > 0 and not self.live else None
        self.rate = rate if 0 < rate <= 1000 else _USUAL_RATE
        self.rewind()

    def rewind(self) -> None:
        """Start again; a camera goes on."""
        self.seconds = 0.0
        self.fault: str | None = None

    def stop(self) -> None:
        """Let the latest frame be the last; from any thread, or a handler of a signal."""
        self._stopped = True

    def take_times(self, times: list[float]) -> None:
        """The seconds at which the frames are shown, in order, where they are known better than by the rate."""
        self._times = times

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        video = self._camera or opened(self._path)
        begin, done = 0.0, 0
        while not self._stopped:
            more, pixels = video.read()
            if not more:
                break
            now = time.monotonic()
            begin = begin or now
            self.seconds = now - begin if self.live else self._time_of(done)
            done += 1
            yield f"{self.name}_{done:06d}", pixels
        if not self._stopped:
            self.fault = self._missing(done)

    def _time_of(self, index: int) -> float:
        if index < len(self._times):
            return self._times[index]
        known = len(self._times)
        return (self._times[-1] + (index - known + 1) / self.rate) if known else index / self.rate

    def _missing(self, done: int) -> str | None:
        """The sentence for an early end."""
        if self.live:
            return f"camera {self._path} gives nothing more after frame {done}."
        has_container = self._path.lower().endswith((*containers.BOXES, *containers.ELEMENTS))
        if done >= (self.total or 1) or (done and has_container and not containers.is_cut(self._path)):
            return None
        whole = f" of {self.total}" if self.total else ""
        return f"{self._path} ends after frame {done}{whole}: the rest cannot be read."
