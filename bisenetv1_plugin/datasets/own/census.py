"""A look at every image and label: sizes, formats, and how often each value or colour occurs."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from bisenetv1_plugin import image_files
from bisenetv1_plugin.datasets.check import THREADS, orientation
from bisenetv1_plugin.datasets.check.copies import digest_of
from bisenetv1_plugin.datasets.check.pixels import count_values, read_image, unreadable
from bisenetv1_plugin.datasets.check.report import Problem
from bisenetv1_plugin.datasets.own.lists import Pair
from bisenetv1_plugin.datasets.own.tables import RGB

Progress = Optional[Callable[[int, int], None]]

_STRIP = 1 << 18  # pixels whose colours are counted at once
_MOST_VALUES = 1 << 16  # or colours of a label: a photograph has millions
_LOSSY = {
    **dict.fromkeys(image_files.JPEG_FORMATS, "JPEG is lossy: it invents class numbers at every edge"),
    "WEBP": "WebP may be lossy, and then invents class numbers at every edge",
    "GIF": "GIF may have several frames and an order of colours of its own",
}


@dataclass
class Seen:
    """What is known of a pair.

    Attributes:
        pair: image and label.
        size: (width, height) of the image as OpenCV reads it.
        kind: `index` (numbers), `palette` (numbers with colours) or `color`.
        values: pixels by number, or by `tables.code` of the colour.
        palette: the colours of the numbers in the label.
        plain: PaddleSeg can read the label file as it is: one channel of 8 bits.
        turn: EXIF orientation by which the label must be turned to lie as its image does; 1 for none.
        hidden: EXIF turns the image without a change of size.
        unclear: and the edges of both do not show whether the label must be turned as well.
        digest: of the image's pixels, see `check.copies`.
        brightest: value of a 16-bit image; 0 for others.
    """

    pair: Pair
    size: Tuple[int, int] = (0, 0)
    kind: str = "index"
    values: Counter = field(default_factory=Counter)
    palette: Dict[int, RGB] = field(default_factory=dict)
    plain: bool = True
    turn: int = 1
    hidden: bool = False
    unclear: bool = False
    digest: Optional[bytes] = None
    brightest: int = 0


@dataclass
class Census:
    """All pairs that can be used, the files that cannot be read, and the pairs that are wrong."""

    seen: List[Seen]
    broken: List[Problem]
    wrong: List[Problem]


def take(pairs: Sequence[Pair], progress: Progress = None) -> Census:
    """Looks at every pair; pixels are decoded, in threads, each picture once.

    Args:
        pairs: images and labels.
        progress: called with (pairs done, pairs in all).

    Returns:
        The Census, in the order of `pairs`.
    """
    census = Census([], [], [])
    with ThreadPoolExecutor(THREADS) as pool:
        for done, (seen, problems) in enumerate(pool.map(_look, pairs), start=1):
            broken = [problem for problem in problems if problem.kind in ("missing", "unreadable")]
            census.broken += broken
            census.wrong += [problem for problem in problems if problem not in broken]
            if not problems:
                census.seen.append(seen)
            if progress:
                progress(done, len(pairs))
    return census


def _look(pair: Pair) -> Tuple[Seen, List[Problem]]:
    seen = Seen(pair)
    problems: List[Problem] = []
    label_size = _look_at_label(seen, problems)
    image = read_image(str(pair.image), problems)
    if problems or image is None or label_size is None:
        return seen, problems
    seen.size, seen.digest = image.size, digest_of(image.pixels)
    head = image.header
    if label_size != image.size:
        if head.orientation >= 5 and label_size == head.stored:
            seen.turn = head.orientation
        else:
            (w, h), (width, height) = label_size, image.size
            sentence = (
                f"label {pair.label} is {w}x{h}, its image {pair.image} {width}x{height}: both must have one size"
            )
            problems.append(Problem("size", str(pair.label), sentence))
    elif orientation.is_hidden(image.size, head.orientation):
        label, _ = read_label(pair.label)
        turned = None if label is None else orientation.needs_turn(image.pixels, label, head.orientation)
        seen.hidden, seen.unclear = True, turned is None
        seen.turn = head.orientation if turned else 1
    if head.mode.startswith("I;16"):
        seen.brightest = int(image_files.decode_file(pair.image, cv2.IMREAD_UNCHANGED).max())
    return seen, problems


def _look_at_label(seen: Seen, problems: List[Problem]) -> Optional[Tuple[int, int]]:
    """Fills in what the label says; its (width, height), or None and a problem."""
    path = seen.pair.label
    try:
        head = image_files.header(path)
        if head.format in _LOSSY:
            cure = "export the labels again as PNG; what is in these cannot be repaired"
            problems.append(Problem("lossy", str(path), f"label {path} is no PNG. {_LOSSY[head.format]}: {cure}"))
            return None
        label, palette = read_label(path)
    except image_files.READ_ERRORS as error:
        problems.append(unreadable("label", str(path), error))
        return None
    if label is None:
        deep = " of 16 bits a channel" if head.mode in ("RGB", "RGBA", "LA") else ""
        cure = "save class numbers as 8-bit PNG, or colours as RGB of 8 bits"
        sentence = f"label {path} has Pillow's mode {head.mode}{deep}: {cure}"
        problems.append(Problem("label format", str(path), sentence))
        return None
    seen.plain = head.mode in ("L", "P")
    if label.ndim == 3:
        seen.kind, seen.values = "color", _count_colors(label)
    elif label.dtype == np.uint8:
        counts = count_values(label)
        seen.values = Counter({int(value): int(counts[value]) for value in np.flatnonzero(counts)})
    else:
        values, counts = np.unique(label, return_counts=True)
        some = slice(_MOST_VALUES + 1)
        seen.values = Counter({int(value): int(count) for value, count in zip(values[some], counts[some])})
    if len(seen.values) > _MOST_VALUES:
        sentence = (
            f"label {path} has more than {_MOST_VALUES} values or colours, as a photograph: export labels of classes"
        )
        problems.append(Problem("label format", str(path), sentence))
        return None
    if palette is not None:
        seen.kind = "palette"
        seen.palette = {value: palette[value] for value in seen.values if value < len(palette)}
    return head.stored


def read_label(path) -> Tuple[Optional[np.ndarray], Optional[List[RGB]]]:
    """A label file as numbers [H, W], uint8 or a wider integer, or colours uint8 [H, W, 3]; and its palette.

    The array is None for formats that are neither, such as floating point.

    Raises:
        READ_ERRORS: the file cannot be read.
    """
    with image_files.open_image(path) as image:
        palette = None
        deep = ";16" in str(image.tile)  # of several channels of 16 bits Pillow gives the upper 8: class 1 becomes 0
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


def _count_colors(colors: np.ndarray) -> Counter:
    """Pixels by colour. Labels are flat: what is sorted is the places where a colour begins, not all pixels."""
    total: Counter = Counter()
    rows = max(1, _STRIP // max(1, colors.shape[1]))
    for top in range(0, colors.shape[0], rows):
        codes = codes_of(colors[top : top + rows]).ravel()
        starts = np.flatnonzero(np.concatenate(([True], codes[1:] != codes[:-1])))
        lengths = np.diff(np.append(starts, codes.size))
        values, places = np.unique(codes[starts], return_inverse=True)
        counts = np.bincount(places, weights=lengths)
        total.update({int(value): int(count) for value, count in zip(values, counts)})
        if len(total) > _MOST_VALUES:
            break  # nobody needs the rest, and it fills the memory
    return total
