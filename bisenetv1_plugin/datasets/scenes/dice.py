"""Random choices for scenes, and colors: BGR, from palettes that several classes share."""

from __future__ import annotations

from typing import Sequence, Tuple

import numpy as np

Color = Tuple[int, ...]  # blue, green, red
Palette = Sequence[Color]

GRAY = ((58, 56, 54), (92, 92, 90), (128, 126, 124), (164, 164, 162), (206, 204, 202))
EARTH = ((52, 70, 98), (70, 96, 138), (92, 120, 160), (60, 66, 132), (150, 180, 200))
GREEN = ((48, 78, 62), (62, 110, 88), (88, 132, 104), (104, 140, 138))
BLUE = ((206, 178, 142), (176, 140, 104), (120, 84, 62), (222, 208, 190))
VIVID = ((48, 44, 172), (60, 164, 206), (38, 36, 36), (228, 226, 226), (150, 70, 40), (70, 120, 200))
SKIES = (BLUE[0], BLUE[1], BLUE[3], EARTH[4], GRAY[4])
# Groups of palettes
ANY = (GRAY, EARTH, GREEN, BLUE, VIVID)
LEAVES = (GREEN,) * 5 + (EARTH,)
GLASS = (GRAY, BLUE, BLUE)
DARK = (34, 32, 31)


class Dice(np.random.RandomState):
    """numpy's frozen generator with the throws that scenes are made of. Another order of throws gives another scene."""

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * self.random_sample()

    def count(self, low: int, high: int) -> int:
        """An integer, `high` excluded."""
        return low + int((high - low) * self.random_sample())

    def chance(self, probability: float) -> bool:
        return self.random_sample() < probability

    def color(self, *palettes: Palette) -> Color:
        """A color near one of the palettes' own; every palette is as likely as the others."""
        first, second, blue, green, red, light = self.random_sample(6).tolist()
        palette = palettes[int(first * len(palettes))]
        color = palette[int(second * len(palette))]
        return tuple(min(max(c + int(28 * (j + light - 1.0)), 0), 255) for c, j in zip(color, (blue, green, red)))


def shade(color: Color, factor: float) -> Color:
    return tuple(min(int(c * factor), 255) for c in color)
