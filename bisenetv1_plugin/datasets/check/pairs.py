"""Checks the headers and the pixels of one image and its label."""

from __future__ import annotations

import os
from typing import NamedTuple

import numpy as np

from bisenetv1_plugin import image_files
from bisenetv1_plugin.datasets.check import orientation
from bisenetv1_plugin.datasets.check.copies import digest_of
from bisenetv1_plugin.datasets.check.report import Problem, count_of
from bisenetv1_plugin.datasets.check.splits import FilePair, Split

_STRIP = 1 << 22  # pixels that are counted at once, because NumPy's counts need 64 bits a pixel


class Image(NamedTuple):
    """An image: uint8 [H, W, 3] as OpenCV reads and turns it, and its header."""

    pixels: np.ndarray
    header: image_files.Header

    @property
    def size(self) -> tuple[int, int]:
        return self.pixels.shape[1], self.pixels.shape[0]


class PixelCheck(NamedTuple):
    """The result of `check_pixels`.

    Attributes:
        problems: the problems found.
        histogram: int64 [256], the pixels of the label by value.
        digest: of the image's pixels, see `copies.digest_of`; None without a readable image.
        ambiguous: EXIF turns the image without changing its size.
        turn: whether edges show that the label must be turned as well; None if that is unclear.
    """

    problems: list[Problem]
    histogram: np.ndarray
    digest: bytes | None = None
    ambiguous: bool = False
    turn: bool | None = False


def check_headers(pair: FilePair, split: Split) -> list[Problem]:
    """The problems that headers show: missing files, sizes, formats."""
    image_path, label_path = pair
    image = _header("image", image_path)
    if isinstance(image, image_files.Header) and not image_files.has_reader(image_path):
        image = unreadable_problem("image", image_path, f"OpenCV cannot read {image.format}: save it as PNG")
    label = _header("label", label_path) if label_path else None
    problems = [found for found in (image, label) if isinstance(found, Problem)]
    if not label_path or not isinstance(label, image_files.Header):
        return problems
    if isinstance(image, image_files.Header) and image.upright_size != label.stored_size:
        # Decoding is slow, but this is rare, and only OpenCV shows how it turns an image
        pixels = image_files.decode_file(image_path)
        if pixels is None:
            problems.append(unreadable_problem("image", image_path))
        elif (pixels.shape[1], pixels.shape[0]) != label.stored_size:
            problems.append(_size_problem(image_path, label_path, image.upright_size, label.stored_size))
    if split.num_classes is not None and label.mode not in ("L", "P"):
        problems.append(_format_problem(label_path, label.mode))
    return problems


def check_pixels(pair: FilePair, split: Split) -> PixelCheck:
    """Decodes every byte of a pair, and checks sizes, orientation and label values."""
    image_path, label_path = pair
    histogram = np.zeros(256, np.int64)
    image = read_image(image_path)
    problems = [image] if isinstance(image, Problem) else []
    digest = digest_of(image.pixels) if isinstance(image, Image) else None
    if label_path is None:
        return PixelCheck(problems, histogram, digest)
    head = _header("label", label_path)
    if isinstance(head, Problem):
        return PixelCheck([*problems, head], histogram, digest)
    try:
        with image_files.open_image(label_path) as opened:
            mode, label = opened.mode, np.asarray(opened)
    except image_files.READ_ERRORS as error:
        return PixelCheck([*problems, unreadable_problem("label", label_path, error)], histogram, digest)

    label_size = (label.shape[1], label.shape[0])
    ambiguous, turn = False, None
    if isinstance(image, Image) and image.size != label_size:
        problems.append(_size_problem(image_path, label_path, image.size, label_size))
    elif isinstance(image, Image) and orientation.is_ambiguous(image.size, image.header.orientation):
        ambiguous, turn = True, orientation.needs_turn(image.pixels, label, image.header.orientation)
        if turn:
            problems.append(_orientation_problem(image_path, label_path, image.header.orientation))
    problems += _check_values(label_path, mode, label, split, histogram)
    return PixelCheck(problems, histogram, digest, ambiguous, turn)


def _check_values(label_path: str, mode: str, label: np.ndarray, split: Split, histogram: np.ndarray) -> list[Problem]:
    """Adds the values of a label to the histogram; returns the problems with them."""
    if split.num_classes is None:
        return []
    if label.ndim != 2 or label.dtype != np.uint8:
        return [_format_problem(label_path, mode)]
    histogram += count_values(label)
    values = np.flatnonzero(histogram)
    wrong = values[(values >= split.num_classes) & (values != split.ignore_index)]
    if not wrong.size:
        return []
    message = (
        f"label {label_path} has {count_of(histogram[wrong].sum(), 'pixel')} of {', '.join(map(str, wrong))}, "
        f"neither a class (0..{split.num_classes - 1}) nor ignore_index ({split.ignore_index}): "
        "correct the label or num_classes."
    )
    return [Problem("label values", label_path, message)]


def read_image(path: str) -> Image | Problem:
    """Decodes every byte of an image, and turns it by its EXIF orientation as OpenCV does for PaddleSeg.

    Returns a Problem if the image cannot be used.
    """
    head = _header("image", path)
    if isinstance(head, Problem):
        return head
    pixels = image_files.decode_file(path)
    if pixels is None:
        why = "damaged, or not an image that OpenCV reads"
        if not image_files.has_reader(path):
            why = f"OpenCV cannot read {head.format}: save it as PNG"
        return unreadable_problem("image", path, why)
    if head.format in image_files.JPEG_FORMATS:  # OpenCV fills the rest of a truncated JPEG with gray, without an error
        try:
            with image_files.open_image(path) as jpeg:
                jpeg.draft("L", (1, 1))
                jpeg.load()
        except image_files.READ_ERRORS as error:
            return unreadable_problem("image", path, f"{error}; OpenCV would read part of it")
    return Image(pixels, head)


def count_values(label: np.ndarray) -> np.ndarray:
    """int64 [256]: how often each value occurs in a uint8 label `[H, W]`."""
    rows = max(1, _STRIP // max(1, label.shape[1]))
    strips = (label[top : top + rows] for top in range(0, label.shape[0], rows))
    return sum((np.bincount(strip.ravel(), minlength=256) for strip in strips), np.zeros(256, np.int64))


def single_class_warnings(split: Split, histogram: np.ndarray, complete: bool) -> list[str]:
    """A warning if all labels have a single class, from which a network cannot learn.

    Masks of 0 and 255 are an example: 255 is ignored unless the configuration says otherwise.
    """
    if split.num_classes is None or split.num_classes < 2:
        return []
    counts = histogram.copy()
    counts[[split.ignore_index] if 0 <= split.ignore_index < 256 else []] = 0
    values = np.flatnonzero(counts)
    if len(values) != 1:
        return []
    message = "all labels of train" if complete else "all labels of train that were read"
    message += f" have only class {values[0]}"
    if histogram.sum() > counts.sum():
        message += (
            f", and {split.ignore_index}, which is ignored: if that is a class, `bisenetv1 data config` makes it one"
        )
    return [f"{message}."]


def unreadable_problem(what: str, path: str, why: object = "damaged, or not an image") -> Problem:
    return Problem("unreadable", path, f"{what} {path} cannot be read ({why}).")


def _header(what: str, path: str) -> image_files.Header | Problem:
    if not os.path.exists(path):
        return Problem("missing", path, f"{what} {path} does not exist.")
    fault = image_files.name_fault(path) if what == "image" else None
    if fault:
        return Problem("unreadable", path, fault)
    try:
        return image_files.header(path)
    except image_files.READ_ERRORS as error:
        return unreadable_problem(what, path, error)


def _size_problem(image_path: str, label_path: str, image: tuple[int, int], label: tuple[int, int]) -> Problem:
    message = f"label {label_path} is {label[0]}x{label[1]}, its image {image_path} {image[0]}x{image[1]}"
    try:
        turned = image_files.header(image_path).orientation >= 5 and image == label[::-1]
    except image_files.READ_ERRORS:
        turned = False
    if turned:
        message += ": OpenCV turns the image by its EXIF orientation. `bisenetv1 data config` turns such labels"
    return Problem("size", label_path, f"{message}.")


def _orientation_problem(image_path: str, label_path: str, turned_by: int) -> Problem:
    message = (
        f"label {label_path} fits its image {image_path} as stored, but OpenCV turns the image by its "
        f"EXIF orientation ({turned_by}): `bisenetv1 data config` turns such labels."
    )
    return Problem("orientation", label_path, message)


def _format_problem(label_path: str, mode: str) -> Problem:
    cure = "save it as an 8-bit PNG of class indices with one channel, or let `bisenetv1 data config` convert it."
    return Problem("label format", label_path, f"label {label_path} has Pillow's mode {mode}: {cure}")
