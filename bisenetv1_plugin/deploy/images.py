"""Images and videos in: which there are, which cannot be read, and their pixels."""

from __future__ import annotations

import os
from typing import Iterator

import cv2
import numpy as np
from paddleseg.utils import get_image_list
from PIL import Image

from bisenetv1_plugin.datasets.reading import READ_ERRORS
from bisenetv1_plugin.errors import InputError

_VIDEOS = (".avi", ".mkv", ".mov", ".mp4", ".webm")


def listed(image_path: str) -> tuple[list[str], list[str]]:
    """The images behind a path (an image, a list file or a folder), sorted into readable and unreadable.

    Raises:
        InputError: nothing is there, or no image can be read.
    """
    try:
        paths, _ = get_image_list(image_path)
    except (FileNotFoundError, RuntimeError, UnicodeDecodeError) as error:
        raise InputError(f"{image_path} is no image, image list or folder: {error}") from error
    readable = [path for path in sorted(set(paths)) if cv2.haveImageReader(path)]
    unreadable = sorted(set(paths) - set(readable))
    if not readable:
        raise InputError(f"None of the {len(unreadable)} images of {image_path} can be read: {unreadable[0]} ...")
    return readable, unreadable


class Source:
    """The pictures behind a path, or the frames of a video, as pairs (name, uint8 BGR `[H, W, 3]`).

    Attributes:
        done (int): how many were read or found unreadable so far.
        faults (list[str]): a sentence for each that was left out.

    Raises:
        InputError: nothing is there or can be read, or two results would have the same name.
    """

    def __init__(self, image_path: str) -> None:
        self._video = image_path if image_path.lower().endswith(_VIDEOS) else None
        self._unreadable: list[str] = []
        if self._video:
            self._length = _frame_count(image_path)
        else:
            self._paths, self._unreadable = listed(image_path)
            self._length = len(self._paths) + len(self._unreadable)
            _check_names(self._paths)
        self.rewind()

    def rewind(self) -> None:
        """Start again."""
        self.done = len(self._unreadable)
        self.faults = [left_out(path) for path in self._unreadable]

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[tuple[str, np.ndarray]]:
        return self._frames(self._video) if self._video else self._images()

    def _images(self) -> Iterator[tuple[str, np.ndarray]]:
        for path in self._paths:
            self.done += 1
            fault = _damage(path)
            pixels = None if fault else cv2.imread(path)
            if pixels is None:
                self.faults.append(left_out(path, fault))
            else:
                yield _name(path), pixels

    def _frames(self, path: str) -> Iterator[tuple[str, np.ndarray]]:
        video = cv2.VideoCapture(path)
        while True:
            more, pixels = video.read()
            if not more:
                break
            self.done += 1
            yield f"{_name(path)}_{self.done:06d}", pixels
        video.release()
        if self.done < self._length:
            self.faults.append(f"{path} ends after frame {self.done} of {self._length}: the rest cannot be read.")


def left_out(path: str, why: str = "") -> str:
    """The sentence for an image that cannot be read."""
    return f"{path} cannot be read and was left out{why}."


def root(image_path: str) -> str | None:
    """The folder that the results' names are relative to, as upstream has it: None for a single image."""
    if os.path.isdir(image_path):
        return image_path
    return None if image_path.lower().endswith((".jpeg", ".jpg", ".bmp", ".png")) else os.path.dirname(image_path)


def _frame_count(path: str) -> int:
    if not os.path.isfile(path):
        raise InputError(f"there is no video {path}.")
    video = cv2.VideoCapture(path)
    opened, frames = video.isOpened(), int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    video.release()
    if not opened:
        raise InputError(f"{path} is a video that OpenCV cannot open.")
    return frames


def _check_names(paths: list[str]) -> None:
    seen: dict[str, str] = {}
    for path in paths:
        other = seen.setdefault(_name(path), path)
        if other != path:
            raise InputError(f"{other} and {path} would both give {_name(path)}.png: run them apart.")


def _damage(path: str) -> str:
    """What Pillow says against the file, in brackets; OpenCV fills the lost part of a cut-off image without a word."""
    try:
        with Image.open(path) as image:
            image.load()
    except READ_ERRORS as error:
        return f" ({error})"
    return ""


def _name(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[0]
