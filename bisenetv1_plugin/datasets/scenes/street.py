"""The street: its course, its roadside, and the objects on it.

A thing is a pair `(distance, paint)`; `paint(canvas)` throws no dice.
"""

from __future__ import annotations

from functools import partial
from typing import Callable, NamedTuple, Tuple

from bisenetv1_plugin.datasets.classes import CAR
from bisenetv1_plugin.datasets.scenes.canvas import NEAR, Canvas, Face, Point, Texture
from bisenetv1_plugin.datasets.scenes.dice import Dice
from bisenetv1_plugin.datasets.scenes.people import two_wheeler, walker
from bisenetv1_plugin.datasets.scenes.roadside import bricks, hedge, house, litter_bin, pickets, post, tree
from bisenetv1_plugin.datasets.scenes.vehicles import Vehicle, any_vehicle

Thing = Tuple[float, Callable[[Canvas], None]]  # (distance, paint)


class Street(NamedTuple):
    """Positions across the street, in meters to the right of the camera at Z = 0; `curve` bends the street."""

    left: float  # kerbs
    right: float
    front_left: float  # where the roadside begins behind the sidewalk
    front_right: float
    curve: float
    end: float  # where the street ends

    @classmethod
    def draw(cls, dice: Dice) -> Street:
        road = dice.between(5.5, 13.0)
        walk = dice.between(3.0, 7.5), dice.between(3.0, 7.5)
        # The camera is anywhere on the road
        left = -dice.between(0.05 * road, 0.95 * road)
        curve = dice.between(-0.004, 0.004) if dice.chance(0.6) else 0.0
        return cls(left, left + road, left - walk[0], left + road + walk[1], curve, dice.between(60, 140))

    def shift(self, z: float) -> float:
        return self.curve * z * z


def things_of(street: Street, dice: Dice, canvas: Canvas) -> list[Thing]:
    return _skyline(street, dice) + _roadsides(street, dice) + _objects(street, dice, canvas)


def _upright(start: Point, end: Point, top: float, texture: Texture) -> Thing:
    return max(start[1], end[1]), lambda canvas: canvas.plane(start, end, top, texture)


def _skyline(street: Street, dice: Dice) -> list[Thing]:
    """The skyline at the end of the street."""
    things = []
    x = -2.2 * street.end
    while x < 2.2 * street.end:
        width = dice.between(10, 45)
        kind = dice.random_sample()
        top = dice.between(8, 32) if kind < 0.5 else dice.between(4, 12)
        texture = house(dice) if kind < 0.5 else hedge(dice)
        if kind < 0.85:
            z = street.end + dice.between(0, 20)
            things.append(_upright((x, z), (x + width, z), top, texture))
        x += width
    return things


def _roadsides(street: Street, dice: Dice) -> list[Thing]:
    """Houses, walls, fences and hedges, one after the other on both sides; gaps between them show the lawn."""
    things = []
    for side, front in ((-1, street.front_left), (1, street.front_right)):
        open_country = dice.chance(0.3)
        z = dice.between(-6, 2)
        while z < street.end:
            depth = dice.between(7, 24)
            kind = dice.random_sample() + (0.4 if open_country else 0.0)
            texture, top, thick = None, 0.0, False
            if kind < 0.55:
                texture, top, thick = house(dice), dice.between(5, 24), True
            elif kind < 0.7:
                texture, top = bricks(dice), dice.between(1.6, 3.2)
            elif kind < 0.84:
                texture, top = pickets(dice), dice.between(1.0, 2.2)
            elif kind < 0.98:
                texture, top, thick = hedge(dice), dice.between(1.0, 3.5), True
            near, far = max(z, NEAR), z + depth
            if texture and far > NEAR:
                start = (front + street.shift(near), near)
                things.append(_upright(start, (front + street.shift(far), far), top, texture))
                if thick:  # its gable, just before the front
                    gable = (front + side * 40.0 + street.shift(near), near)
                    things.append((far - 0.01, _upright(start, gable, top, texture)[1]))
            z += depth + (dice.between(2, 12) if dice.chance(0.4) else 0.0)
    return things


def _objects(street: Street, dice: Dice, canvas: Canvas) -> list[Thing]:
    """The objects on the street: trees, posts, people and vehicles."""
    things: list[Thing] = []
    # Sideways, a thing is in the picture from about this distance per meter
    seen = 1.9 * canvas.camera.focal_ratio

    def place(thing: Face | Vehicle, x: float, near: float, far: float) -> None:
        share = dice.random_sample()
        z = max(near + (far - near) * share * share, seen * abs(x))
        things.append((z, partial(thing.paint, x=x + street.shift(z), z=z)))

    def on_sidewalk(low: float, high: float) -> float:
        """A place on one of the sidewalks, from the kerb (0) to the houses (1)."""
        share = dice.between(low, high)
        if dice.chance(0.5):
            return street.left + (street.front_left - street.left) * share
        return street.right + (street.front_right - street.right) * share

    for _ in range(dice.count(1, 5)):
        place(tree(dice), on_sidewalk(0.1, 1.7), 6, 45)
    for _ in range(dice.count(1, 4)):
        place(post(dice), on_sidewalk(0.05, 0.3), 5, 40)
    if dice.chance(0.25):
        place(litter_bin(dice), on_sidewalk(0.2, 0.9), 5, 20)
    for _ in range(dice.count(2, 7)):
        x = on_sidewalk(0.1, 0.95) if dice.chance(0.65) else dice.between(street.left, street.right)
        place(walker(dice), x, 3.2, 11)
    for _ in range(dice.count(0, 3)):
        place(two_wheeler(dice, canvas.haze), dice.between(street.left - 0.5, street.right + 0.5), 3.5, 12)
    for _ in range(dice.count(1, 6)):
        vehicle = any_vehicle(dice)
        vehicle.crosses = dice.chance(0.3 if vehicle.label == CAR else 0.12)
        margin = vehicle.width / 2
        x = dice.between(street.left + margin, street.right - margin)
        vehicle.mirrored = dice.chance(0.5)
        place(vehicle, x, 5 if vehicle.label == CAR else 9, 40)
    return things
