"""Synthetic street scenes: a picture and its label, drawn from a number.

A scene is a street seen through a pinhole camera. Metres everywhere: X to the right, Y up, Z away from the camera; the
ground is Y = 0. Things are painted from far to near, and everything random is drawn before anything is painted, so a
seed shows the same street at any size. Colours come from palettes that the classes share: what tells a building from
a bus or a lawn from a tree is texture, shape and surroundings.

Needs numpy and cv2 only. The same seed gives the same bytes everywhere: the generator is numpy's frozen `RandomState`,
and the arithmetic is integer, or the four operations, which IEEE 754 rounds in one way only.
"""

from math import sqrt  # correctly rounded, which `** 0.5` need not be
from typing import List, NamedTuple, Sequence, Tuple, Union

import cv2
import numpy as np

IGNORE_INDEX = 255


class StreetClass(NamedTuple):
    """A Cityscapes class; its position in `CITYSCAPES_CLASSES` is its train id."""

    name: str
    color: Tuple[int, int, int]  # RGB


CITYSCAPES_CLASSES = (
    StreetClass("road", (128, 64, 128)),
    StreetClass("sidewalk", (244, 35, 232)),
    StreetClass("building", (70, 70, 70)),
    StreetClass("wall", (102, 102, 156)),
    StreetClass("fence", (190, 153, 153)),
    StreetClass("pole", (153, 153, 153)),
    StreetClass("traffic light", (250, 170, 30)),
    StreetClass("traffic sign", (220, 220, 0)),
    StreetClass("vegetation", (107, 142, 35)),
    StreetClass("terrain", (152, 251, 152)),
    StreetClass("sky", (70, 130, 180)),
    StreetClass("person", (220, 20, 60)),
    StreetClass("rider", (255, 0, 0)),
    StreetClass("car", (0, 0, 142)),
    StreetClass("truck", (0, 0, 70)),
    StreetClass("bus", (0, 60, 100)),
    StreetClass("train", (0, 80, 100)),
    StreetClass("motorcycle", (0, 0, 230)),
    StreetClass("bicycle", (119, 11, 32)),
)
CLASS_NAMES = tuple(c.name for c in CITYSCAPES_CLASSES)
(ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION, TERRAIN) = range(10)
(SKY, PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE) = range(10, 19)

# Cityscapes' own categories but `object` (thin poles and plates) and `human`: a network learns these five in minutes,
# those two, and road from sidewalk, only later.
DEMO_CLASSES = (
    ("flat", (ROAD, SIDEWALK)),
    ("construction", (BUILDING, WALL, FENCE)),
    ("nature", (VEGETATION, TERRAIN)),
    ("sky", (SKY,)),
    ("vehicle", (CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE)),
)

ClassChoice = Sequence[Union[str, Tuple[str, Sequence[int]]]]


def class_groups(classes: ClassChoice) -> Tuple[Tuple[str, Tuple[int, ...]], ...]:
    """A choice of classes in its full form, as `DEMO_CLASSES` has it: `((name, train ids), ...)`.

    Args:
        classes: Each item is one of Cityscapes' 19 names, or a pair of a free name and the train ids merged under it.

    Raises:
        ValueError: The choice is empty, a name or train id is not Cityscapes', or one is chosen twice.
    """
    groups = []
    for item in classes:
        if isinstance(item, str):
            if item not in CLASS_NAMES:
                raise ValueError(
                    "classes: '{}' is no Cityscapes class. Choose among {}, or give a pair (name, train ids).".format(
                        item, ", ".join(CLASS_NAMES)
                    )
                )
            item = (item, (CLASS_NAMES.index(item),))
        name, ids = item
        groups.append((name, tuple(ids)))
    if not groups:
        raise ValueError("classes: the choice is empty. Name at least one class.")
    chosen = [train_id for _, ids in groups for train_id in ids]
    for train_id in chosen:
        if train_id not in range(len(CITYSCAPES_CLASSES)):
            raise ValueError(f"classes: {train_id!r} is no train id. Use the integers 0 to 18.")
        if chosen.count(train_id) > 1:
            raise ValueError(
                f"classes: '{CLASS_NAMES[train_id]}' (train id {train_id}) is chosen {chosen.count(train_id)} times. "
                "Choose it once."
            )
    return tuple(groups)


def remap(label: np.ndarray, classes: ClassChoice) -> np.ndarray:
    """Renumber a label of train ids: 0 for the first of `classes`, 1 for the second; what isn't chosen becomes 255.

    Args:
        label: uint8, any shape, train ids 0..18 and 255.
        classes: See `class_groups`, which also says what raises ValueError.

    Returns:
        uint8, the shape of `label`.
    """
    table = np.full(256, IGNORE_INDEX, np.uint8)
    for index, (_, ids) in enumerate(class_groups(classes)):
        table[list(ids)] = index
    return table[label]


def class_colors(classes: ClassChoice = CLASS_NAMES) -> List[Tuple[int, int, int]]:
    """RGB colour of every chosen class, from the Cityscapes palette; a merged class has the colour of its first."""
    return [CITYSCAPES_CLASSES[ids[0]].color for _, ids in class_groups(classes)]


def render_scene(seed: int, width: int, height: int) -> Tuple[np.ndarray, np.ndarray]:
    """Draw the street scene of a seed.

    Args:
        seed: 0 to 2**32 - 1.
        width, height: Size in pixels, 16 or more each. Made for pictures about twice as wide as high.

    Returns:
        image: uint8 `[height, width, 3]`, BGR as `cv2.imwrite` wants it.
        label: uint8 `[height, width]`, Cityscapes train ids 0..18, or 255 (ignore).

    Raises:
        ValueError: The seed or the size is out of range.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}. Choose an integer from 0 to 2**32 - 1.")
    if min(width, height) < 16:
        raise ValueError(f"The size is {width} x {height} pixels. Choose 16 or more each way.")
    rng = np.random.RandomState([seed, 0])
    camera = _Camera.draw(rng, width, height)
    street = _Street.draw(rng)
    canvas = _Canvas(camera, width, height, _color(rng, _GREY, _BLUE))
    _paint_sky(canvas, rng)
    _paint_ground(canvas, rng, street)
    things = _skyline(rng, street) + _roadsides(rng, street) + _objects(rng, street, camera)
    for _, _, paint in sorted(things, key=lambda thing: -thing[0]):
        paint(canvas)
    _paint_foreground(canvas, rng)
    return _develop(canvas, rng, np.random.RandomState([seed, 1]))


# ---- Colours: BGR. Every class draws from palettes that others draw from, too. ------------------------------

_GREY = ((58, 56, 54), (92, 92, 90), (128, 126, 124), (164, 164, 162), (206, 204, 202))
_EARTH = ((52, 70, 98), (70, 96, 138), (92, 120, 160), (60, 66, 132), (150, 180, 200))
_GREEN = ((48, 78, 62), (62, 110, 88), (88, 132, 104), (104, 140, 138))
_BLUE = ((206, 178, 142), (176, 140, 104), (120, 84, 62), (222, 208, 190))
_VIVID = ((48, 44, 172), (60, 164, 206), (38, 36, 36), (228, 226, 226), (150, 70, 40), (70, 120, 200))
_SKIES = (_BLUE[0], _BLUE[1], _BLUE[3], _EARTH[4], _GREY[4])
_ANY = (_GREY, _EARTH, _GREEN, _BLUE, _VIVID)
_GLASS = (_GREY, _BLUE, _BLUE)
_DARK = (34, 32, 31)


def _color(rng, *palettes):
    first, second, blue, green, red, light = rng.random_sample(6).tolist()
    palette = palettes[int(first * len(palettes))]
    color = palette[int(second * len(palette))]
    return tuple(min(max(c + int(28 * (j + light - 1.0)), 0), 255) for c, j in zip(color, (blue, green, red)))


def _shade(color, factor):
    return tuple(min(int(c * factor), 255) for c in color)


def _between(rng, low, high):
    return low + (high - low) * rng.random_sample()


def _count(rng, low, high):
    """An integer, `high` excluded."""
    return low + int((high - low) * rng.random_sample())


def _chance(rng, probability):
    return rng.random_sample() < probability


# ---- Camera, canvas, faces ------------------------------

_NEAR = 1.6  # nothing nearer than this is painted, so that every projection is finite
# A circle rounded to 1/1000, so that the last bit of a cosine matters to nobody
_CIRCLE = [(round(float(np.cos(a)), 3), round(float(np.sin(a)), 3)) for a in np.arange(14) * (2 * np.pi / 14)]


class _Camera(NamedTuple):
    """Pinhole camera; pixels, except for `height` (metres) and `tilt` (pixels down per pixel right)."""

    vanishing_x: float
    horizon: float
    focal: float
    height: float
    tilt: float
    focal_ratio: float  # focal length / image width

    @classmethod
    def draw(cls, rng, width, height):
        x, y = _between(rng, 0.28, 0.72), _between(rng, 0.28, 0.58)
        ratio, above_ground = _between(rng, 0.6, 1.0), _between(rng, 1.2, 2.7)
        tilt = _between(rng, -0.08, 0.08)
        return cls(x * width, y * height, ratio * width, above_ground, tilt, ratio)


class _Canvas:
    """The picture being painted: uint8 `[H, W, 4]`, BGR and the label, so that the two can never disagree."""

    def __init__(self, camera, width, height, haze):
        self.camera, self.width, self.height, self.haze = camera, width, height, haze
        self.limit = 8 * max(width, height)
        self.pixels = np.zeros((height, width, 4), np.uint8)
        self.words = self.pixels.view(np.uint32)[..., 0]  # a pixel as one number: quick to copy under a mask
        self.columns = np.arange(width, dtype=np.float32) + 0.5 - camera.vanishing_x
        self.rows = np.arange(height, dtype=np.float32) + 0.5 - camera.horizon

    def paint(self, color, label, distance):
        """BGR and label as a pixel; far things fade into the haze."""
        k = distance / (distance + 170.0)
        return tuple(int(c + (h - c) * k) for c, h in zip(color, self.haze)) + (label,)

    def palette(self, colors, label, distance):
        return np.array([self.paint(c, label, distance) for c in colors], np.uint8).view(np.uint32)[:, 0]

    def polygon(self, points, color, label):
        """Fill a polygon of `(x, y, z)` corners in metres with one colour."""
        center, horizon, focal, eye, tilt = self.camera[:5]
        corners = []
        for x, y, z in points:
            scale = focal / (z if z > _NEAR else _NEAR)
            u = scale * x
            v = horizon + tilt * u + scale * (eye - y)
            corners += (center + u, v)
        if max(corners) > self.limit or min(corners) < -self.limit:
            corners = [min(max(c, -self.limit), self.limit) for c in corners]
        # cv2's fixed point: 1/16 pixel
        corners = np.array([round(16 * c) for c in corners], np.int32).reshape(-1, 2)
        pixel = self.paint(color, label, points[0][2])
        cv2.fillConvexPoly(self.pixels, corners, pixel, cv2.LINE_8, 4)

    def plane(self, start, end, bottom, top, texture):
        """Paint an upright plane over the ground line `start` to `end`, both `(x, z)` in metres.

        `texture(s, y, z)` gets metres along the line `[1, w]`, metres above ground `[h, w]` and the distance
        `[1, w]`; it returns the index of a colour for every pixel (`[h, w]`, negative: see-through), and the pixels.
        """
        (xa, za), (xb, zb) = start, end
        if max(za, zb) <= _NEAR:
            return
        if za < _NEAR:
            xa, za = xa + (xb - xa) * (_NEAR - za) / (zb - za), _NEAR
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
        foot = horizon - np.float32(camera.focal * (bottom - camera.height)) / z
        upper = max(int(float(edge.min()) + camera.horizon), 0)
        lower = min(int(float(foot.max()) + camera.horizon) + 2, self.height)
        if lower <= upper:
            return
        down = self.rows[upper:lower, None] - horizon
        y = np.float32(camera.height) - down * (z / np.float32(camera.focal))
        length = np.sqrt(across * across + away * away)
        index, colors, label = texture((position * length)[None], y, z[None])
        table = self.palette(colors, label, 0.5 * (za + zb))
        visible = (y >= bottom) & (y < top)
        if index.dtype == np.int8:  # only a see-through texture has negative indices
            visible &= index >= 0
        np.copyto(self.words[upper:lower, left:right], table[index], where=visible)


def _phase(x, period):
    """Where in its period x is, 0 to 1; float32, and much quicker than `%`."""
    turns = x * np.float32(1.0 / period)
    return turns - np.floor(turns)


class _Face:
    """An upright plane to paint shapes on: `s` metres along it from its origin, `y` metres above ground."""

    def __init__(self, canvas, x, z, label, along=(1.0, 0.0), inward=(0.0, 1.0)):
        self.canvas, self.x, self.z, self.label, self.along, self.inward = canvas, x, z, label, along, inward

    def polygon(self, points, color):
        """Corners `(s, y)`, or `(s, y, d)` for d metres behind the face."""
        (dx, dz), (ix, iz) = self.along, self.inward
        corners = []
        for s, y, *depth in points:
            d = depth[0] if depth else 0.0
            corners.append((self.x + s * dx + d * ix, y, self.z + s * dz + d * iz))
        self.canvas.polygon(corners, color, self.label)

    def box(self, left, bottom, right, top, color):
        self.polygon(((left, bottom), (right, bottom), (right, top), (left, top)), color)

    def disc(self, s, y, radius, color, stretch=1.0):
        self.polygon([(s + radius * c, y + radius * stretch * d) for c, d in _CIRCLE], color)

    def bar(self, start, end, width, color):
        (a, b), (c, d) = start, end
        length = max(sqrt((c - a) * (c - a) + (d - b) * (d - b)), 1e-6)
        h, v = 0.5 * width * (d - b) / length, 0.5 * width * (c - a) / length
        self.polygon(((a - h, b + v), (a + h, b - v), (c + h, d - v), (c - h, d + v)), color)


# ---- Sky and ground ------------------------------


class _Street(NamedTuple):
    """Where things stand across the street, metres to the right of the camera at Z = 0; `curve` bends it away."""

    left: float  # kerbs
    right: float
    front_left: float  # where the roadside begins behind the sidewalk
    front_right: float
    curve: float
    end: float  # where the street ends

    @classmethod
    def draw(cls, rng):
        road = _between(rng, 5.5, 13.0)
        walk = _between(rng, 3.0, 7.5), _between(rng, 3.0, 7.5)
        # The camera is anywhere on the road
        left = -_between(rng, 0.05 * road, 0.95 * road)
        curve = _between(rng, -0.004, 0.004) if _chance(rng, 0.6) else 0.0
        return cls(left, left + road, left - walk[0], left + road + walk[1], curve, _between(rng, 60, 140))

    def shift(self, z):
        return self.curve * z * z


def _paint_sky(canvas, rng):
    high = _color(rng, _BLUE, _SKIES, _SKIES, _GREY[3:])
    low = tuple((a + 2 * b) // 3 for a, b in zip(_shade(high, _between(rng, 0.95, 1.3)), canvas.haze))
    ramp = np.arange(canvas.height, dtype=np.int32)[:, None] * 256 // canvas.height
    rows = (np.array(high) * (256 - ramp) + np.array(low) * ramp) // 256
    canvas.pixels[..., :3] = rows.astype(np.uint8)[:, None]
    canvas.pixels[..., 3] = SKY


def _paint_ground(canvas, rng, street):
    camera = canvas.camera
    lanes = _count(rng, 2, 5)
    dash, gap, mark_width = _between(rng, 2, 4), _between(rng, 3, 7), _between(rng, 0.12, 0.25)
    tile, course = _between(rng, 0.7, 1.8), _between(rng, 0.8, 2.4)
    meadow = _chance(rng, 0.6)  # behind the sidewalk; else the pavement goes on
    verge = _between(rng, 0.8, 2.0) if _chance(rng, 0.35) else 0.0  # a strip of grass along the kerb
    road, walk = _color(rng, _GREY[:3], _GREY[:3], _GREY, _EARTH), _color(rng, _GREY[2:], _GREY[2:], _EARTH)
    lawn = _color(rng, _GREEN, _GREEN, _GREEN, _EARTH)
    mark = _shade(_color(rng, _GREY[-1:], _BLUE[-1:], _VIVID[1:2]), 1.1)
    zebra = _between(rng, 6, 30) if _chance(rng, 0.3) else None
    shadow_side, shadow = _count(rng, 0, 2), _between(rng, 0.0, 1.6)
    joint = _between(rng, 0.5, 0.7)

    down = canvas.rows[:, None] - np.float32(camera.tilt) * canvas.columns
    top = max(int(camera.horizon - abs(camera.tilt) * canvas.width), 0)
    down = down[top:]
    z = np.float32(camera.focal * camera.height) / np.maximum(down, np.float32(camera.focal * camera.height / 400))
    x = z * (canvas.columns / np.float32(camera.focal)) - np.float32(street.curve) * z * z

    colors = road, mark, walk, _shade(walk, joint), _shade(walk, 1.22), lawn
    labels = ROAD, ROAD, SIDEWALK, SIDEWALK, SIDEWALK, TERRAIN
    palette = np.array([c + (n,) for c, n in zip(colors, labels)], np.uint8).view(np.uint32)[:, 0]

    index = np.zeros(z.shape, np.uint8)
    lane = (street.right - street.left) / lanes
    across = x - np.float32(street.left)
    near_line = _phase(across + np.float32(mark_width / 2), lane) < mark_width / lane
    dashed = _phase(z, dash + gap) < dash / (dash + gap)
    solid = (across < mark_width) | (across > lane * lanes - mark_width)
    index[near_line & (dashed | solid)] = 1
    if zebra is not None:
        index[(np.abs(z - zebra) < 1.6) & (_phase(across, 1.0) < 0.5)] = 1
    walking = (x < street.left) | (x > street.right)
    joints = (_phase(x, tile) < 0.09) | (_phase(z, course) < 0.10)
    index[walking] = 2
    index[walking & joints & (z < 40)] = 3
    kerb = (np.abs(x - (street.left - 0.12)) < 0.12) | (np.abs(x - (street.right + 0.12)) < 0.12)
    index[kerb] = 4
    if verge:
        index[walking & ~kerb & (x > street.left - verge) & (x < street.right + verge)] = 5
    if meadow:
        index[(x < street.front_left) | (x > street.front_right)] = 5
    np.copyto(canvas.words[top:], palette[index], where=down > 0)

    if shadow > 0.4:  # of the houses of one side
        reach = shadow * 4.0 + 1.5 * (_phase(z, 17.0) < 0.47)
        dark = x < street.left + reach if shadow_side else x > street.right - reach
        table = np.arange(256) * 5 // 8
        shaded = canvas.pixels[top:]
        ground = (dark & (down > 0)).astype(np.uint8)
        label = shaded[..., 3].copy()
        cv2.copyTo(cv2.LUT(shaded, table.astype(np.uint8)), ground, shaded)
        shaded[..., 3] = label


# ---- What lines the street: each returns [(distance, sub-order, paint), ...] ------------------------------


def _house(rng):
    """Texture of a house front: storeys of windows."""
    wall, window = _color(rng, _EARTH, *_ANY), _color(rng, *_GLASS)
    frame = _shade(wall, _between(rng, 0.6, 0.8) if _chance(rng, 0.5) else _between(rng, 1.2, 1.4))
    if abs(sum(window) - sum(wall)) < 120:  # a window must be seen
        window = _shade(window, 0.4 if sum(wall) > 330 else 1.9)
    bay, storey = _between(rng, 1.8, 4.0), _between(rng, 2.8, 3.8)
    wide, high = _between(rng, 0.4, 0.75), _between(rng, 0.45, 0.7)
    sill = _chance(rng, 0.6)

    def texture(s, y, z):
        v = _phase(y, storey)
        column = np.abs(_phase(s, bay) - 0.5) < 0.5 * wide
        row = np.abs(v - 0.55) < 0.5 * high
        index = (column & row).astype(np.uint8)
        if sill:
            index[v < 0.09] = 2
        return index, (wall, window, frame), BUILDING

    return texture


def _bricks(rng):
    stone = _color(rng, _GREY, _EARTH, _GREEN)
    course, length = _between(rng, 0.35, 0.6), _between(rng, 0.8, 1.4)
    mortar = _shade(stone, _between(rng, 0.5, 0.7) if _chance(rng, 0.6) else _between(rng, 1.3, 1.5))

    def texture(s, y, z):
        odd = _phase(y, 2 * course) < 0.5
        upright = np.where(odd, _phase(s, length) < 0.13, _phase(s + np.float32(0.5 * length), length) < 0.13)
        index = ((_phase(y, course) < 0.2) | upright).astype(np.uint8)
        return index, (stone, mortar), WALL

    return texture


def _pickets(rng):
    wood = _color(rng, _GREY, _EARTH, _VIVID)
    step, share = _between(rng, 0.3, 0.6), _between(rng, 0.3, 0.5)
    rails = _between(rng, 0.4, 0.6)

    def texture(s, y, z):
        picket = (_phase(s, step) < share) | (_phase(y, rails) < 0.1 / rails)
        return picket.astype(np.int8) - np.int8(1), (wood,), FENCE

    return texture


def _hedge(rng):
    leaf = _color(rng, *[_GREEN] * 5, _EARTH)

    def texture(s, y, z):
        return np.zeros(y.shape, np.uint8), (leaf,), VEGETATION

    return texture


def _upright(start, end, top, texture, order=0):
    def paint(canvas):
        canvas.plane(start, end, 0.0, top, texture)

    return (max(start[1], end[1]), order, paint)


def _skyline(rng, street):
    """What closes the view at the end of the street."""
    things = []
    x = -2.2 * street.end
    while x < 2.2 * street.end:
        width = _between(rng, 10, 45)
        kind = rng.random_sample()
        top = _between(rng, 8, 32) if kind < 0.5 else _between(rng, 4, 12)
        texture = _house(rng) if kind < 0.5 else _hedge(rng)
        if kind < 0.85:
            z = street.end + _between(rng, 0, 20)
            things.append(_upright((x, z), (x + width, z), top, texture))
        x += width
    return things


def _roadsides(rng, street):
    """Houses, walls, fences and hedges, one after the other on both sides; gaps between them show the lawn."""
    things = []
    for side, front in ((-1, street.front_left), (1, street.front_right)):
        open_country = _chance(rng, 0.3)
        z = _between(rng, -6, 2)
        while z < street.end:
            depth = _between(rng, 7, 24)
            kind = rng.random_sample() + (0.4 if open_country else 0.0)
            near, far = max(z, _NEAR), z + depth
            start = (front + street.shift(near), near)
            end = (front + street.shift(far), far)
            outside = (front + side * 40.0 + street.shift(near), near)
            if kind < 0.55:
                texture, top, back = _house(rng), _between(rng, 5, 24), outside
            elif kind < 0.7:
                texture, top, back = _bricks(rng), _between(rng, 1.6, 3.2), None
            elif kind < 0.84:
                texture, top, back = _pickets(rng), _between(rng, 1.0, 2.2), None
            elif kind < 0.98:
                texture, top, back = _hedge(rng), _between(rng, 1.0, 3.5), outside
            else:
                texture = top = back = None
            if texture and far > _NEAR:
                things.append(_upright(start, end, top, texture))
                if back:
                    things.append((far - 0.01, 0, _upright(start, back, top, texture)[2]))
            z += depth + (_between(rng, 2, 12) if _chance(rng, 0.4) else 0.0)
    return things


# ---- Objects: each function draws its dice and returns paint(canvas, x, z) ------------------------------


def _tree(rng):
    leaf, bark = _color(rng, *[_GREEN] * 5, _EARTH), _color(rng, _EARTH, _GREY)
    trunk, spread = _between(rng, 1.8, 3.5), _between(rng, 1.0, 2.4)
    if _chance(rng, 0.3):  # a bush
        trunk, spread = 0.3, _between(rng, 0.6, 1.3)
    blobs = [
        (_between(rng, -1, 1), _between(rng, 0, 1.6), _between(rng, 0.4, 0.8), _between(rng, 0.65, 1.3))
        for _ in range(13)
    ]

    def paint(canvas, x, z):
        face = _Face(canvas, x, z, VEGETATION)
        face.box(-0.16, 0, 0.16, trunk + 0.3 * spread, _shade(bark, 0.8))
        for s, y, radius, light in blobs:
            face.disc(s * spread, trunk + (y + 0.3) * spread, radius * spread, _shade(leaf, light))

    return paint


def _post(rng):
    """A pole with a lamp, a sign, or a traffic light."""
    metal = _color(rng, _GREY, _GREY, _EARTH, _GREEN)
    kind, top, thick = _count(rng, 0, 4), _between(rng, 3.0, 6.5), _between(rng, 0.14, 0.24)
    plate, rim, ink = _color(rng, _VIVID, _BLUE), _color(rng, _VIVID, _GREY), _color(rng, _VIVID, _GREY)
    shape, size, arm = _count(rng, 0, 3), _between(rng, 0.4, 0.75), _between(rng, -2.5, 2.5)
    lit = _count(rng, 0, 3)

    def paint(canvas, x, z):
        _Face(canvas, x, z, POLE).box(-thick / 2, 0, thick / 2, top, metal)
        if kind == 0:
            _Face(canvas, x, z, POLE).bar((0, top), (arm, top + 0.3), 0.16, metal)
        elif kind == 1:
            light = _Face(canvas, x, z, TRAFFIC_LIGHT)
            bottom = top - 1.4
            light.box(-0.3, bottom, 0.3, top, _DARK)
            for i, lamp in enumerate(((90, 200, 60), (40, 180, 240), (40, 40, 220))):
                light.disc(0, bottom + 0.28 + 0.42 * i, 0.17, lamp if i == lit else _shade(lamp, 0.35))
        else:
            sign = _Face(canvas, x, z, TRAFFIC_SIGN)
            if shape == 0:
                sign.disc(0, top, size, rim)
                sign.disc(0, top, size * 0.72, plate)
            elif shape == 1:
                for scale, color in ((1.15, rim), (0.7, plate)):
                    r = size * scale
                    sign.polygon(((-r, top - 0.6 * r), (r, top - 0.6 * r), (0, top + r)), color)
            else:
                sign.box(-1.3 * size, top - size, 1.3 * size, top + size, rim)
                sign.box(-1.15 * size, top - 0.85 * size, 1.15 * size, top + 0.85 * size, plate)
            sign.box(-0.4 * size, top - 0.12 * size, 0.4 * size, top + 0.12 * size, ink)

    return paint


def _bin(rng):
    """Street furniture that Cityscapes does not count: 255."""
    color, high, wide = _color(rng, *_ANY), _between(rng, 0.8, 1.3), _between(rng, 0.3, 0.5)

    def paint(canvas, x, z):
        face = _Face(canvas, x, z, IGNORE_INDEX)
        face.polygon(((-0.8 * wide, 0), (0.8 * wide, 0), (wide, high), (-wide, high)), color)
        face.box(-1.1 * wide, high, 1.1 * wide, high + 0.1, _shade(color, 0.7))

    return paint


def _clothes(rng):
    return _color(rng, *_ANY), _color(rng, *_ANY), _color(rng, _EARTH), _color(rng, _GREY[:2], _EARTH)


def _walker(rng):
    coat, trousers, skin, hair = _clothes(rng)
    tall, stride = _between(rng, 1.5, 1.95), _between(rng, 0.05, 0.38)
    swing, skirt, bag = _between(rng, -0.3, 0.3), _chance(rng, 0.2), _chance(rng, 0.3)

    def paint(canvas, x, z):
        face = _Face(canvas, x, z, PERSON)
        k = tall / 1.75
        hip, shoulder = 0.9 * k, 1.46 * k
        for foot, light in ((-stride, 0.8), (stride, 1.0)):
            face.bar((foot, 0.04), (foot * 0.2, hip), 0.19, _shade(trousers, light))
            face.box(foot - 0.1, 0, foot + 0.14, 0.09, _DARK)
        if skirt:
            face.polygon(((-0.34, 0.45 * k), (0.34, 0.45 * k), (0.2, hip), (-0.2, hip)), trousers)
        face.bar((-0.25, shoulder - 0.06), (-0.3 - swing, 0.85 * k), 0.13, _shade(coat, 0.75))
        face.polygon(((-0.2, 0.8 * k), (0.2, 0.8 * k), (0.27, shoulder - 0.1), (0.16, shoulder + 0.05),
                      (-0.16, shoulder + 0.05), (-0.27, shoulder - 0.1)), coat)  # fmt: skip
        face.bar((0.25, shoulder - 0.06), (0.3 + swing, 0.85 * k), 0.13, _shade(coat, 1.2))
        if bag:
            face.box(0.2, 0.75 * k, 0.48, 1.05 * k, _shade(coat, 0.5))
        face.box(-0.06, shoulder, 0.06, shoulder + 0.15, skin)
        face.disc(0, tall - 0.12, 0.125, hair, 1.15)
        face.disc(0, tall - 0.16, 0.1, skin, 1.15)

    return paint


def _two_wheeler(rng):
    """A bicycle or motorcycle seen from the side, with its rider or without."""
    label = BICYCLE if _chance(rng, 0.55) else MOTORCYCLE
    ridden, mirror = _chance(rng, 0.75), 1 if _chance(rng, 0.5) else -1
    frame, tank = _color(rng, *_ANY), _color(rng, _VIVID, _GREY)
    coat, trousers, skin, hair = _clothes(rng)
    turn = _between(rng, 0.35, 1.0)  # foreshortened: seen from ahead rather than from the side

    def paint(canvas, x, z):
        wide = mirror * turn
        bike = _Face(canvas, x, z, label, (wide, 0.0))
        if label == BICYCLE:
            for s in (-0.52, 0.52):
                bike.disc(s, 0.35, 0.37, _DARK)
                bike.disc(s, 0.35, 0.3, _shade(canvas.haze, 0.72))
            axle, crank, saddle, fork = (-0.52, 0.35), (-0.05, 0.35), (-0.15, 0.85), (0.4, 0.85)
            tubes = (
                (axle, saddle),
                (saddle, fork),
                (fork, (0.52, 0.35)),
                (crank, fork),
                (saddle, crank),
                (axle, crank),
            )
            for a, b in tubes:
                bike.bar(a, b, 0.07, frame)
            bike.box(-0.3, 0.88, -0.02, 0.96, _DARK)
            bike.box(0.3, 0.95, 0.48, 1.04, _DARK)
        else:
            for s in (-0.68, 0.68):
                bike.disc(s, 0.32, 0.34, _DARK)
                bike.disc(s, 0.32, 0.16, _shade(frame, 1.2))
            bike.polygon(((-0.85, 0.75), (-0.4, 0.25), (0.35, 0.25), (0.55, 0.8), (0.2, 1.0), (-0.2, 0.8)), frame)
            bike.polygon(((-0.05, 0.82), (0.45, 0.8), (0.35, 1.05), (0.05, 1.02)), tank)
            bike.box(-0.75, 0.75, -0.05, 0.88, _DARK)
            bike.bar((0.3, 1.12), (0.7, 0.3), 0.1, _shade(tank, 1.3))
        if ridden:
            rider = _Face(canvas, x, z, RIDER, (wide if turn > 0.6 else mirror * 0.6, 0.0))
            rider.bar((-0.15, 0.95), (0.2, 0.62), 0.2, trousers)
            rider.bar((0.2, 0.66), (0.02, 0.22), 0.16, _shade(trousers, 0.85))
            rider.polygon(((-0.35, 0.9), (0.05, 0.9), (0.36, 1.45), (0.1, 1.58), (-0.18, 1.4)), coat)
            rider.bar((0.2, 1.42), (0.42, 1.02), 0.13, _shade(coat, 1.2))
            rider.disc(0.26, 1.7, 0.15, hair, 1.15)
            rider.box(0.26, 1.6, 0.4, 1.74, skin)

    return paint


class _Body(NamedTuple):
    """A vehicle: measures in metres, and what paints its long side and its ends on a `_Face`."""

    label: int
    width: float
    length: float
    height: float
    side: object
    end: object


def _wheels(face, places, radius):
    for s in places:
        face.disc(s, radius, radius, _DARK)
        face.disc(s, radius, 0.55 * radius, (150, 148, 146))


def _car(rng):
    paintwork, glass = _color(rng, *_ANY), _shade(_color(rng, *_GLASS), 0.6)
    width, length, height = _between(rng, 1.65, 1.95), _between(rng, 3.6, 4.8), _between(rng, 1.38, 1.75)
    boot, hood = _between(rng, 0.05, 0.16) * length, _between(rng, 0.1, 0.28) * length
    rear = _chance(rng, 0.5)  # seen from behind or from ahead
    waist = 0.56 * height
    roof = (boot + 0.12 * length, length - hood - 0.16 * length)

    def side(face):
        body = ((0, 0.25), (length, 0.25), (length, 0.85 * waist), (length - 0.1, waist), (0, waist))
        face.polygon(body, _shade(paintwork, 0.85))
        cabin = ((boot, waist), (length - hood, waist), (roof[1], height), (roof[0], height))
        face.polygon(cabin, _shade(paintwork, 0.95))
        low, high, middle = waist + 0.02, height - 0.1, 0.5 * (roof[0] + roof[1])
        panes = ((boot + 0.2, low), (middle - 0.06, low), (middle - 0.06, high), (roof[0] + 0.06, high))
        face.polygon(panes, glass)
        panes = ((middle + 0.06, low), (length - hood - 0.2, low), (roof[1] - 0.06, high), (middle + 0.06, high))
        face.polygon(panes, glass)
        face.bar((0.1, waist * 0.8), (length - 0.1, waist * 0.8), 0.05, _shade(paintwork, 0.6))
        _wheels(face, (0.19 * length, 0.81 * length), 0.33)

    def end(face):
        def slope(bottom, top, color, margin=0.0):  # a quadrangle from (height, depth) to (height, depth)
            left, right = margin, width - margin
            face.polygon(((left, *bottom), (right, *bottom), (right, *top), (left, *top)), color)

        slope((waist, length - hood), (waist, length), _shade(paintwork, 1.2))
        slope((height, roof[0]), (height, roof[1]), _shade(paintwork, 1.25))
        slope((waist, boot), (height, roof[0]), paintwork)
        slope((waist + 0.04, boot + 0.02), (height - 0.08, roof[0] - 0.02), glass, margin=0.1 * width)
        slope((waist, 0.0), (waist, boot), _shade(paintwork, 1.2))
        for s in (0.08, width - 0.3):
            face.box(s, 0, s + 0.22, 0.4, _DARK)
        face.box(0, 0.24, width, waist, paintwork)
        lamp = (50, 50, 200) if rear else (215, 235, 240)
        for s in (0.05, width - 0.37):
            face.box(s, waist - 0.28, s + 0.32, waist - 0.1, lamp)
        face.box(0, 0.24, width, 0.38, _shade(paintwork, 0.55))
        face.box(0.5 * width - 0.26, 0.42, 0.5 * width + 0.26, 0.54, (222, 224, 224))

    return _Body(CAR, width, length, height, side, end)


def _truck(rng):
    cargo, cab, glass = _color(rng, *_ANY), _color(rng, *_ANY), _shade(_color(rng, *_GLASS), 0.6)
    width, length, height = _between(rng, 2.2, 2.6), _between(rng, 6.5, 11), _between(rng, 2.8, 3.9)
    ribs = _count(rng, 6, 12)

    def side(face):
        front = length - 2.0
        face.box(0, 0.55, length, 0.95, _DARK)
        face.box(0, 0.9, front - 0.25, height, _shade(cargo, 0.85))
        for i in range(1, ribs):
            s = (front - 0.25) * i / ribs
            face.box(s - 0.08, 0.9, s + 0.08, height, _shade(cargo, 0.66))
        face.polygon(((front, 0.5), (length, 0.5), (length, 1.5), (length - 0.4, 2.6), (front, 2.6)), cab)
        face.polygon(((front + 0.5, 1.5), (length - 0.15, 1.5), (length - 0.5, 2.35), (front + 0.5, 2.35)), glass)
        _wheels(face, (1.2, 2.3, length - 1.2), 0.5)

    def end(face):
        for s in (0.1, width - 0.55):
            face.box(s, 0, s + 0.45, 0.7, _DARK)
        face.box(0, 0.5, width, 0.9, _shade(_DARK, 1.5))
        face.box(0, 0.9, width, height, cargo)
        for s in (0.04, 0.5 * width - 0.04, width - 0.1):
            face.box(s, 0.9, s + 0.08, height, _shade(cargo, 0.55))
        for s in (0.28, 0.72):
            face.box(s * width - 0.04, 1.0, s * width + 0.04, height - 0.1, _shade(cargo, 1.3))
        for s in (0.1, width - 0.4):
            face.box(s, 0.6, s + 0.3, 0.8, (50, 50, 200))

    return _Body(TRUCK, width, length, height, side, end)


def _coach(rng, label):
    """A bus, or a tram (class train): longer, striped, with a pantograph."""
    tram = label == TRAIN
    paintwork, band, glass = _color(rng, *_ANY), _color(rng, *_ANY), _shade(_color(rng, *_GLASS), 0.55)
    width, height = _between(rng, 2.4, 2.7), _between(rng, 2.9, 3.6)
    length = _between(rng, 18, 28) if tram else _between(rng, 8, 12.5)
    windows = int(length / (1.1 if tram else 1.7))

    def side(face):
        face.box(0, 0.25 if tram else 0.35, length, height, _shade(paintwork, 0.85))
        face.box(0, 0.3, length, 0.75, _shade(band, 0.85))
        if tram:
            face.box(0, height - 0.55, length, height - 0.25, _shade(band, 0.8))
        for i in range(windows):
            s = length * (i + 0.1) / windows
            door = i % 4 == 2
            face.box(s, 0.5 if door else 1.35, s + 0.8 * length / windows, height - 0.75, glass)
        if not tram:
            _wheels(face, (2.0, length - 2.4), 0.5)

    def end(face):
        face.box(0.1, 0, width - 0.1, 0.4, _DARK)
        face.box(0, 0.3, width, height, paintwork)
        face.box(0, 0.3, width, 0.8, band)
        face.box(0.12, 1.2, width - 0.12, height - 0.65, glass)
        face.box(0.5 * width - 0.05, 1.2, 0.5 * width + 0.05, height - 0.65, paintwork if tram else _shade(glass, 0.8))
        face.box(0.3, height - 0.5, width - 0.3, height - 0.15, _DARK)
        face.box(0.5, height - 0.42, width - 0.8, height - 0.24, (80, 190, 240))
        for s in (0.15, width - 0.5):
            face.box(s, 0.85, s + 0.35, 1.05, (215, 235, 240))
        if tram:
            face.bar((0.5, height), (0.5 * width, height + 0.9), 0.07, _DARK)
            face.bar((0.2 * width, height + 0.9), (0.8 * width, height + 0.9), 0.07, _DARK)

    return _Body(label, width, length, height, side, end)


def _vehicle(rng, body, crosses):
    """Stand a body on the street: along it, or across it."""
    mirrored = _chance(rng, 0.5)

    def paint(canvas, x, z):
        wide, deep = (body.length, body.width) if crosses else (body.width, body.length)
        left, right = x - wide / 2, x + wide / 2
        near, far = body.side if crosses else body.end, body.end if crosses else body.side
        shadow = ((left - 0.2, 0, z), (right + 0.2, 0, z), (right, 0, z + deep), (left, 0, z + deep))
        canvas.polygon(shadow, _DARK, ROAD)
        if left > 0:
            far(_Face(canvas, left, z, body.label, (0.0, 1.0), (1.0, 0.0)))
        elif right < 0:
            far(_Face(canvas, right, z, body.label, (0.0, 1.0), (-1.0, 0.0)))
        if mirrored:
            near(_Face(canvas, right, z, body.label, (-1.0, 0.0)))
        else:
            near(_Face(canvas, left, z, body.label))

    return paint


def _objects(rng, street, camera):
    """Everything that stands or moves on the street."""
    things = []
    # Sideways, a thing is in the picture from about this distance per metre
    seen = 1.9 * camera.focal_ratio

    def place(paint, x, near, far):
        share = rng.random_sample()
        z = max(near + (far - near) * share * share, seen * abs(x))
        shift = street.shift(z)
        things.append((z, 1, lambda canvas: paint(canvas, x + shift, z)))

    def beside(low, high):
        """A place on one of the sidewalks, from the kerb (0) to the houses (1)."""
        share = _between(rng, low, high)
        if _chance(rng, 0.5):
            return street.left + (street.front_left - street.left) * share
        return street.right + (street.front_right - street.right) * share

    for _ in range(_count(rng, 1, 5)):
        place(_tree(rng), beside(0.1, 1.7), 6, 45)
    for _ in range(_count(rng, 1, 4)):
        place(_post(rng), beside(0.05, 0.3), 5, 40)
    if _chance(rng, 0.25):
        place(_bin(rng), beside(0.2, 0.9), 5, 20)
    for _ in range(_count(rng, 2, 7)):
        x = beside(0.1, 0.95) if _chance(rng, 0.65) else _between(rng, street.left, street.right)
        place(_walker(rng), x, 3.2, 11)
    for _ in range(_count(rng, 0, 3)):
        place(_two_wheeler(rng), _between(rng, street.left - 0.5, street.right + 0.5), 3.5, 12)
    for _ in range(_count(rng, 1, 6)):
        kind = rng.random_sample()
        if kind < 0.66:
            body = _car(rng)
        elif kind < 0.78:
            body = _truck(rng)
        elif kind < 0.9:
            body = _coach(rng, BUS)
        else:
            body = _coach(rng, TRAIN)
        crosses = _chance(rng, 0.3 if body.label == CAR else 0.12)
        margin = body.width / 2
        x = _between(rng, street.left + margin, street.right - margin)
        place(_vehicle(rng, body, crosses), x, 5 if body.label == CAR else 9, 40)
    return things


# ---- From the painting to the picture ------------------------------


def _paint_foreground(canvas, rng):
    """What belongs to the camera's own car, and the border of a rectified picture: 255."""
    bonnet, high, middle = _color(rng, *_ANY), _between(rng, 0.04, 0.12), _between(rng, 0.3, 0.7)
    width, height = canvas.width, canvas.height
    has_bonnet, has_border = _chance(rng, 0.3), _chance(rng, 0.3)
    if has_bonnet:
        center = (round(middle * width), round(1.02 * height))
        axes = (round(0.6 * width), round((high + 0.02) * height))
        cv2.ellipse(canvas.pixels, center, axes, 0, 0, 360, bonnet + (IGNORE_INDEX,), -1)
    if has_border:
        edge = max(round(height / 100), 1)
        cv2.rectangle(canvas.pixels, (0, 0), (width - 1, height - 1), (0, 0, 0, IGNORE_INDEX), edge)


# How strongly each texture field shows on each class, in 1/128
_TEXTURES = ("grain", "leaves", "upright", "level", "clouds")
_STRENGTH = {
    ROAD: (44, 0, 0, 0, 0),
    SIDEWALK: (6, 0, 0, 0, 8),
    BUILDING: (6, 0, 0, 0, 8),
    WALL: (16, 0, 0, 0, 0),
    FENCE: (8, 0, 8, 0, 0),
    VEGETATION: (16, 92, 0, 0, 0),
    TERRAIN: (16, 0, 72, 0, 16),
    SKY: (0, 0, 0, 0, 42),
    PERSON: (8, 0, 18, 0, 0),
    RIDER: (8, 0, 18, 0, 0),
    TRUCK: (6, 0, 10, 0, 0),
    BUS: (0, 0, 0, 8, 0),
    TRAIN: (0, 0, 0, 16, 0),
}


def _field(rng, width, height, cell_x, cell_y):
    """Smooth noise, uint8 `[height, width]`: random values on a grid of cells, interpolated."""
    grid = rng.randint(0, 256, (max(round(height / cell_y), 2), max(round(width / cell_x), 2)), dtype=np.uint8)
    # The exact variant is the one whose result does not depend on the processor
    return cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)


def _develop(canvas, rng, noise):
    """Texture, light, lens and sensor; returns the image and the label."""
    width, height = canvas.width, canvas.height
    label = np.ascontiguousarray(canvas.pixels[..., 3])
    unit = height / 128.0
    fields = (
        _field(noise, width, height, unit, unit),
        _field(noise, width, height, 2.2 * unit, 2.2 * unit),
        _field(noise, width, height, 1.3 * unit, 5.0 * unit),
        _field(noise, width, height, 9.0 * unit, 1.5 * unit),
        _field(noise, width, height, 42.0 * unit, 18.0 * unit),
    )
    light = np.zeros((height, width), np.int16)
    for number, field in enumerate(fields):
        strength = np.zeros(256, np.int16)
        for train_id, values in _STRENGTH.items():
            strength[train_id] = values[number]
        light += strength[label] * (field.astype(np.int16) - 128)
    light >>= 7

    slant = int(_between(rng, -30, 30))
    light += (np.arange(width) * slant // width - slant // 2).astype(np.int16)
    image = np.clip(canvas.pixels[..., :3] + light[..., None], 0, 255).astype(np.uint8)

    # Exposure, contrast and a colour cast, as a table per channel
    gain, lift = _between(rng, 0.75, 1.1), _between(rng, -8, 16)
    cast = [_between(rng, 0.93, 1.07) for _ in range(3)]
    ramp = np.arange(256)
    table = np.stack([np.clip(np.rint(ramp * (gain * c) + lift), 0, 255) for c in cast], -1).astype(np.uint8)
    image = cv2.LUT(image, table[None])

    soft = _count(rng, 0, 3)
    size = (0, 3, 3)[soft] if unit < 2 else (0, 3, 5)[soft]
    if size:
        image = cv2.GaussianBlur(image, (size, size), 0)
    amount = _count(rng, 3, 10)
    sensor = noise.randint(0, 2 * amount + 1, (height, width), dtype=np.uint8)
    image = cv2.subtract(cv2.add(image, cv2.merge([sensor] * 3)), (amount,) * 4)
    return image, label
