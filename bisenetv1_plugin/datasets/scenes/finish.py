"""From the painting to the picture: the camera's own car, then texture, light, lens and sensor."""

from __future__ import annotations

import cv2
import numpy as np

from bisenetv1_plugin.datasets import classes
from bisenetv1_plugin.datasets.scenes.canvas import Canvas
from bisenetv1_plugin.datasets.scenes.dice import ANY, Dice

# Fields of noise: width and height of a cell in 1/128 of the picture's height
_CELLS = ((1.0, 1.0), (2.2, 2.2), (1.3, 5.0), (9.0, 1.5), (42.0, 18.0))  # grain, leaves, upright, level, clouds
# How strongly each field shows on each class, in 1/128
_STRENGTH = np.zeros((256, len(_CELLS)), np.int16)
for _train_id, _values in {
    classes.ROAD: (44, 0, 0, 0, 0),
    classes.SIDEWALK: (6, 0, 0, 0, 8),
    classes.BUILDING: (6, 0, 0, 0, 8),
    classes.WALL: (16, 0, 0, 0, 0),
    classes.FENCE: (8, 0, 8, 0, 0),
    classes.VEGETATION: (16, 92, 0, 0, 0),
    classes.TERRAIN: (16, 0, 72, 0, 16),
    classes.SKY: (0, 0, 0, 0, 42),
    classes.PERSON: (8, 0, 18, 0, 0),
    classes.RIDER: (8, 0, 18, 0, 0),
    classes.TRUCK: (6, 0, 10, 0, 0),
    classes.BUS: (0, 0, 0, 8, 0),
    classes.TRAIN: (0, 0, 0, 16, 0),
}.items():
    _STRENGTH[_train_id] = _values


def paint_own_car(canvas: Canvas, dice: Dice) -> None:
    """Paint the camera's own car and the border of a rectified picture, both 255."""
    bonnet, high, middle = dice.color(*ANY), dice.between(0.04, 0.12), dice.between(0.3, 0.7)
    width, height = canvas.width, canvas.height
    has_bonnet, has_border = dice.chance(0.3), dice.chance(0.3)
    if has_bonnet:
        center = (round(middle * width), round(1.02 * height))
        axes = (round(0.6 * width), round((high + 0.02) * height))
        cv2.ellipse(canvas.pixels, center, axes, 0, 0, 360, bonnet + (classes.IGNORE_INDEX,), -1)
    if has_border:
        edge = max(round(height / 100), 1)
        cv2.rectangle(canvas.pixels, (0, 0), (width - 1, height - 1), (0, 0, 0, classes.IGNORE_INDEX), edge)


def _field(noise: np.random.RandomState, width: int, height: int, cell_x: float, cell_y: float) -> np.ndarray:
    """Smooth noise, uint8 `[height, width]`: random values on a grid of cells, interpolated."""
    grid = noise.randint(0, 256, (max(round(height / cell_y), 2), max(round(width / cell_x), 2)), dtype=np.uint8)
    # The exact variant gives the same result on every processor
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)


def develop(canvas: Canvas, dice: Dice, noise: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
    """The image, uint8 `[H, W, 3]`, and the label, uint8 `[H, W]`; `noise` is a generator for what is per pixel."""
    width, height = canvas.width, canvas.height
    label = np.ascontiguousarray(canvas.pixels[..., 3])
    unit = height / 128.0
    light = np.zeros((height, width), np.int16)
    for strength, (x, y) in zip(_STRENGTH.T, _CELLS):
        light += strength[label] * (_field(noise, width, height, x * unit, y * unit).astype(np.int16) - 128)
    light >>= 7

    slant = int(dice.between(-30, 30))
    light += (np.arange(width) * slant // width - slant // 2).astype(np.int16)
    image = np.clip(canvas.pixels[..., :3] + light[..., None], 0, 255).astype(np.uint8)

    # Exposure, contrast and a color cast, as a table per channel
    gain, lift = dice.between(0.75, 1.1), dice.between(-8, 16)
    cast = [dice.between(0.93, 1.07) for _ in range(3)]
    ramp = np.arange(256)
    table = np.stack([np.clip(np.rint(ramp * (gain * c) + lift), 0, 255) for c in cast], -1).astype(np.uint8)
    image = cv2.LUT(image, table[None])

    soft = dice.count(0, 3)
    size = (0, 3, 3)[soft] if unit < 2 else (0, 3, 5)[soft]
    if size:
        image = cv2.GaussianBlur(image, (size, size), 0)
    amount = dice.count(3, 10)
    sensor = noise.randint(0, 2 * amount + 1, (height, width), dtype=np.uint8)
    image = cv2.subtract(cv2.add(image, cv2.merge([sensor] * 3)), (amount,) * 4)
    return image, label
