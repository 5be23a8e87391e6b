"""Geometric transforms of the published trainings that PaddleSeg lacks.

A transform takes PaddleSeg's sample, changes it and returns it. The sample is a dict with `img`, `[H, W, 3]` or
`[H, W]`. Each name in `gt_fields` is the key of a map of the same height and width; in training `label` is one.
"""

from __future__ import annotations

from typing import Any, Sequence

import cv2
import numpy as np

__all__ = ["CenterPadding", "MMSegRandomCrop", "RandomMirrorSwap"]

IGNORE_INDEX = 255


class CenterPadding:
    """Pads smaller images to `target_size`, equally on all sides, with 0. Maps are padded with 255.

    The authors' code does this after the normalization, and CoinCheung's before. PaddleSeg's `Padding` and
    `RandomPaddingCrop` pad only at the right and the bottom.

    Args:
        target_size: the minimum width and height in pixels.

    Raises:
        ValueError: `target_size` is not two positive integers.
    """

    def __init__(self, target_size: Sequence[int]) -> None:
        self.width, self.height = _size("target_size", target_size)

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        height, width = data["img"].shape[:2]
        vertical, horizontal = max(self.height - height, 0), max(self.width - width, 0)
        if vertical or horizontal:
            top, left = vertical // 2, horizontal // 2
            borders = (top, vertical - top, left, horizontal - left, cv2.BORDER_CONSTANT)
            data["img"] = cv2.copyMakeBorder(data["img"], *borders, value=0)
            for key in data.get("gt_fields", []):
                data[key] = cv2.copyMakeBorder(data[key], *borders, value=IGNORE_INDEX)
        return data


class MMSegRandomCrop:
    """MMSegmentation's `RandomCrop`: a random crop without a dominant class.

    If one class has `category_max_ratio` of the labeled pixels or more, another crop is drawn, up to ten times. Images
    smaller than the crop are not padded. (PaddleSeg's `RandomPaddingCrop` pads, which MMSegmentation does last. Its
    `category_max_ratio` is broken in 2.8.0: it replaces the image with the label.)

    Args:
        crop_size: width and height in pixels.
        category_max_ratio: a fraction between 0 and 1.

    Raises:
        ValueError: an argument is out of range.
    """

    TRIES = 10

    def __init__(self, crop_size: Sequence[int], category_max_ratio: float) -> None:
        self.width, self.height = _size("crop_size", crop_size)
        if not 0 < category_max_ratio < 1:
            raise ValueError(f"category_max_ratio is {category_max_ratio!r}. Give a fraction between 0 and 1.")
        self.category_max_ratio = category_max_ratio

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        crop = self._draw(data["img"])
        for _ in range(self.TRIES):
            if self._is_varied(data["label"][crop]):
                break
            crop = self._draw(data["img"])
        data["img"] = data["img"][crop]
        for key in data["gt_fields"]:
            data[key] = data[key][crop]
        return data

    def _draw(self, img: np.ndarray) -> tuple[slice, slice]:
        height, width = img.shape[:2]
        top = np.random.randint(max(height - self.height, 0) + 1)
        left = np.random.randint(max(width - self.width, 0) + 1)
        return slice(top, top + self.height), slice(left, left + self.width)

    def _is_varied(self, label: np.ndarray) -> bool:
        counts = np.bincount(label[label != IGNORE_INDEX])
        return counts.max(initial=0) < self.category_max_ratio * counts.sum()


class RandomMirrorSwap:
    """Mirrors image and label with probability 0.5, and swaps classes such as left and right eye.

    Args:
        pairs: pairs of class numbers to swap.

    Raises:
        ValueError: `pairs` are not pairs of numbers from 0 to 255, or a number is there twice.
    """

    def __init__(self, pairs: Sequence[Sequence[int]]) -> None:
        numbers = [number for pair in pairs for number in pair]
        valid = all(isinstance(number, int) and 0 <= number <= 255 for number in numbers)
        if not valid or any(len(pair) != 2 for pair in pairs) or len(set(numbers)) < len(numbers):
            raise ValueError(f"pairs is {pairs!r}. Give pairs of class numbers, such as [[4, 5], [7, 8]], each once.")
        self.swapped = np.arange(256, dtype="uint8")
        for one, other in pairs:
            self.swapped[[one, other]] = other, one

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        if np.random.randint(2):
            data["img"] = data["img"][:, ::-1]
            for key in data.get("gt_fields", []):
                data[key] = data[key][:, ::-1]
            if "label" in data.get("gt_fields", []):
                data["label"] = self.swapped[data["label"]]
        return data


def _size(name: str, size: Sequence[int]) -> tuple[int, int]:
    if len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise ValueError(f"{name} is {size!r}. Give width and height in pixels, such as [1024, 512].")
    return size[0], size[1]
