"""People on foot, on bicycles and on motorcycles. Each is a `Face`."""

from __future__ import annotations

from bisenetv1_plugin.datasets.classes import BICYCLE, MOTORCYCLE, PERSON, RIDER
from bisenetv1_plugin.datasets.scenes.canvas import Face
from bisenetv1_plugin.datasets.scenes.dice import ANY, DARK, EARTH, GRAY, VIVID, Color, Dice, shade


def _clothes(dice: Dice) -> tuple[Color, Color, Color, Color]:
    """Colors of coat, trousers, skin and hair."""
    return dice.color(*ANY), dice.color(*ANY), dice.color(EARTH), dice.color(GRAY[:2], EARTH)


def walker(dice: Dice) -> Face:
    coat, trousers, skin, hair = _clothes(dice)
    tall, stride = dice.between(1.5, 1.95), dice.between(0.05, 0.38)
    swing, skirt, bag = dice.between(-0.3, 0.3), dice.chance(0.2), dice.chance(0.3)
    k = tall / 1.75
    hip, shoulder = 0.9 * k, 1.46 * k

    face = Face(PERSON)
    for foot, light in ((-stride, 0.8), (stride, 1.0)):
        face.bar((foot, 0.04), (foot * 0.2, hip), 0.19, shade(trousers, light))
        face.box(foot - 0.1, 0, foot + 0.14, 0.09, DARK)
    if skirt:
        face.polygon(((-0.34, 0.45 * k), (0.34, 0.45 * k), (0.2, hip), (-0.2, hip)), trousers)
    face.bar((-0.25, shoulder - 0.06), (-0.3 - swing, 0.85 * k), 0.13, shade(coat, 0.75))
    right = ((0.2, 0.8 * k), (0.27, shoulder - 0.1), (0.16, shoulder + 0.05))
    face.polygon(((-0.2, 0.8 * k), *right, (-0.16, shoulder + 0.05), (-0.27, shoulder - 0.1)), coat)
    face.bar((0.25, shoulder - 0.06), (0.3 + swing, 0.85 * k), 0.13, shade(coat, 1.2))
    if bag:
        face.box(0.2, 0.75 * k, 0.48, 1.05 * k, shade(coat, 0.5))
    face.box(-0.06, shoulder, 0.06, shoulder + 0.15, skin)
    face.disc(0, tall - 0.12, 0.125, hair, 1.15)
    face.disc(0, tall - 0.16, 0.1, skin, 1.15)
    return face


def two_wheeler(dice: Dice, haze: Color) -> Face:
    """A bicycle or motorcycle seen from the side, with its rider or without."""
    kind = BICYCLE if dice.chance(0.55) else MOTORCYCLE
    ridden, mirror = dice.chance(0.75), 1 if dice.chance(0.5) else -1
    frame, tank = dice.color(*ANY), dice.color(VIVID, GRAY)
    clothes = _clothes(dice)
    turn = dice.between(0.35, 1.0)  # foreshortened: seen from ahead rather than from the side

    face = Face(kind, mirror * turn)
    if kind == BICYCLE:
        _bicycle(face, frame, haze)
    else:
        _motorcycle(face, frame, tank)
    if ridden:
        face.label, face.turn = RIDER, mirror * (turn if turn > 0.6 else 0.6)
        _rider(face, *clothes)
    return face


def _bicycle(face: Face, frame: Color, haze: Color) -> None:
    for s in (-0.52, 0.52):
        face.disc(s, 0.35, 0.37, DARK)
        face.disc(s, 0.35, 0.3, shade(haze, 0.72))  # the background shows through the spokes
    axle, crank, saddle, fork, front = (-0.52, 0.35), (-0.05, 0.35), (-0.15, 0.85), (0.4, 0.85), (0.52, 0.35)
    tubes = (axle, saddle), (saddle, fork), (fork, front), (crank, fork), (saddle, crank), (axle, crank)
    for start, end in tubes:
        face.bar(start, end, 0.07, frame)
    face.box(-0.3, 0.88, -0.02, 0.96, DARK)
    face.box(0.3, 0.95, 0.48, 1.04, DARK)


def _motorcycle(face: Face, frame: Color, tank: Color) -> None:
    for s in (-0.68, 0.68):
        face.disc(s, 0.32, 0.34, DARK)
        face.disc(s, 0.32, 0.16, shade(frame, 1.2))
    face.polygon(((-0.85, 0.75), (-0.4, 0.25), (0.35, 0.25), (0.55, 0.8), (0.2, 1.0), (-0.2, 0.8)), frame)
    face.polygon(((-0.05, 0.82), (0.45, 0.8), (0.35, 1.05), (0.05, 1.02)), tank)
    face.box(-0.75, 0.75, -0.05, 0.88, DARK)
    face.bar((0.3, 1.12), (0.7, 0.3), 0.1, shade(tank, 1.3))


def _rider(face: Face, coat: Color, trousers: Color, skin: Color, hair: Color) -> None:
    face.bar((-0.15, 0.95), (0.2, 0.62), 0.2, trousers)
    face.bar((0.2, 0.66), (0.02, 0.22), 0.16, shade(trousers, 0.85))
    face.polygon(((-0.35, 0.9), (0.05, 0.9), (0.36, 1.45), (0.1, 1.58), (-0.18, 1.4)), coat)
    face.bar((0.2, 1.42), (0.42, 1.02), 0.13, shade(coat, 1.2))
    face.disc(0.26, 1.7, 0.15, hair, 1.15)
    face.box(0.26, 1.6, 0.4, 1.74, skin)
