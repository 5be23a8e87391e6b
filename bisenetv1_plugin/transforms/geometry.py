"""Transforms of the published trainings that move pixels, where PaddleSeg has none of the kind.

A transform takes PaddleSeg's sample, a dict: `img`, `[H, W, 3]` or `[H, W]`, and under every name in `gt_fields` a map
of the same height and width, in training `label` among them. It changes the dict and returns it.
"""

from __future__ import annotations

from typing import Any, Sequence

import cv2
import numpy as np

__all__ = ["CenterPadding", "MMSegRandomCrop", "RandomMirrorSwap"]

IGNORE_INDEX = 255


class CenterPadding:
    """Pads a smaller image to `target_size` with 0, half of it on each side. A larger one stays.

    Maps are padded with 255. As the authors' code does after the normalization, and CoinCheung's before. `Padding` and
    `RandomPaddingCrop` of PaddleSeg pad at the right and at the bottom alone.

    Args:
        target_size (list): Width and height in pixels that the image has at least afterwards.

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
    """A random crop in which no class has more than its share. A side shorter than the crop's stays; nothing is padded.

    MMSegmentation's `RandomCrop`: a crop in which one class has `category_max_ratio` of the labeled pixels or more is
    drawn again, ten times at most. (`category_max_ratio` of PaddleSeg's `RandomPaddingCrop` is broken in 2.8.0, where
    it puts the label in the image's place; and that pads, which MMSegmentation does after all else.)

    Args:
        crop_size (list): Width and height in pixels.
        category_max_ratio (float): Between 0 and 1.

    Raises:
        ValueError: An argument is out of range.
    """

    TRIES = 10

    def __init__(self, crop_size: Sequence[int], category_max_ratio: float) -> None:
        self.width, self.height = _size("crop_size", crop_size)
        if not 0 < category_max_ratio < 1:
            raise ValueError(f"category_max_ratio is {category_max_ratio!r}. Give a share between 0 and 1.")
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
    """Half of the times mirrors image and label, and swaps classes that mirror one another, such as left and right eye.

    Args:
        pairs (list): Pairs of class numbers.

    Raises:
        ValueError: `pairs` are not pairs of numbers from 0 to 255, each there once.
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
