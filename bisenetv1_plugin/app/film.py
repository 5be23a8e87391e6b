"""A video that browsers play."""

import cv2

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.clip import check_written
from bisenetv1_plugin.inference.video import opened


class Film:
    """Writes frames as VP8 in WebM: of what PyPI's OpenCV can encode at a fair speed, what browsers play.

    Args:
        path (str): ends with .webm.
        like (str): the video whose size and frame rate it gets.

    Attributes:
        path (str): the file.
        width, height (int): of a frame.
        total (int): frames that the video says it has; 0 or less where it says nothing.
        frames (int): written so far.

    Raises:
        InputError: OpenCV cannot read that video.
    """

    def __init__(self, path, like):
        self.path, self.frames = path, 0
        video = opened(like)
        self.width, self.height = (int(video.get(key)) for key in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        self.total = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        rate = video.get(cv2.CAP_PROP_FPS)
        self._rate = rate if 0 < rate <= 240 else 25.0  # recordings of a browser say 1000, or nothing
        video.release()
        self._writer = None

    def write(self, picture):
        """uint8 RGB `[H, W, 3]`, all of one size.

        Raises:
            InputError: OpenCV cannot write such a video.
        """
        if self._writer is None:
            size = picture.shape[1::-1]
            self._writer = cv2.VideoWriter(self.path, cv2.VideoWriter_fourcc(*"VP80"), self._rate, size)
            if not self._writer.isOpened():
                raise InputError(f"OpenCV cannot write a WebM video of {size[0]}x{size[1]} pixels here.")
        self._writer.write(picture[..., ::-1])
        self.frames += 1

    def end(self):
        """Finish the file; returns its path, or None where no frame came.

        Raises:
            OSError: the disk is full.
        """
        if self._writer is None:
            return None
        writer, self._writer = self._writer, None
        writer.release()
        check_written(self.path, self.frames)
        return self.path
