"""Reads every image and label: sizes, formats, and how often each value or color occurs."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Sequence

import cv2
import numpy as np

from bisenetv1_plugin import image_files
from bisenetv1_plugin.datasets.check import THREADS, orientation
from bisenetv1_plugin.datasets.check.copies import digest_of
from bisenetv1_plugin.datasets.check.pairs import count_values, read_image, unreadable_problem
from bisenetv1_plugin.datasets.check.report import Problem
from bisenetv1_plugin.datasets.own.lists import Pair
from bisenetv1_plugin.datasets.own.tables import RGB
from bisenetv1_plugin.datasets.text import first_few
from bisenetv1_plugin.progress import Progress, silent

_STRIP = 1 << 18  # pixels whose colors are counted at once
_MOST_VALUES = 1 << 16  # or colors in a label; a photograph has millions
_LOSSY = {
    **dict.fromkeys(image_files.JPEG_FORMATS, "JPEG is lossy: it invents class numbers at every edge"),
    "WEBP": "WebP may be lossy, and then invents class numbers at every edge",
    "GIF": "GIF may have several frames, and its own order of colors",
}


class LabelInfo(NamedTuple):
    """The contents of a label file.

    Attributes:
        kind: `index` (numbers), `palette` (numbers with colors) or `color`.
        counts: pixels by number, or by `tables.code` of the color.
        palette: the colors of the numbers.
        plain: whether PaddleSeg can read the file as it is: one channel of 8 bits.
        size: (width, height) as stored, before EXIF turns it.
    """

    kind: str
    counts: Counter[int]
    palette: dict[int, RGB]
    plain: bool
    size: tuple[int, int]


@dataclass
class PairInfo:
    """The contents of an image and its label.

    Attributes:
        pair: image and label.
        size: (width, height) of the image as OpenCV reads it.
        kind, values, palette, plain: of the label, see `LabelInfo`; `values` are its counts.
        turn: EXIF orientation by which the label must be turned to fit its image; 1 for none.
        ambiguous: EXIF turns the image but keeps its size, so that sizes do not show whether the label is upright.
        undecided: the edges do not show it either.
        digest: of the image's pixels, see `check.copies`.
        brightest: the highest value of a 16-bit image; 0 for others.
    """

    pair: Pair
    size: tuple[int, int]
    kind: str
    values: Counter[int]
    palette: dict[int, RGB]
    plain: bool
    turn: int = 1
    ambiguous: bool = False
    undecided: bool = False
    digest: bytes | None = None
    brightest: int = 0


@dataclass
class Census:
    """Usable pairs, problems of unreadable files, and problems of invalid pairs."""

    usable: list[PairInfo]
    broken: list[Problem]
    invalid: list[Problem]


def inspect_pairs(pairs: Sequence[Pair], progress: Progress = silent) -> Census:
    """Reads every pair in threads, and decodes each picture once; the results have the order of `pairs`."""
    census = Census([], [], [])
    with ThreadPoolExecutor(THREADS) as pool:
        for found in progress(pool.map(_inspect, pairs), desc="look", unit="file", total=len(pairs)):
            if isinstance(found, PairInfo):
                census.usable.append(found)
            else:
                for problem in found:
                    (census.broken if problem.kind in ("missing", "unreadable") else census.invalid).append(problem)
    return census


def _inspect(pair: Pair) -> PairInfo | list[Problem]:
    """A usable pair, or its problems."""
    label, image = _label_info(pair.label), read_image(str(pair.image))
    if isinstance(label, Problem) or isinstance(image, Problem):
        return [found for found in (label, image) if isinstance(found, Problem)]
    head = image.header
    info = PairInfo(pair, image.size, *label[:4], digest=digest_of(image.pixels))
    if label.size != image.size:
        if head.orientation < 5 or label.size != head.stored_size:
            (w, h), (width, height) = label.size, image.size
            sentence = (
                f"label {pair.label} is {w}x{h}, its image {pair.image} {width}x{height}: both must have the same size"
            )
            return [Problem("size", str(pair.label), sentence)]
        info.turn = head.orientation
    elif orientation.is_ambiguous(image.size, head.orientation):
        pixels, _ = read_label(pair.label)
        turned = None if pixels is None else orientation.needs_turn(image.pixels, pixels, head.orientation)
        info.ambiguous, info.undecided = True, turned is None
        info.turn = head.orientation if turned else 1
    if head.mode.startswith("I;16"):
        deep = image_files.decode_file(pair.image, cv2.IMREAD_UNCHANGED)
        info.brightest = 0 if deep is None else int(deep.max())
    return info


def _label_info(path: Path) -> LabelInfo | Problem:
    """The contents of a label, or the reason why it cannot be used."""
    try:
        head = image_files.header(path)
        if head.format in _LOSSY:
            cure = "export the labels again as PNG, because these cannot be repaired"
            return Problem("lossy", str(path), f"label {path} is not a PNG. {_LOSSY[head.format]}: {cure}")
        label, colors = read_label(path)
    except image_files.READ_ERRORS as error:
        return unreadable_problem("label", str(path), error)
    if label is None:
        deep = " with 16 bits per channel" if head.mode in ("RGB", "RGBA", "LA") else ""
        cure = "save class numbers as 8-bit PNG, or colors as 8-bit RGB"
        return Problem("label format", str(path), f"label {path} has Pillow's mode {head.mode}{deep}: {cure}")
    if label.ndim == 3:
        counts = _count_colors(label)
    elif label.dtype == np.uint8:
        histogram = count_values(label)
        counts = Counter({int(value): int(histogram[value]) for value in np.flatnonzero(histogram)})
    else:
        few = slice(_MOST_VALUES + 1)
        values, times = (found[few].tolist() for found in np.unique(label, return_counts=True))
        counts = Counter(dict(zip(values, times)))
    if len(counts) > _MOST_VALUES:
        sentence = f"label {path} has more than {_MOST_VALUES} values or colors, like a photograph: export class labels"
        return Problem("label format", str(path), sentence)
    kind = "color" if label.ndim == 3 else "index" if colors is None else "palette"
    palette = {value: colors[value] for value in counts if value < len(colors)} if colors is not None else {}
    return LabelInfo(kind, counts, palette, head.mode in ("L", "P"), head.stored_size)


def notes_on_images(infos: Sequence[PairInfo]) -> list[str]:
    """Notes on images that EXIF turns, and on 16-bit images."""
    notes = []
    turned = sum(one.turn != 1 for one in infos)
    upright = [one for one in infos if one.ambiguous and one.turn == 1]
    undecided = [one for one in upright if one.undecided]
    deep = [one for one in infos if one.brightest]
    if turned:
        notes.append(f"EXIF turns {turned} images but not their labels: the labels were turned as well.")
    if len(upright) > len(undecided):
        name = next(one.pair.image.name for one in upright if not one.undecided)
        notes.append(
            f"EXIF turns {len(upright) - len(undecided)} images without a change of size ({name}): edges show that "
            "their labels are upright already."
        )
    if undecided:
        names = first_few([one.pair.image.name for one in undecided])
        notes.append(
            f"EXIF turns {len(undecided)} images without a change of size, and edges do not show whether their labels "
            f"are upright ({names}): they were not turned. Check them, and save these images upright."
        )
    if deep:
        notes.append(f"{len(deep)} images have 16 bits per channel: only the upper 8 are read.")
        dark = [one for one in deep if one.brightest < 1 << 12]
        if dark:
            notes.append(
                f"{len(dark)} of them are nearly black then ({dark[0].pair.image.name} has values up to "
                f"{dark[0].brightest}): scale them to 8 bits."
            )
    return notes


def read_label(path: str | Path) -> tuple[np.ndarray | None, list[RGB] | None]:
    """Reads a label as numbers [H, W], uint8 or a wider integer, or colors uint8 [H, W, 3]; and its palette.

    The array is None for other formats, such as floating point.

    Raises:
        READ_ERRORS: the file cannot be read.
    """
    with image_files.open_image(path) as image:
        palette = None
        deep = ";16" in str(image.tile)  # Pillow reads the upper 8 of 16 bits in RGB: class 1 would be 0
        if image.mode == "P":
            flat = image.getpalette() or []
            palette = [(flat[i], flat[i + 1], flat[i + 2]) for i in range(0, len(flat) - 2, 3)]
        if image.mode == "1":
            return np.asarray(image).astype(np.uint8), None
        if image.mode in ("L", "P") or image.mode == "I" or image.mode.startswith("I;16"):
            return np.asarray(image), palette
        if image.mode == "LA" and not deep:
            return np.asarray(image)[..., 0], None
        if image.mode in ("RGB", "RGBA") and not deep:
            return np.asarray(image)[..., :3], None
        return None, None


def codes_of(colors: np.ndarray) -> np.ndarray:
    """uint32 [H, W]: `tables.code` of every pixel of uint8 [H, W, 3]."""
    red, green, blue = (colors[..., channel].astype(np.uint32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _count_colors(colors: np.ndarray) -> Counter[int]:
    """Pixels by color. Sorts the places where the color changes, which are few in labels, instead of all pixels."""
    total: Counter[int] = Counter()
    rows = max(1, _STRIP // max(1, colors.shape[1]))
    for top in range(0, colors.shape[0], rows):
        codes = codes_of(colors[top : top + rows]).ravel()
        starts = np.flatnonzero(np.concatenate(([True], codes[1:] != codes[:-1])))
        lengths = np.diff(np.append(starts, codes.size))
        values, places = np.unique(codes[starts], return_inverse=True)
        counts = np.bincount(places, weights=lengths)
        total.update({int(value): int(count) for value, count in zip(values, counts)})
        if len(total) > _MOST_VALUES:
            break  # the rest is not needed, and would fill the memory
    return total
