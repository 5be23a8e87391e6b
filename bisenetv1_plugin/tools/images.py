"""Which images a tool was given, and which of them cannot be read."""

import os
import sys

from bisenetv1_plugin.tools.errors import UserError

_VIDEOS = (".avi", ".mkv", ".mov", ".mp4", ".webm")


def listed(image_path):
    """The images behind `--image_path` (an image, a list file or a folder), sorted into readable and unreadable.

    Raises:
        UserError: nothing is there, or no image can be read.
    """
    import cv2
    from paddleseg.utils import get_image_list

    try:
        paths, _ = get_image_list(image_path)
    except (FileNotFoundError, RuntimeError, UnicodeDecodeError) as error:
        raise UserError(f"--image_path names {image_path}, which is no image, image list or folder: {error}") from error
    readable = [path for path in sorted(set(paths)) if cv2.haveImageReader(path)]
    unreadable = sorted(set(paths) - set(readable))
    if not readable:
        raise UserError(f"None of the {len(unreadable)} images of {image_path} can be read: {unreadable[0]} ...")
    return readable, unreadable


class Source:
    """The pictures behind `--image_path`, or the frames of a video, as pairs (name, uint8 BGR `[H, W, 3]`).

    Attributes:
        done (int): how many were read or found unreadable so far.
        faults (list[str]): a sentence for each that was left out.

    Raises:
        UserError: nothing is there or can be read, or two results would have the same name.
    """

    def __init__(self, image_path):
        self._video = image_path if image_path.lower().endswith(_VIDEOS) else None
        if self._video:
            self._length = _frame_count(image_path)
            self._unreadable = []
        else:
            self._paths, self._unreadable = listed(image_path)
            self._length = len(self._paths) + len(self._unreadable)
            _check_names(self._paths)
        self.rewind()

    def rewind(self):
        """Start again."""
        self.done = len(self._unreadable)
        self.faults = [f"{path} cannot be read and was left out." for path in self._unreadable]

    def __len__(self):
        return self._length

    def __iter__(self):
        return self._frames() if self._video else self._images()

    def _images(self):
        import cv2

        for path in self._paths:
            self.done += 1
            fault = _damage(path)
            pixels = None if fault else cv2.imread(path)
            if pixels is None:
                self.faults.append(f"{path} cannot be read and was left out{fault}.")
            else:
                yield _name(path), pixels

    def _frames(self):
        import cv2

        video = cv2.VideoCapture(self._video)
        while True:
            more, pixels = video.read()
            if not more:
                break
            self.done += 1
            yield f"{_name(self._video)}_{self.done:06d}", pixels
        video.release()
        if self.done < self._length:
            self.faults.append(
                f"{self._video} ends after frame {self.done} of {self._length}: the rest cannot be read."
            )


def _frame_count(path):
    import cv2

    if not os.path.isfile(path):
        raise UserError(f"--image_path names {path}, and there is no such file.")
    video = cv2.VideoCapture(path)
    opened, frames = video.isOpened(), int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    video.release()
    if not opened:
        raise UserError(f"--image_path names {path}, a video that OpenCV cannot open.")
    return frames


def _check_names(paths):
    seen = {}
    for path in paths:
        other = seen.setdefault(_name(path), path)
        if other != path:
            raise UserError(f"{other} and {path} would both give {_name(path)}.png: run them apart.")


def _damage(path):
    """What Pillow says against the file, in brackets; OpenCV fills the lost part of a cut-off image without a word."""
    from PIL import Image

    from bisenetv1_plugin.datasets.check import READ_ERRORS

    try:
        with Image.open(path) as image:
            image.load()
    except READ_ERRORS as error:
        return f" ({error})"
    return ""


def _name(path):
    return os.path.splitext(os.path.basename(path))[0]


def root(image_path):
    """The folder that the results' names are relative to, as upstream has it: None for a single image."""
    if os.path.isdir(image_path):
        return image_path
    return None if image_path.lower().endswith((".jpeg", ".jpg", ".bmp", ".png")) else os.path.dirname(image_path)


def report(faults):
    """Say what was left out, a sentence each; returns the exit code."""
    faults = list(faults)
    for fault in faults:
        print(f"bisenetv1: {fault}", file=sys.stderr)
    return 1 if faults else 0
