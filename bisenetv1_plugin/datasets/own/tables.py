"""Reads tables of class names and colors, as people and annotation tools write them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple, Sequence

from bisenetv1_plugin.datasets.text import numbered_lines, parse_color, shorten
from bisenetv1_plugin.drawing.painter import RGB, voc_colors
from bisenetv1_plugin.errors import InputError

_COLOR_FILES = (
    *("label_colors.txt", "label_colours.txt", "labelmap.txt", "class_dict.csv", "class_dict.txt"),
    *("colors.txt", "colours.txt", "colormap.txt", "color_map.txt"),
)
_VALUE_FILES = ("_classes.csv",)  # Roboflow's: `value, name`
_VOID = frozenset(
    ["void", "ignore", "ignored", "unlabeled", "unlabelled", "unlabel", "undefined", "don't_care", "dontcare"]
)
VOC_VOID = (224, 224, 192)  # the edges of objects, with number 255
_VOC_NAMES = [
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
]


class Table(NamedTuple):
    """Classes and their colors.

    Attributes:
        path: the file.
        names: class names, in the file's order; colors with the same name are one class.
        codes: the class of every color, by `code`; None for colors named void, unlabelled and the like.
    """

    path: Path
    names: tuple[str, ...]
    codes: dict[int, int | None]

    def colors(self) -> tuple[RGB, ...]:
        """The first color of every class."""
        return tuple(
            rgb(next(code for code, index in self.codes.items() if index == i)) for i in range(len(self.names))
        )


def code(color: RGB) -> int:
    """A color as one number."""
    return color[0] << 16 | color[1] << 8 | color[2]


def rgb(number: int) -> RGB:
    return number >> 16, number >> 8 & 255, number & 255


def voc_names(palette: dict[int, RGB]) -> Sequence[str] | None:
    """VOC's class names if all values have VOC's colors; None otherwise."""
    colors = voc_colors(len(_VOC_NAMES))
    values = [value for value in palette if value != 255]
    fits = values and all(value < len(colors) and palette[value] == colors[value] for value in values)
    return _VOC_NAMES if fits else None


def in_folder(root: Path, files: Sequence[Path]) -> Table | None:
    """The color table with a usual name in a folder, the one nearest to the top; None without one."""
    found = [path for path in files if path.name.lower() in _COLOR_FILES]
    return read(root / min(found, key=lambda path: (len(path.parts), path))) if found else None


def read(path: Path) -> Table:
    """Reads a table with a class and a color per line.

    `name r g b`, `r g b name`, with spaces, tabs or commas (`class_dict.csv`, whose first line may be a header), or
    `name:r,g,b:parts:actions` (CVAT's `labelmap.txt`); lines that begin with # are ignored.

    Raises:
        InputError: the file cannot be read or is empty, or a line has another form.
    """
    names: list[str] = []
    codes: dict[int, int | None] = {}
    for number, line in _lines(path):
        parsed = _color_line(line)
        if parsed is None:
            if number == 1 and not re.search(r"\d", line):
                continue  # a header
            raise InputError(
                f"{path}, line {number}: '{shorten(line)}' is not a class and a color: write `name red green blue`."
            )
        name, color = parsed
        if code(color) in codes:
            raise InputError(f"{path}, line {number}: the color {color} appears twice: give each class its own.")
        if name.lower().replace(" ", "_") in _VOID:
            codes[code(color)] = None
            continue
        if name not in names:
            names.append(name)
        codes[code(color)] = names.index(name)
    if not names:
        raise InputError(f"{path} has no class: write a line `name red green blue` for each.")
    return Table(path, tuple(names), codes)


def names_in_folder(root: Path, files: Sequence[Path]) -> list[str] | None:
    """Names by value from `classes.txt` (a name per line) or Roboflow's `_classes.csv`; None without either.

    Raises:
        InputError: the file cannot be read.
    """
    if Path("classes.txt") in files:
        return [line for _, line in _lines(root / "classes.txt")]
    for path in files:
        if path.name.lower() in _VALUE_FILES:
            return _names_by_value(root / path)
    return None


def _names_by_value(path: Path) -> list[str]:
    """The names in lines `value, name`; the first line may be a header."""
    names: dict[int, str] = {}
    lines = _lines(path)
    for number, line in lines:
        value, _, name = (part.strip() for part in line.partition(","))
        if not (value.isdecimal() and len(value) < 4 and name):
            if number == lines[0][0]:
                continue
            raise InputError(
                f"the table {path}, line {number}: '{shorten(line)}' is not a value and a name: write `value, name`."
            )
        if int(value) in names:
            raise InputError(f"the table {path}, line {number}: the value {value} appears twice: give it one name.")
        names[int(value)] = name
    if sorted(names) != list(range(len(names))) or not names:
        raise InputError(
            f"the table {path} has {len(names)} names, but not for every value starting with 0: add the others."
        )
    return [names[value] for value in range(len(names))]


def _lines(path: Path) -> list[tuple[int, str]]:
    return [(number, line) for number, line in numbered_lines(path, "table") if not line.startswith("#")]


def _color_line(line: str) -> tuple[str, RGB] | None:
    words = [word for word in re.split(r"[\s,;:]+", line) if word]
    for place, rest in ((slice(-3, None), slice(0, -3)), (slice(0, 3), slice(3, None))):
        color, name = parse_color(words[place]), words[rest]
        if color and name:
            return " ".join(name), color
    return None
