"""Color transforms of the published trainings that differ from PaddleSeg's `RandomDistort`.

They take and return PaddleSeg's sample with an RGB image, `[H, W, 3]`, 0..255, before `Normalize`. As in the originals,
each step rounds down to integers.

Raises:
    ValueError: the image does not have three channels.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

__all__ = ["CoinCheungColorJitter", "MMSegPhotoMetricDistortion"]


class MMSegPhotoMetricDistortion:
    """MMSegmentation's `PhotoMetricDistortion`: brightness, contrast, saturation and hue, each with probability 0.5.

    - Brightness adds -32..32 to all channels.
    - Contrast multiplies all channels by 0.5..1.5. It is second or last, with equal probability.
    - Saturation is multiplied by 0.5..1.5 in the HSV image.
    - The hue moves by -36..34 degrees.

    (`RandomDistort` multiplies for brightness, blends with the mean gray for contrast, and has a random order.)
    """

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        img = _as_integers(data["img"])
        if _coin():
            img = _to_uint8(img + np.float32(np.random.uniform(-32, 32)))
        contrast_last = _coin()
        if not contrast_last:
            img = self._contrast(img)
        if _coin():
            hsv = cv2.cvtColor(img, cv2.COLOR_RGB2HSV)
            hsv[..., 1] = _to_uint8(hsv[..., 1] * _factor(0.5))
            img = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        if _coin():
            hsv = cv2.cvtColor(img, cv2.COLOR_RGB2HSV)
            hsv[..., 0] = (hsv[..., 0].astype(int) + np.random.randint(-18, 18)) % 180  # in steps of 2 degrees
            img = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
        if contrast_last:
            img = self._contrast(img)
        data["img"] = img.astype("float32")
        return data

    def _contrast(self, img: np.ndarray) -> np.ndarray:
        return _to_uint8(img * _factor(0.5)) if _coin() else img


class CoinCheungColorJitter:
    """CoinCheung's `ColorJitter`: always brightness, then contrast, then saturation, by factors of 0.6..1.4.

    Brightness multiplies, contrast stretches around the gray level 74, saturation blends with the mean of the three
    channels. (`RandomDistort` does each with probability 0.5, in random order, with contrast around the image's mean.)
    """

    GRAY = 74

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        img = _as_integers(data["img"])
        levels = _to_uint8(np.arange(256) * _factor(0.4))
        levels = _to_uint8(self.GRAY + (levels.astype("float32") - self.GRAY) * _factor(0.4))
        img = levels[img]
        factor = _factor(0.4)
        gray = img.mean(axis=2, keepdims=True, dtype="float32")
        data["img"] = _to_uint8(img * factor + gray * (1 - factor)).astype("float32")
        return data


def _coin() -> bool:
    return np.random.randint(2) == 1


def _factor(spread: float) -> np.float32:
    return np.float32(np.random.uniform(1 - spread, 1 + spread))


def _as_integers(img: np.ndarray) -> np.ndarray:
    """Round to uint8, because the originals resize integers. A cubic resize may leave 0..255."""
    if img.ndim != 3 or img.shape[2] != 3:
        raise ValueError(f"the image has shape {list(img.shape)}: colors can be changed only in three channels.")
    return _to_uint8(np.rint(img))


def _to_uint8(values: np.ndarray) -> np.ndarray:
    return np.clip(values, 0, 255).astype("uint8")
