"""Show overlays in a window on the screen."""

from __future__ import annotations

import subprocess
import sys

import cv2
import numpy as np

from bisenetv1_plugin.drawing.painter import Painter
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.engine import SegmentedPicture

_QUIT = (ord("q"), ord("Q"), 27)  # 27: Esc


class OverlayWindow:
    """Shows the latest overlay. Call `write` from any thread, but `show` only from the thread that created the window.

    Args:
        title: the title of the window.
        painter: the classes' colors and names, for a legend below; default: PaddleSeg's colors.

    Raises:
        InputError: there is no screen, or OpenCV is built without windows.
    """

    def __init__(self, title: str, painter: Painter | None = None) -> None:
        # Tried in a subprocess, because OpenCV aborts the process if there is no screen.
        code = f"import sys; sys.path[:] = {sys.path!r}; import cv2; cv2.namedWindow({title!r}); cv2.waitKey(1)"
        tried = subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if tried.returncode:
            raise InputError("OpenCV can open no window here (is there a screen, and DISPLAY set?): omit --show.")
        self._title, self._painter = title, painter or Painter()
        self._latest: np.ndarray | None = None
        self._shown = self._ended = False

    def write(self, found: SegmentedPicture) -> None:
        """Set the picture to show."""
        self._latest = self._painter.with_legend(self._painter.overlay(found.mask, found.picture.pixels))

    def show(self) -> bool:
        """Show the latest picture; False once the user has pressed q or Esc or closed the window."""
        if self._latest is None or self._ended:
            return not self._ended
        if self._shown and cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1:
            self._ended = True
        else:
            cv2.imshow(self._title, self._latest)
            self._shown = True
            self._ended = cv2.waitKey(1) & 0xFF in _QUIT
        return not self._ended
