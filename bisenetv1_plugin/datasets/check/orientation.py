"""Finds out whether a label fits its image before or after EXIF turns it, if their sizes do not show it.

OpenCV turns images by their EXIF orientation when it reads them. The program that the label was drawn in may not.
"""

from __future__ import annotations

import cv2
import numpy as np

_SIDE = 256  # pixels; both are reduced to this
_CLEAR = (
    0.15  # of a standard deviation; 468 photographs of streets differ by 0.18 to 1 upside down, 0.1 at most wrongly
)

_ALIKE = 0.99  # of the pixels


def turn(array: np.ndarray, orientation: int) -> np.ndarray:
    """`[H, W]` or `[H, W, C]` as stored in a file, turned by an EXIF orientation of 1..8; a view of it."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


def is_ambiguous(size: tuple[int, int], orientation: int) -> bool:
    """Whether an orientation turns an image of this (width, height) without changing its size."""
    return orientation != 1 and (orientation < 5 or size[0] == size[1])


def needs_turn(pixels: np.ndarray, label: np.ndarray, orientation: int) -> bool | None:
    """Whether a label must be turned as its image is; None if that is unclear.

    In the right orientation, the image has more edges at the label's edges than elsewhere. A label that looks the same
    in both orientations need not be turned.

    Args:
        pixels: uint8 [H, W, 3], the image as OpenCV reads and turns it.
        label: [H, W] or [H, W, 3], of the same size, as stored in its file.
        orientation: EXIF orientation of the image.
    """
    if label.ndim == 2:
        label = label[..., None]
    turned = turn(label, orientation)
    height, width = pixels.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        rows, columns = (np.arange(n) * whole // n for n, whole in zip(size[::-1], (height, width)))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        label, turned = (array[rows[:, None], columns] for array in (label, turned))
    if (turned == label).all(axis=2).mean() > _ALIKE:
        return False
    if min(pixels.shape[:2]) < 3:
        return None
    strength = _strength(pixels)
    upright, other = (_edges(array) for array in (label, turned))
    count = min(upright.sum(), other.sum())
    if not count or not strength.std():
        return None
    strength = (strength - strength.mean()) / strength.std()
    difference = strength[upright].mean() - strength[other].mean()
    if abs(difference) < max(_CLEAR, 6 / np.sqrt(count)):
        return None
    return bool(difference < 0)


def _strength(pixels: np.ndarray) -> np.ndarray:
    """float32 [H - 2, W - 2]: how much the color changes at a pixel, on a logarithmic scale."""
    image = pixels.astype(np.float32)
    across = np.abs(image[1:-1, 2:] - image[1:-1, :-2]).max(axis=2)
    down = np.abs(image[2:, 1:-1] - image[:-2, 1:-1]).max(axis=2)
    return np.log1p(np.maximum(across, down))


def _edges(label: np.ndarray) -> np.ndarray:
    """bool [H - 2, W - 2]: where a neighbor has another value."""
    middle = label[1:-1, 1:-1]
    neighbors = (label[1:-1, 2:], label[1:-1, :-2], label[2:, 1:-1], label[:-2, 1:-1])
    return np.any([middle != other for other in neighbors], axis=(0, 3))
