"""Cars, trucks, buses and trams: two faces each, the long side and the end that is nearer to the camera."""

from __future__ import annotations

from typing import Iterable

from bisenetv1_plugin.datasets.classes import BUS, CAR, ROAD, TRAIN, TRUCK
from bisenetv1_plugin.datasets.scenes.canvas import Canvas, Face, Point
from bisenetv1_plugin.datasets.scenes.dice import ANY, DARK, GLASS, Color, Dice, shade

_RED_LAMP, _LAMP = (50, 50, 200), (215, 235, 240)


class Vehicle:
    """A vehicle, drawn on `side` (`s` from rear to front) and `end`, in meters. It may cross the street."""

    def __init__(self, label: int, width: float, length: float) -> None:
        self.label, self.width, self.length = label, width, length
        self.side, self.end = Face(label), Face(label)
        self.crosses = self.mirrored = False

    def wheels(self, places: Iterable[float], radius: float) -> None:
        for s in places:
            self.side.disc(s, radius, radius, DARK)
            self.side.disc(s, radius, 0.55 * radius, (150, 148, 146))

    def paint(self, canvas: Canvas, x: float, z: float) -> None:
        """Paint the middle of the near face at `(x, z)`, and what the camera sees of the other face."""
        wide, deep, near, far = self.width, self.length, self.end, self.side
        if self.crosses:
            wide, deep, near, far = deep, wide, far, near
        left, right = x - wide / 2, x + wide / 2
        shadow = ((left - 0.2, 0, z), (right + 0.2, 0, z), (right, 0, z + deep), (left, 0, z + deep))
        canvas.polygon(shadow, DARK, ROAD)
        if left > 0:
            far.paint(canvas, left, z, (0.0, 1.0), (1.0, 0.0))
        elif right < 0:
            far.paint(canvas, right, z, (0.0, 1.0), (-1.0, 0.0))
        if self.mirrored:
            near.paint(canvas, right, z, (-1.0, 0.0))
        else:
            near.paint(canvas, left, z)


def any_vehicle(dice: Dice) -> Vehicle:
    kind = dice.random_sample()
    if kind < 0.66:
        return car(dice)
    if kind < 0.78:
        return truck(dice)
    return coach(dice, BUS if kind < 0.9 else TRAIN)


def car(dice: Dice) -> Vehicle:
    paintwork, glass = dice.color(*ANY), shade(dice.color(*GLASS), 0.6)
    width, length, height = dice.between(1.65, 1.95), dice.between(3.6, 4.8), dice.between(1.38, 1.75)
    boot, hood = dice.between(0.05, 0.16) * length, dice.between(0.1, 0.28) * length
    rear = dice.chance(0.5)  # seen from behind or from ahead
    waist, bonnet = 0.56 * height, length - hood  # the bonnet goes from there to the front
    roof = (boot + 0.12 * length, bonnet - 0.16 * length)
    vehicle = Vehicle(CAR, width, length)
    side, end = vehicle.side, vehicle.end

    body = ((0, 0.25), (length, 0.25), (length, 0.85 * waist), (length - 0.1, waist), (0, waist))
    side.polygon(body, shade(paintwork, 0.85))
    side.polygon(((boot, waist), (bonnet, waist), (roof[1], height), (roof[0], height)), shade(paintwork, 0.95))
    low, high, middle = waist + 0.02, height - 0.1, 0.5 * (roof[0] + roof[1])
    back, front = middle - 0.06, middle + 0.06
    side.polygon(((boot + 0.2, low), (back, low), (back, high), (roof[0] + 0.06, high)), glass)
    side.polygon(((front, low), (bonnet - 0.2, low), (roof[1] - 0.06, high), (front, high)), glass)
    side.bar((0.1, waist * 0.8), (length - 0.1, waist * 0.8), 0.05, shade(paintwork, 0.6))
    vehicle.wheels((0.19 * length, 0.81 * length), 0.33)

    def slope(
        bottom: Point, top: Point, color: Color, margin: float = 0.0
    ) -> None:  # a quadrangle from (height, depth) to (height, depth)
        left, right = margin, width - margin
        end.polygon(((left, *bottom), (right, *bottom), (right, *top), (left, *top)), color)

    slope((waist, bonnet), (waist, length), shade(paintwork, 1.2))
    slope((height, roof[0]), (height, roof[1]), shade(paintwork, 1.25))
    slope((waist, boot), (height, roof[0]), paintwork)
    slope((waist + 0.04, boot + 0.02), (height - 0.08, roof[0] - 0.02), glass, margin=0.1 * width)
    slope((waist, 0.0), (waist, boot), shade(paintwork, 1.2))
    end.boxes((0.08, width - 0.3), 0.22, 0, 0.4, DARK)
    end.box(0, 0.24, width, waist, paintwork)
    end.boxes((0.05, width - 0.37), 0.32, waist - 0.28, waist - 0.1, _RED_LAMP if rear else _LAMP)
    end.box(0, 0.24, width, 0.38, shade(paintwork, 0.55))
    end.box(0.5 * width - 0.26, 0.42, 0.5 * width + 0.26, 0.54, (222, 224, 224))
    return vehicle


def truck(dice: Dice) -> Vehicle:
    cargo, cab, glass = dice.color(*ANY), dice.color(*ANY), shade(dice.color(*GLASS), 0.6)
    width, length, height = dice.between(2.2, 2.6), dice.between(6.5, 11), dice.between(2.8, 3.9)
    ribs = dice.count(6, 12)
    front = length - 2.0
    vehicle = Vehicle(TRUCK, width, length)
    side, end = vehicle.side, vehicle.end

    side.box(0, 0.55, length, 0.95, DARK)
    side.box(0, 0.9, front - 0.25, height, shade(cargo, 0.85))
    for i in range(1, ribs):
        s = (front - 0.25) * i / ribs
        side.box(s - 0.08, 0.9, s + 0.08, height, shade(cargo, 0.66))
    side.polygon(((front, 0.5), (length, 0.5), (length, 1.5), (length - 0.4, 2.6), (front, 2.6)), cab)
    side.polygon(((front + 0.5, 1.5), (length - 0.15, 1.5), (length - 0.5, 2.35), (front + 0.5, 2.35)), glass)
    vehicle.wheels((1.2, 2.3, length - 1.2), 0.5)

    end.boxes((0.1, width - 0.55), 0.45, 0, 0.7, DARK)
    end.box(0, 0.5, width, 0.9, shade(DARK, 1.5))
    end.box(0, 0.9, width, height, cargo)
    end.boxes((0.04, 0.5 * width - 0.04, width - 0.1), 0.08, 0.9, height, shade(cargo, 0.55))
    for s in (0.28, 0.72):
        end.box(s * width - 0.04, 1.0, s * width + 0.04, height - 0.1, shade(cargo, 1.3))
    end.boxes((0.1, width - 0.4), 0.3, 0.6, 0.8, _RED_LAMP)
    return vehicle


def coach(dice: Dice, label: int) -> Vehicle:
    """A bus, or a tram (class train): longer, striped, with a pantograph."""
    tram = label == TRAIN
    paintwork, band, glass = dice.color(*ANY), dice.color(*ANY), shade(dice.color(*GLASS), 0.55)
    width, height = dice.between(2.4, 2.7), dice.between(2.9, 3.6)
    length = dice.between(18, 28) if tram else dice.between(8, 12.5)
    windows = int(length / (1.1 if tram else 1.7))
    vehicle = Vehicle(label, width, length)
    side, end = vehicle.side, vehicle.end

    side.box(0, 0.25 if tram else 0.35, length, height, shade(paintwork, 0.85))
    side.box(0, 0.3, length, 0.75, shade(band, 0.85))
    if tram:
        side.box(0, height - 0.55, length, height - 0.25, shade(band, 0.8))
    for i in range(windows):
        s, door = length * (i + 0.1) / windows, i % 4 == 2
        side.box(s, 0.5 if door else 1.35, s + 0.8 * length / windows, height - 0.75, glass)
    if not tram:
        vehicle.wheels((2.0, length - 2.4), 0.5)

    end.box(0.1, 0, width - 0.1, 0.4, DARK)
    end.box(0, 0.3, width, height, paintwork)
    end.box(0, 0.3, width, 0.8, band)
    end.box(0.12, 1.2, width - 0.12, height - 0.65, glass)
    end.box(0.5 * width - 0.05, 1.2, 0.5 * width + 0.05, height - 0.65, paintwork if tram else shade(glass, 0.8))
    end.box(0.3, height - 0.5, width - 0.3, height - 0.15, DARK)
    end.box(0.5, height - 0.42, width - 0.8, height - 0.24, (80, 190, 240))
    end.boxes((0.15, width - 0.5), 0.35, 0.85, 1.05, _LAMP)
    if tram:
        end.bar((0.5, height), (0.5 * width, height + 0.9), 0.07, DARK)
        end.bar((0.2 * width, height + 0.9), (0.8 * width, height + 0.9), 0.07, DARK)
    return vehicle
