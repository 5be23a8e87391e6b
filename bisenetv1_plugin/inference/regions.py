"""The connected regions of a mask as polygons, and masks from regions.

Outlines follow the edges of pixels: pixel (x, y) is the square from (x, y) to (x + 1, y + 1), as in COCO and in GeoJSON
of pictures. A single pixel has four corners and an area of 1. OpenCV's contours go through the centers of pixels, where
a single pixel is a point. So contours are found at twice the size, and rounded to edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Iterable, Iterator, List, Sequence

import cv2
import numpy as np

from bisenetv1_plugin.errors import InputError

__all__ = ["Region", "draw"]

TOLERANCE = 1.0  # pixels
LEAST_IOU = 0.99  # between a region and its simplified outline
_LEAST_TOLERANCE = 0.5  # pixels; a smaller one simplifies nothing
_TOLERANCE_STEP = 0.84  # factor for the next attempt: 1.0, 0.84, 0.71, 0.59
# The outline of a polygon and then its holes: int32 `[points, 2]`, x and y; the first point is not repeated.
Polygon = List[np.ndarray]


@dataclass(repr=False, eq=False)
class Region:
    """A connected region of a mask: pixels of one class that share an edge or a corner.

    Attributes:
        number (int): the number of the class.
        name (str): the name of the class.
        box (tuple[int]): x, y, width and height, in pixels.
        mask (numpy.ndarray): bool `[height, width]` of the box, True in the region.
        area (int): the number of pixels.
        confidence (float, optional): the mean probability of its class, 0..1; None unless requested.
        tolerance (float): see `find`.
    """

    number: int
    name: str
    box: tuple[int, int, int, int]
    mask: np.ndarray
    area: int
    confidence: float | None = None
    tolerance: float = TOLERANCE

    @cached_property
    def polygons(self) -> list[Polygon]:
        """The outline as in GeoJSON's MultiPolygon: a list of polygons, each its outline and then its holes.

        There are several polygons if parts touch only at a corner. Every ring is int32 `[points, 2]`, x and y of pixel
        corners in the picture. By the shoelace formula, outlines have a positive area and holes a negative one.
        """
        polygons = [[ring + corner for ring in _rings(part)] for corner, part in parts(self.mask)]
        for tolerance in tolerances(self.tolerance, self.area):
            simple = _simplify(polygons, tolerance)
            if simple and iou(self.mask, _fill(simple, *self.mask.shape)) >= LEAST_IOU and not _crosses(simple):
                polygons = simple
                break
        return [[ring + np.array(self.box[:2], "int32") for ring in rings] for rings in polygons]

    def __repr__(self) -> str:
        x, y, width, height = self.box
        sure = "" if self.confidence is None else f", confidence {self.confidence:.2f}"
        return f"<{self.name}: {self.area} pixels in {width}x{height} at {x}, {y}{sure}>"


def find(
    mask: np.ndarray,
    names: Sequence[str],
    confidence: np.ndarray | None = None,
    min_area: int = 1,
    tolerance: float = TOLERANCE,
) -> list[Region]:
    """The connected regions of a mask, the largest first.

    Args:
        mask: uint8 `[H, W]`; numbers without a name, such as 255, are ignored.
        names: the names of the classes, by number.
        confidence: float32 `[H, W]`, the probability of the most likely class.
        min_area: in pixels; smaller regions are omitted.
        tolerance: how many pixels simplification may move an outline (Douglas-Peucker). It is reduced if the outline
            would cross itself, or if its IoU with the region would be below 0.99. With 0, an outline has every corner
            of the pixels.

    Raises:
        InputError: min_area or tolerance is negative or not a number, or the confidence contains NaN.
    """
    for name, value in (("min_area", min_area), ("tolerance", tolerance)):
        if not isinstance(value, (int, float, np.number)) or not 0 <= value < np.inf:
            raise InputError(f"{name} is {value!r}; it must be a number of pixels, 0 or more.")
    found: list[Region] = []
    for number in np.unique(mask).tolist():
        if number >= len(names):
            continue
        count, labels, stats, _ = cv2.connectedComponentsWithStats((mask == number).view("uint8"), connectivity=8)
        sums = None if confidence is None else np.bincount(labels.ravel(), confidence.ravel(), count)
        if sums is not None and not np.isfinite(sums).all():
            raise InputError("the confidence contains NaN: check the weights.")
        for label in range(1, count):
            x, y, width, height, area = stats[label].tolist()
            if area >= min_area:
                piece = labels[y : y + height, x : x + width] == label
                sure = None if sums is None else float(sums[label] / area)
                box = (x, y, width, height)
                found.append(Region(number, names[number], box, piece, area, sure, tolerance))
    return sorted(found, key=lambda region: -region.area)


def draw(regions: Iterable[Region], height: int, width: int, fill: int = 255) -> np.ndarray:
    """The mask of regions, uint8 `[height, width]`; other pixels are `fill`.

    A pixel belongs to a polygon that contains its center. Where regions overlap, the smaller one is drawn.
    """
    mask = np.full((height, width), fill, "uint8")
    for region in sorted(regions, key=lambda region: -region.area):
        x, y, columns, rows = region.box
        polygons = [[ring - np.array((x, y)) for ring in rings] for rings in region.polygons]
        mask[y : y + rows, x : x + columns][_fill(polygons, rows, columns)] = region.number
    return mask


def tolerances(tolerance: float, area: int) -> Iterator[float]:
    """The tolerances to try for a region of this area, in order."""
    if area * (1 - LEAST_IOU) < 1:  # not even one pixel may change
        return
    while tolerance >= _LEAST_TOLERANCE:
        yield tolerance
        tolerance *= _TOLERANCE_STEP


def parts(piece: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Split a bool mask into parts that are connected by edges: x and y of each box, int32, and its bool mask."""
    # The default algorithm crashes in OpenCV 4.5.5 with connectivity 4.
    count, labels, stats, _ = cv2.connectedComponentsWithStatsWithAlgorithm(
        piece.view("uint8"), 4, cv2.CV_32S, cv2.CCL_WU
    )
    for label in range(1, count):
        x, y, width, height, _ = stats[label]
        yield stats[label, :2], labels[y : y + height, x : x + width] == label


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """The IoU of two bool masks."""
    return float(np.count_nonzero(one & other) / np.count_nonzero(one | other))


def _rings(part: np.ndarray) -> Polygon:
    """The outline and the holes of pixels that are connected by edges, with every corner."""
    twice = cv2.resize(part.view("uint8"), None, fx=2, fy=2, interpolation=cv2.INTER_NEAREST)
    contours, hierarchy = cv2.findContours(twice, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    order = np.argsort(hierarchy[0, :, 3] >= 0, kind="stable")  # the outline has no parent
    rings = []
    for contour in (contours[index] for index in order):
        ring = (contour[::-1, 0] + 1) // 2  # pixel p became 2p and 2p + 1; its edges are p and p + 1
        ring = ring[(ring != np.roll(ring, 1, 0)).any(1)]
        before, after = ring - np.roll(ring, 1, 0), np.roll(ring, -1, 0) - ring
        rings.append(ring[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]])
    return rings


def _simplify(polygons: Sequence[Polygon], tolerance: float) -> list[Polygon] | None:
    """Polygons with fewer points; None if an outline would vanish. Points where rings touch are kept."""
    points = np.concatenate([ring for rings in polygons for ring in rings])
    corners, counts = np.unique(points, axis=0, return_counts=True)
    shared = set(map(tuple, corners[counts > 1].tolist()))
    simple = []
    for rings in polygons:
        fewer = [_simplify_ring(ring, shared, tolerance) for ring in rings]
        if len(fewer[0]) < 3:
            return None
        simple.append([ring for ring in fewer if len(ring) >= 3])
    return simple


def _simplify_ring(ring: np.ndarray, shared: set[tuple[int, int]], tolerance: float) -> np.ndarray:
    if len(ring) <= 4:  # a rectangle
        return ring
    kept = [index for index, point in enumerate(map(tuple, ring.tolist())) if point in shared] if shared else []
    if not kept:
        return cv2.approxPolyDP(ring, tolerance, True)[:, 0]
    ring = np.roll(ring, -kept[0], 0)
    ends = [index - kept[0] for index in kept] + [len(ring)]
    ring = np.concatenate([ring, ring[:1]])
    chains = [ring[begin : end + 1] for begin, end in zip(ends, ends[1:])]
    return np.concatenate([cv2.approxPolyDP(chain, tolerance, False)[:-1, 0] for chain in chains])


def _crosses(polygons: Sequence[Polygon]) -> bool:
    """Whether rings cross or touch, except in a point that both have."""
    rings = [ring.astype("int64") for rings in polygons for ring in rings]
    begin, end = np.concatenate(rings), np.concatenate([np.roll(ring, -1, 0) for ring in rings])
    order = np.argsort(np.minimum(begin[:, 1], end[:, 1]), kind="stable")
    begin, end = begin[order], end[order]
    low, high = np.minimum(begin, end), np.maximum(begin, end)
    one = np.arange(len(begin))
    for further in range(1, len(begin)):  # compare each line with later ones that begin at or above its end
        one = one[one + further < len(begin)]
        one = one[low[one + further, 1] <= high[one, 1]]
        if not len(one):
            break
        near = one[((low[one] <= high[one + further]) & (low[one + further] <= high[one])).all(1)]
        if len(near) and _lines_meet(begin[near], end[near], begin[near + further], end[near + further]).any():
            return True
    return False


def _lines_meet(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Whether the lines from `a` to `b` and from `c` to `d`, `[lines, 2]` each, meet. Their boxes must overlap."""
    sides = [np.sign(_cross(q - p, r - p)) for p, q, r in ((a, b, c), (a, b, d), (c, d, a), (c, d, b))]
    meet = (sides[0] * sides[1] <= 0) & (sides[2] * sides[3] <= 0)
    for p, q in ((a, b), (b, a)):
        for r, s in ((c, d), (d, c)):  # lines with a common end meet only if they overlap
            apart = (_cross(q - p, s - r) != 0) | (((q - p) * (s - r)).sum(1) < 0)
            meet &= ~((p == r).all(1) & apart)
    return meet


def _cross(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]


def _fill(polygons: Iterable[Polygon], height: int, width: int) -> np.ndarray:
    """A bool mask `[height, width]`, True if a pixel's center is inside an odd number of rings.

    OpenCV and Pillow also fill the pixels that an outline touches.
    """
    starts = [ring for rings in polygons for ring in rings]
    begin = np.concatenate(starts).astype("int64")
    end = np.concatenate([np.roll(ring, -1, 0) for ring in starts]).astype("int64")
    low, high = np.minimum(begin[:, 1], end[:, 1]), np.maximum(begin[:, 1], end[:, 1])
    edge = np.repeat(np.arange(len(begin)), high - low)  # each edge, repeated for every row that it crosses
    row = np.arange(len(edge)) - np.repeat(np.cumsum(high - low) - (high - low), high - low) + low[edge]
    (x, y), (dx, dy) = begin[edge].T, (end - begin)[edge].T
    column = np.ceil(x + (row + 0.5 - y) * dx / dy - 0.5).astype("int64")
    changes = np.zeros((height, width + 1), "uint8")
    np.add.at(changes, (row, column), 1)
    return (np.cumsum(changes, axis=1, dtype="uint8")[:, :-1] & 1).astype(bool)
