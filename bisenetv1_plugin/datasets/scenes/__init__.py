"""Synthetic street scenes: a picture and its label, drawn from a number.

A scene is a street seen through a pinhole camera. Meters everywhere: X to the right, Y up, Z away from the camera; the
ground is Y = 0. Things are painted from far to near, and everything random about them is drawn before any is painted,
so a seed shows the same street at any size. Colors come from palettes that the classes share: what tells a building
from a bus or a lawn from a tree is texture, shape and surroundings.

Needs numpy and cv2 only. The same seed gives the same bytes everywhere: the generator is numpy's frozen `RandomState`,
and the arithmetic is integer, or the four operations, which IEEE 754 rounds in one way only.

`street` places everything; `ground`, `roadside`, `people` and `vehicles` draw it; `canvas` paints.
"""

from __future__ import annotations

import numpy as np

from bisenetv1_plugin.datasets.scenes.canvas import Camera, Canvas
from bisenetv1_plugin.datasets.scenes.dice import BLUE, GRAY, Dice
from bisenetv1_plugin.datasets.scenes.finish import develop, paint_own_car
from bisenetv1_plugin.datasets.scenes.ground import paint_ground, paint_sky
from bisenetv1_plugin.datasets.scenes.street import Street, things_of

__all__ = ["render_scene"]


def render_scene(seed: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw the street scene of a seed.

    Args:
        seed: 0 to 2**32 - 1.
        width, height: Size in pixels, 16 or more each. Made for pictures about twice as wide as high.

    Returns:
        image: uint8 `[height, width, 3]`, BGR as OpenCV writes it.
        label: uint8 `[height, width]`, Cityscapes train ids 0..18, or 255 (ignore).

    Raises:
        ValueError: The seed or the size is out of range.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}. Choose an integer from 0 to 2**32 - 1.")
    if min(width, height) < 16:
        raise ValueError(f"The size is {width} x {height} pixels. Choose 16 or more each way.")
    dice = Dice([seed, 0])
    camera = Camera.draw(dice, width, height)
    street = Street.draw(dice)
    canvas = Canvas(camera, width, height, dice.color(GRAY, BLUE))
    paint_sky(canvas, dice)
    paint_ground(canvas, dice, street)
    for _, paint in sorted(things_of(street, dice, canvas), key=lambda thing: -thing[0]):
        paint(canvas)
    paint_own_car(canvas, dice)
    # A generator of its own for what is drawn per pixel: the rest stays the same at any size
    return develop(canvas, dice, np.random.RandomState([seed, 1]))
