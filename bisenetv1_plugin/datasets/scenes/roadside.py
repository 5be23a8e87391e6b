"""The roadside (houses, walls, fences, hedges) and the objects on the sidewalk (trees, posts, bins).

The former are textures, as `Canvas.plane` takes them; the latter are faces.
"""

from __future__ import annotations

import numpy as np

from bisenetv1_plugin.datasets import classes
from bisenetv1_plugin.datasets.scenes.canvas import Face, Painted, Texture, phase
from bisenetv1_plugin.datasets.scenes.dice import (
    ANY,
    BLUE,
    DARK,
    EARTH,
    GLASS,
    GRAY,
    GREEN,
    LEAVES,
    VIVID,
    Dice,
    shade,
)


def house(dice: Dice) -> Texture:
    """Storeys of windows."""
    wall, window = dice.color(EARTH, *ANY), dice.color(*GLASS)
    frame = shade(wall, dice.between(0.6, 0.8) if dice.chance(0.5) else dice.between(1.2, 1.4))
    if abs(sum(window) - sum(wall)) < 120:  # windows must be visible
        window = shade(window, 0.4 if sum(wall) > 330 else 1.9)
    bay, storey = dice.between(1.8, 4.0), dice.between(2.8, 3.8)
    wide, high = dice.between(0.4, 0.75), dice.between(0.45, 0.7)
    sill = dice.chance(0.6)

    def texture(s: np.ndarray, y: np.ndarray) -> Painted:
        v = phase(y, storey)
        column, row = np.abs(phase(s, bay) - 0.5) < 0.5 * wide, np.abs(v - 0.55) < 0.5 * high
        index = (column & row).astype(np.uint8)
        if sill:
            index[v < 0.09] = 2
        return index, (wall, window, frame), classes.BUILDING

    return texture


def bricks(dice: Dice) -> Texture:
    stone = dice.color(GRAY, EARTH, GREEN)
    course, length = dice.between(0.35, 0.6), dice.between(0.8, 1.4)
    mortar = shade(stone, dice.between(0.5, 0.7) if dice.chance(0.6) else dice.between(1.3, 1.5))

    def texture(s: np.ndarray, y: np.ndarray) -> Painted:
        odd = phase(y, 2 * course) < 0.5
        upright = np.where(odd, phase(s, length) < 0.13, phase(s + np.float32(0.5 * length), length) < 0.13)
        return ((phase(y, course) < 0.2) | upright).astype(np.uint8), (stone, mortar), classes.WALL

    return texture


def pickets(dice: Dice) -> Texture:
    wood = dice.color(GRAY, EARTH, VIVID)
    step, share, rails = dice.between(0.3, 0.6), dice.between(0.3, 0.5), dice.between(0.4, 0.6)

    def texture(s: np.ndarray, y: np.ndarray) -> Painted:
        picket = (phase(s, step) < share) | (phase(y, rails) < 0.1 / rails)
        return picket.astype(np.int8) - np.int8(1), (wood,), classes.FENCE

    return texture


def hedge(dice: Dice) -> Texture:
    leaf = dice.color(*LEAVES)
    return lambda s, y: (np.zeros(y.shape, np.uint8), (leaf,), classes.VEGETATION)


def tree(dice: Dice) -> Face:
    leaf, bark = dice.color(*LEAVES), dice.color(EARTH, GRAY)
    trunk, spread = dice.between(1.8, 3.5), dice.between(1.0, 2.4)
    if dice.chance(0.3):  # a bush
        trunk, spread = 0.3, dice.between(0.6, 1.3)
    face = Face(classes.VEGETATION)
    face.box(-0.16, 0, 0.16, trunk + 0.3 * spread, shade(bark, 0.8))
    for _ in range(13):
        s, y = dice.between(-1, 1), dice.between(0, 1.6)
        radius, light = dice.between(0.4, 0.8), dice.between(0.65, 1.3)
        face.disc(s * spread, trunk + (y + 0.3) * spread, radius * spread, shade(leaf, light))
    return face


def post(dice: Dice) -> Face:
    """A pole with a lamp, a sign, or a traffic light."""
    metal = dice.color(GRAY, GRAY, EARTH, GREEN)
    kind, top, thick = dice.count(0, 4), dice.between(3.0, 6.5), dice.between(0.14, 0.24)
    plate, rim, ink = dice.color(VIVID, BLUE), dice.color(VIVID, GRAY), dice.color(VIVID, GRAY)
    shape, size, arm = dice.count(0, 3), dice.between(0.4, 0.75), dice.between(-2.5, 2.5)
    lit = dice.count(0, 3)

    face = Face(classes.POLE)
    face.box(-thick / 2, 0, thick / 2, top, metal)
    if kind == 0:
        face.bar((0, top), (arm, top + 0.3), 0.16, metal)
    elif kind == 1:
        face.label, bottom = classes.TRAFFIC_LIGHT, top - 1.4
        face.box(-0.3, bottom, 0.3, top, DARK)
        for i, lamp in enumerate(((90, 200, 60), (40, 180, 240), (40, 40, 220))):
            face.disc(0, bottom + 0.28 + 0.42 * i, 0.17, lamp if i == lit else shade(lamp, 0.35))
    else:
        face.label = classes.TRAFFIC_SIGN
        if shape == 0:
            face.disc(0, top, size, rim)
            face.disc(0, top, size * 0.72, plate)
        elif shape == 1:
            for scale, color in ((1.15, rim), (0.7, plate)):
                r = size * scale
                face.polygon(((-r, top - 0.6 * r), (r, top - 0.6 * r), (0, top + r)), color)
        else:
            face.box(-1.3 * size, top - size, 1.3 * size, top + size, rim)
            face.box(-1.15 * size, top - 0.85 * size, 1.15 * size, top + 0.85 * size, plate)
        face.box(-0.4 * size, top - 0.12 * size, 0.4 * size, top + 0.12 * size, ink)
    return face


def litter_bin(dice: Dice) -> Face:
    """Street furniture that Cityscapes does not count: 255."""
    color, high, wide = dice.color(*ANY), dice.between(0.8, 1.3), dice.between(0.3, 0.5)
    face = Face(classes.IGNORE_INDEX)
    face.polygon(((-0.8 * wide, 0), (0.8 * wide, 0), (wide, high), (-wide, high)), color)
    face.box(-1.1 * wide, high, 1.1 * wide, high + 0.1, shade(color, 0.7))
    return face
