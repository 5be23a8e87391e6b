"""Checks labelme's shapes, and draws them as labelme does."""

from __future__ import annotations

import base64
import io
import math
from typing import Any, Mapping, NamedTuple, Sequence

import numpy as np
from PIL import Image, ImageDraw, UnidentifiedImageError

from bisenetv1_plugin import image_files
from bisenetv1_plugin.datasets.own import coco_json
from bisenetv1_plugin.datasets.text import shorten
from bisenetv1_plugin.errors import InputError

_FARTHEST = 16  # times the longer side of its picture: how far outside a corner may be
# The least and the most points of each kind
_POINTS = {
    "polygon": (3, None),
    "rectangle": (2, 4),
    "oriented_rectangle": (4, 4),
    "circle": (2, 2),
    "line": (2, 2),
    "linestrip": (2, None),
    "point": (1, None),
    "points": (1, None),
    "mask": (2, 2),
}


class Shape(NamedTuple):
    """A shape: its class name, its kind, its points (x, y), and the pixels of a mask, bool `[H, W]`."""

    label: str
    kind: str
    points: list[tuple[float, float]]
    mask: np.ndarray | None = None

    @property
    def has_area(self) -> bool:
        return self.kind not in ("point", "points")

    def outside(self, width: int, height: int) -> int:
        """The number of points outside a picture of this size."""
        return sum(not (0 <= x <= width and 0 <= y <= height) for x, y in self.points) if self.has_area else 0


def check(where: str, entry: Mapping[str, Any], size: tuple[int, int]) -> Shape:
    """Reads a shape from its entry in a file; `size`: (width, height) of the picture.

    Raises:
        InputError: the entry is not a shape; the message begins with `where`.
    """
    label, kind, points = entry.get("label"), entry.get("shape_type") or "polygon", entry.get("points")
    if not isinstance(label, str) or not label.strip() or not is_line(label.strip()):
        raise InputError(f"{where}.label is {coco_json.describe(label)}: it must be the name of a class, on one line.")
    if not isinstance(kind, str) or kind not in _POINTS:
        known = ", ".join(kind for kind in _POINTS if kind != "points")
        raise InputError(
            f"{where}.shape_type is {coco_json.describe(kind)}, which is not one of {known}: draw it again."
        )
    most = _FARTHEST * max(size)
    if not isinstance(points, list) or not all(_is_point(point, most) for point in points):
        raise InputError(f"{where}.points is not a list of [x, y] in pixels of the picture: draw the shape again.")
    least, highest = _POINTS[kind]
    if len(points) < least or (highest and len(points) > highest):
        raise InputError(f"{where} is a {kind} of {len(points)} points, but needs {least}: draw it again.")
    corners = [(float(x), float(y)) for x, y in points]
    return Shape(label.strip(), kind, corners, _mask(where, entry, corners) if kind == "mask" else None)


def draw(
    shapes: Sequence[Shape], size: tuple[int, int], number_of: Mapping[str, int], unlabeled: int, line_width: int
) -> np.ndarray:
    """Draws a label, uint8 `[H, W]`; `size`: (width, height). Later shapes cover earlier ones."""
    label = Image.new("L", size, unlabeled)
    paint = ImageDraw.Draw(label)
    for shape in filter(lambda shape: shape.has_area, shapes):
        number, points = number_of[shape.label], shape.points
        if shape.kind == "circle":  # its center, and a point on its edge
            (x, y), edge = points
            radius = math.hypot(x - edge[0], y - edge[1])
            paint.ellipse((x - radius, y - radius, x + radius, y + radius), fill=number, outline=number)
        elif shape.kind == "rectangle":
            xs, ys = zip(*points)
            paint.rectangle((min(xs), min(ys), max(xs), max(ys)), fill=number, outline=number)
        elif shape.kind in ("line", "linestrip"):
            paint.line(points, fill=number, width=line_width)
        elif shape.mask is not None:
            corner = int(points[0][0]), int(points[0][1])
            label.paste(number, corner, Image.fromarray(shape.mask.astype("uint8") * 255))
        else:
            paint.polygon(points, fill=number, outline=number)
    return np.array(label)


def is_line(text: str) -> bool:
    """Whether a text can be a line of a list: it has no control characters, and UTF-8 can encode it."""
    return not any(ord(letter) < 32 or ord(letter) == 127 or 0xD800 <= ord(letter) < 0xE000 for letter in text)


def _is_point(point: Any, most: float) -> bool:
    return (
        isinstance(point, list)
        and len(point) == 2
        and all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in point)
        and all(-most <= value <= most for value in point)
    )


def _mask(where: str, entry: Mapping[str, Any], corners: Sequence[tuple[float, float]]) -> np.ndarray:
    """The pixels of a mask, from its PNG; both corners are included."""
    (x0, y0), (x1, y1) = corners
    size = (int(x1) - int(x0) + 1, int(y1) - int(y0) + 1)
    try:
        content = base64.b64decode(entry.get("mask") or b"", validate=True)
        with image_files.open_image(io.BytesIO(content)) as image:
            if image.size != size:
                raise ValueError(f"it has {image.size[0]}x{image.size[1]} pixels, not {size[0]}x{size[1]}")
            return np.asarray(image.convert("L")) > 0
    except UnidentifiedImageError as error:  # its text has a memory address
        raise InputError(f"{where}.mask is not an image: draw it again.") from error
    except (*image_files.READ_ERRORS, TypeError) as error:
        raise InputError(f"{where}.mask does not fit the shape ({shorten(str(error))}): draw it again.") from error
