"""The camera, the canvas it sees, and faces: upright drawings that are put somewhere on the canvas."""

from __future__ import annotations

from math import sqrt  # correctly rounded, which `** 0.5` need not be
from typing import Callable, Iterable, NamedTuple, Sequence, Tuple

import cv2
import numpy as np

from bisenetv1_plugin.datasets.scenes.dice import Color, Dice

Point = Tuple[float, float]  # on the ground (x, z), or on a face (s, y)
Corner = Tuple[float, float, float]  # (x, y, z)
Painted = Tuple[np.ndarray, Sequence[Color], int]  # of a texture: the index of a color, the colors, the label
Texture = Callable[[np.ndarray, np.ndarray], Painted]  # takes (s, y), see `Canvas.plane`

NEAR = 1.6  # nothing nearer than this is painted, so that every projection is finite
# A circle rounded to 1/1000, so that the last bit of a cosine does not matter
_CIRCLE = [(round(float(np.cos(a)), 3), round(float(np.sin(a)), 3)) for a in np.arange(14) * (2 * np.pi / 14)]


class Camera(NamedTuple):
    """Pinhole camera; pixels, except for `height` (meters) and `tilt` (pixels down per pixel right)."""

    vanishing_x: float
    horizon: float
    focal: float
    height: float
    tilt: float
    focal_ratio: float  # focal length / image width

    @classmethod
    def draw(cls, dice: Dice, width: int, height: int) -> Camera:
        x, y = dice.between(0.28, 0.72), dice.between(0.28, 0.58)
        ratio, above_ground = dice.between(0.6, 1.0), dice.between(1.2, 2.7)
        return cls(x * width, y * height, ratio * width, above_ground, dice.between(-0.08, 0.08), ratio)


class Canvas:
    """The picture being painted: uint8 `[H, W, 4]`, BGR and the label, so that the two can never disagree."""

    def __init__(self, camera: Camera, width: int, height: int, haze: Color) -> None:
        self.camera, self.width, self.height, self.haze = camera, width, height, haze
        self.limit = 8 * max(width, height)
        self.pixels = np.zeros((height, width, 4), np.uint8)
        self.words = self.pixels.view(np.uint32)[..., 0]  # a pixel as one number: quick to copy under a mask
        self.columns = np.arange(width, dtype=np.float32) + 0.5 - camera.vanishing_x
        self.rows = np.arange(height, dtype=np.float32) + 0.5 - camera.horizon

    def pixel(self, color: Color, label: int, distance: float) -> tuple[int, ...]:
        """BGR and label; far things fade into the haze."""
        k = distance / (distance + 170.0)
        return tuple(int(c + (h - c) * k) for c, h in zip(color, self.haze)) + (label,)

    def polygon(self, points: Sequence[Corner], color: Color, label: int) -> None:
        """Fill a polygon of `(x, y, z)` corners in meters with one color."""
        center, horizon, focal, eye, tilt = self.camera[:5]
        flat: list[float] = []
        for x, y, z in points:
            scale = focal / (z if z > NEAR else NEAR)
            u = scale * x
            v = horizon + tilt * u + scale * (eye - y)
            flat += (center + u, v)
        if max(flat) > self.limit or min(flat) < -self.limit:
            flat = [min(max(c, -self.limit), self.limit) for c in flat]
        # cv2's fixed point: 1/16 pixel
        corners = np.array([round(16 * c) for c in flat], np.int32).reshape(-1, 2)
        cv2.fillConvexPoly(self.pixels, corners, self.pixel(color, label, points[0][2]), cv2.LINE_8, 4)

    def plane(self, start: Point, end: Point, top: float, texture: Texture) -> None:
        """Paint an upright plane over the ground line `start` to `end`, both `(x, z)` in meters.

        `texture(s, y)` gets meters along the line `[1, w]` and meters above ground `[h, w]`; it returns the index of
        a color for every pixel (`[h, w]`, negative: see-through), the colors, and the label.
        """
        (xa, za), (xb, zb) = start, end
        if max(za, zb) <= NEAR:
            return
        if za < NEAR:
            xa, za = xa + (xb - xa) * (NEAR - za) / (zb - za), NEAR
        camera = self.camera
        ends = sorted(camera.vanishing_x + camera.focal * x / z for x, z in ((xa, za), (xb, zb)))
        left, right = max(int(ends[0]), 0), min(int(ends[1]) + 1, self.width)
        if right - left < 1 or ends[1] - ends[0] < 0.5:
            return
        columns = self.columns[left:right]
        slope = columns / np.float32(camera.focal)
        across, away = np.float32(xb - xa), np.float32(zb - za)
        position = (slope * np.float32(za) - np.float32(xa)) / (across - slope * away)
        position = np.clip(position, 0, 1)
        z = np.float32(za) + position * away
        horizon = np.float32(camera.tilt) * columns
        edge = horizon - np.float32(camera.focal * (top - camera.height)) / z
        foot = horizon + np.float32(camera.focal * camera.height) / z
        upper = max(int(float(edge.min()) + camera.horizon), 0)
        lower = min(int(float(foot.max()) + camera.horizon) + 2, self.height)
        if lower <= upper:
            return
        down = self.rows[upper:lower, None] - horizon
        y = np.float32(camera.height) - down * (z / np.float32(camera.focal))
        length = np.sqrt(across * across + away * away)
        index, colors, label = texture((position * length)[None], y)
        visible = (y >= 0) & (y < top)
        if index.dtype == np.int8:  # only a see-through texture has negative indices
            visible &= index >= 0
        words = as_words([self.pixel(color, label, 0.5 * (za + zb)) for color in colors])
        np.copyto(self.words[upper:lower, left:right], words[index], where=visible)


def as_words(pixels: Sequence[tuple[int, ...]]) -> np.ndarray:
    """uint32 `[N]`, what `Canvas.words` holds, of N pixels `(blue, green, red, label)`."""
    return np.array(pixels, np.uint8).view(np.uint32)[:, 0]


def phase(x: np.ndarray, period: float) -> np.ndarray:
    """The position of x in its period, 0 to 1; float32, and much faster than `%`."""
    turns = x * np.float32(1.0 / period)
    return turns - np.floor(turns)


class Face:
    """Convex shapes on an upright plane, in the order of painting; the plane is placed when it is painted.

    Shapes are in meters: `s` along the plane, `y` above ground. They get the label that the face has when they are
    added. `turn` foreshortens them; below 0 it mirrors them.
    """

    def __init__(self, label: int, turn: float = 1.0) -> None:
        self.label, self.turn = label, turn
        self._shapes: list[tuple[list[Corner], Color, int]] = []

    def polygon(self, points: Sequence[tuple[float, ...]], color: Color) -> None:
        """Corners `(s, y)`, or `(s, y, d)` for d meters behind the face."""
        self._shapes.append(([(s * self.turn, y, *(d or (0.0,))) for s, y, *d in points], color, self.label))

    def box(self, left: float, bottom: float, right: float, top: float, color: Color) -> None:
        self.polygon(((left, bottom), (right, bottom), (right, top), (left, top)), color)

    def boxes(self, lefts: Iterable[float], width: float, bottom: float, top: float, color: Color) -> None:
        for left in lefts:
            self.box(left, bottom, left + width, top, color)

    def disc(self, s: float, y: float, radius: float, color: Color, stretch: float = 1.0) -> None:
        self.polygon([(s + radius * c, y + radius * stretch * d) for c, d in _CIRCLE], color)

    def bar(self, start: Point, end: Point, width: float, color: Color) -> None:
        (a, b), (c, d) = start, end
        length = max(sqrt((c - a) * (c - a) + (d - b) * (d - b)), 1e-6)
        h, v = 0.5 * width * (d - b) / length, 0.5 * width * (c - a) / length
        self.polygon(((a - h, b + v), (a + h, b - v), (c + h, d - v), (c - h, d + v)), color)

    def paint(self, canvas: Canvas, x: float, z: float, along: Point = (1.0, 0.0), inward: Point = (0.0, 1.0)) -> None:
        """Paint the shapes; the face's origin is at `(x, z)`, and `s` and `d` go the ways `along` and `inward`."""
        (ax, az), (ix, iz) = along, inward
        for points, color, label in self._shapes:
            corners = [(x + s * ax + d * ix, y, z + s * az + d * iz) for s, y, d in points]
            canvas.polygon(corners, color, label)
