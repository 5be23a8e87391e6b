"""Draw masks in colors: palettes, overlays and legends."""

from __future__ import annotations

import functools
import io
import os
from typing import Any, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

RGB = Tuple[int, int, int]


def voc_colors(count: int = 256) -> list[RGB]:
    """The colors of VOC's palette: the bits of each number, distributed to red, green and blue."""
    colors = []
    for number in range(count):
        channels = [0, 0, 0]
        for bit in range(8):
            for channel in range(3):
                channels[channel] |= (number >> (3 * bit + channel) & 1) << (7 - bit)
        colors.append((channels[0], channels[1], channels[2]))
    return colors


def palette(num_classes: int, colors: Any = ()) -> np.ndarray:
    """A palette, uint8 RGB `[256, 3]`: the colors of the classes, and one color for all other values.

    Args:
        num_classes: the number of classes.
        colors: RGB of every class; default: PaddleSeg's colors. Other values are black, or, if a class is
            black, light gray, white or another gray that no class has.
    """
    if len(colors) == 0:
        colors = voc_colors(257)[1:][:num_classes]
    taken = {tuple(map(int, color)) for color in colors}
    grays = ((value, value, value) for value in (0, 224, 255, *range(256)))
    other = next((gray for gray in grays if gray not in taken), (255, 255, 255))
    table = np.tile(np.array(other, "uint8"), (256, 1))
    table[:num_classes] = colors
    return table


def draw_legend(width: int, numbers: Sequence[int], names: Sequence[str], colors: Any) -> np.ndarray:
    """A white strip with the colors and names of classes, uint8 RGB `[height, width, 3]`.

    Args:
        width: the width of the picture, in pixels.
        numbers: the classes to show.
        names: the names of all classes. A name that no installed font can write is replaced by the number.
        colors: RGB of all classes.
    """
    size = min(28, max(11, width // 40))
    gap = size // 2
    entries = []  # (text, its font, RGB)
    for number in map(int, numbers):
        text = drawable_names([names[number]], number)[0] if number < len(names) else str(number)
        font = ImageFont.truetype(find_font(frozenset(text)) or "", size)
        while len(text) > 1 and 2 * gap + 1.5 * size + font.getlength(text) > width:
            text = text[:-1]
        entries.append((text, font, tuple(map(int, colors[number]))))
    cell = int(2 * size + gap + max(font.getlength(text) for text, font, _ in entries))
    columns = max(1, (width - gap) // cell)
    line = size * 3 // 2
    strip = Image.new("RGB", (width, gap + line * -(-len(entries) // columns)), "white")
    draw = ImageDraw.Draw(strip)
    for place, (text, font, color) in enumerate(entries):
        left, top = gap + place % columns * cell, gap + place // columns * line
        draw.rectangle((left, top, left + size, top + size), fill=color, outline="gray")
        draw.text((left + size + gap, top + size // 2), text, fill="black", font=font, anchor="lm")
    return np.asarray(strip)


def drawable_names(names: Sequence[str], first: int = 0) -> list[str]:
    """The names of classes, numbered from `first`. A name that no installed font can write becomes its number."""
    return [name if find_font(frozenset(name)) else str(number) for number, name in enumerate(names, first)]


@functools.lru_cache(maxsize=None)
def find_font(characters: frozenset[str]) -> str | None:
    """The file of an installed font with these characters, preferably Matplotlib's own; None if there is none."""
    import matplotlib
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    own = os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    for path in (own, *sorted({font.fname for font in font_manager.fontManager.ttflist})):
        if os.path.basename(path).startswith("LastResort"):  # draws a placeholder for every character
            continue
        try:
            known = FT2Font(path).get_charmap().keys()
        except (OSError, RuntimeError):  # Matplotlib's list of fonts may be outdated
            continue
        if known >= set(map(ord, characters)):
            return path
    return None


class Painter:
    """Draws masks in the classes' colors.

    Args:
        classes: the names of the classes, by number.
        colors: their colors, RGB 0..255; default: PaddleSeg's.
        unknown: 255 in a mask is not a class. It is named unknown, and has a color that no class has.
    """

    def __init__(self, classes: Sequence[str] = (), colors: Any = (), unknown: bool = False) -> None:
        self._numbers = [*range(len(classes)), *[255] * unknown] if classes else []
        self._rgb = palette(len(colors) or 256 - unknown, colors)
        names = [*classes, *map(str, range(len(classes), 255)), "unknown"] if unknown else classes
        # Cached, because the frames of a video have the same legend.
        self._legend = functools.lru_cache(16)(lambda width, numbers: draw_legend(width, numbers, names, self._rgb))
        self._bgr = np.ascontiguousarray(self._rgb[np.newaxis, :, ::-1])  # the shape of a lookup table in OpenCV

    def color(self, mask: np.ndarray) -> np.ndarray:
        """The colors of a mask, uint8 `[H, W]` -> BGR `[H, W, 3]`."""
        return cv2.LUT(cv2.cvtColor(mask, cv2.COLOR_GRAY2BGR), self._bgr)

    def indexed_png(self, mask: np.ndarray) -> bytes:
        """A mask, uint8 `[H, W]`, as a PNG of class numbers with the colors as its palette."""
        picture = Image.fromarray(mask)
        picture.putpalette(self._rgb.tobytes())
        png = io.BytesIO()
        picture.save(png, "PNG")
        return png.getvalue()

    def overlay(self, mask: np.ndarray, pixels: np.ndarray, opacity: float = 0.5) -> np.ndarray:
        """The colors over `pixels`, uint8 BGR `[H, W, 3]`."""
        return cv2.addWeighted(pixels, 1 - opacity, self.color(mask), opacity, 0)

    def with_legend(self, picture: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
        """A BGR picture with a legend below, if the classes have names. Without a mask, it shows all classes."""
        if not self._numbers:
            return picture
        shown = self._numbers if mask is None else np.unique(mask)
        strip = self._legend(picture.shape[1], tuple(shown))
        return np.vstack([picture, strip[..., ::-1]])
