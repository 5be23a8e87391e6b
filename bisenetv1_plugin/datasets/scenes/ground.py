"""The backdrop: the sky, and the ground with its markings, pavements, lawns and the shadow of the houses."""

from __future__ import annotations

import cv2
import numpy as np

from bisenetv1_plugin.datasets.classes import ROAD, SIDEWALK, SKY, TERRAIN
from bisenetv1_plugin.datasets.scenes.canvas import Canvas, as_words, phase
from bisenetv1_plugin.datasets.scenes.dice import BLUE, EARTH, GRAY, GREEN, SKIES, VIVID, Dice, shade
from bisenetv1_plugin.datasets.scenes.street import Street

# Five eighths of the light, and the label as it is
_SHADOW = np.stack([np.arange(256) * 5 // 8] * 3 + [np.arange(256)], -1).astype(np.uint8)[None]


def paint_sky(canvas: Canvas, dice: Dice) -> None:
    high = dice.color(BLUE, SKIES, SKIES, GRAY[3:])
    low = tuple((a + 2 * b) // 3 for a, b in zip(shade(high, dice.between(0.95, 1.3)), canvas.haze))
    ramp = np.arange(canvas.height, dtype=np.int32)[:, None] * 256 // canvas.height
    rows = (np.array(high) * (256 - ramp) + np.array(low) * ramp) // 256
    canvas.pixels[..., :3] = rows.astype(np.uint8)[:, None]
    canvas.pixels[..., 3] = SKY


def paint_ground(canvas: Canvas, dice: Dice, street: Street) -> None:
    lanes = dice.count(2, 5)
    dash, gap, mark_width = dice.between(2, 4), dice.between(3, 7), dice.between(0.12, 0.25)
    tile, course = dice.between(0.7, 1.8), dice.between(0.8, 2.4)
    meadow = dice.chance(0.6)  # behind the sidewalk; else the pavement goes on
    verge = dice.between(0.8, 2.0) if dice.chance(0.35) else 0.0  # a strip of grass along the kerb
    road, walk = dice.color(GRAY[:3], GRAY[:3], GRAY, EARTH), dice.color(GRAY[2:], GRAY[2:], EARTH)
    lawn = dice.color(GREEN, GREEN, GREEN, EARTH)
    mark = shade(dice.color(GRAY[-1:], BLUE[-1:], VIVID[1:2]), 1.1)
    zebra = dice.between(6, 30) if dice.chance(0.3) else None
    shadow_side, shadow = dice.count(0, 2), dice.between(0.0, 1.6)
    joint = shade(walk, dice.between(0.5, 0.7))

    camera = canvas.camera
    top = max(int(camera.horizon - abs(camera.tilt) * canvas.width), 0)
    down = (canvas.rows[:, None] - np.float32(camera.tilt) * canvas.columns)[top:]
    below = down > 0  # the horizon
    z = np.float32(camera.focal * camera.height) / np.maximum(down, np.float32(camera.focal * camera.height / 400))
    x = z * (canvas.columns / np.float32(camera.focal)) - np.float32(street.curve) * z * z

    index = np.zeros(z.shape, np.uint8)
    lane = (street.right - street.left) / lanes
    across = x - np.float32(street.left)
    near_line = phase(across + np.float32(mark_width / 2), lane) < mark_width / lane
    dashed = phase(z, dash + gap) < dash / (dash + gap)
    solid = (across < mark_width) | (across > lane * lanes - mark_width)
    index[near_line & (dashed | solid)] = 1
    if zebra is not None:
        index[(np.abs(z - zebra) < 1.6) & (phase(across, 1.0) < 0.5)] = 1
    walking = (x < street.left) | (x > street.right)
    joints = (phase(x, tile) < 0.09) | (phase(z, course) < 0.10)
    index[walking] = 2
    index[walking & joints & (z < 40)] = 3
    kerb = (np.abs(x - (street.left - 0.12)) < 0.12) | (np.abs(x - (street.right + 0.12)) < 0.12)
    index[kerb] = 4
    if verge:
        index[walking & ~kerb & (x > street.left - verge) & (x < street.right + verge)] = 5
    if meadow:
        index[(x < street.front_left) | (x > street.front_right)] = 5
    colors = road, mark, walk, joint, shade(walk, 1.22), lawn
    labels = ROAD, ROAD, SIDEWALK, SIDEWALK, SIDEWALK, TERRAIN
    words = as_words([color + (label,) for color, label in zip(colors, labels)])
    np.copyto(canvas.words[top:], words[index], where=below)

    if shadow > 0.4:  # of the houses of one side
        reach = shadow * 4.0 + 1.5 * (phase(z, 17.0) < 0.47)
        dark = x < street.left + reach if shadow_side else x > street.right - reach
        pixels = canvas.pixels[top:]
        cv2.copyTo(cv2.LUT(pixels, _SHADOW), (dark & below).astype(np.uint8), pixels)
