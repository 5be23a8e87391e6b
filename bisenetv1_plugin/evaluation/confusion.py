"""Confusion matrices: the number of pixels by label class and predicted class, in total and for each image.

Pixels are kept only for the few images that are shown, at a reduced size.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import NamedTuple, Sequence

import cv2
import numpy as np

IGNORED = 255  # value of ignored pixels in the label of a `WorstImage`
_SIDE = 640  # longer side of shown images, in pixels


class Mistake(NamedTuple):
    """The number of pixels of one class that were predicted as another, and their share of all pixels."""

    label: int
    prediction: int
    pixels: int
    share: float


class ConfusedPair(NamedTuple):
    """Two classes that were confused with each other.

    Attributes:
        first, second: the classes. At least as many pixels of the first were predicted as the second as vice versa.
        share: share of all pixels that belong to one class and were predicted as the other.
        first_share, second_share: share of each class's own pixels that were predicted as the other; NaN if the class
            has no pixels.
    """

    first: int
    second: int
    share: float
    first_share: float
    second_share: float


class ClassFigures(NamedTuple):
    """IoU, precision and recall of each class, float64 `[classes]`, 0..1; NaN if the denominator is 0."""

    iou: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


@dataclass
class ImageFigures:
    """Figures of one image, 0..1; NaN if all of its pixels are ignored.

    Attributes:
        number: index in the dataset.
        pixels: number of pixels that are not ignored.
        iou: mean IoU over the classes in its label or mask.
        acc: share of correct pixels.
        class_iou: float64 `[classes]`; NaN for classes in neither label nor mask.
        mistake: the most frequent mistake; None if all pixels are correct.
    """

    number: int
    pixels: int
    iou: float
    acc: float
    class_iou: np.ndarray
    mistake: Mistake | None


class WorstImage(NamedTuple):
    """An image to show: its figures, and its label and mask, uint8 `[h, w]`, both at the same reduced size."""

    figures: ImageFigures
    label: np.ndarray
    mask: np.ndarray


class Confusion:
    """Counts pixels of masks and labels, as PaddleSeg does.

    Args:
        num_classes: number of classes.
        ignore_index: label value of ignored pixels.
        worst: number of images to keep for a picture; those with the lowest IoU are kept.

    Attributes:
        matrix: int64 `[classes + 1, classes + 1]`. Rows are label classes, columns are predicted classes. The last row
            and column count invalid values, which PaddleSeg counts as wrong.
        images: the figures of each image, in the order of the dataset.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255, worst: int = 0) -> None:
        self._num_classes, self._ignore_index, self._keep = num_classes, ignore_index, worst
        self._worst: list[tuple[float, int, WorstImage]] = []
        self.matrix = np.zeros((num_classes + 1, num_classes + 1), "int64")
        self.images: list[ImageFigures] = []

    def add(self, mask: np.ndarray, label: np.ndarray) -> None:
        """Add the next image: its mask and label, integers `[H, W]`; leading axes of size 1 are allowed."""
        mask, label = mask.reshape(mask.shape[-2:]), label.reshape(label.shape[-2:])
        ignored = label == self._ignore_index
        mask, label = self._numbers(mask), self._numbers(label)
        size = self._num_classes + 1
        places = (label * size + mask)[~ignored]
        matrix = np.bincount(places, minlength=size * size).reshape(size, size)
        self.matrix += matrix
        iou = class_figures(matrix).iou
        figures = ImageFigures(
            number=len(self.images),
            pixels=len(places),
            iou=float(mean(iou)),
            acc=accuracy(matrix),
            class_iou=iou,
            mistake=largest_mistake(matrix),
        )
        self.images.append(figures)
        if self._keep and not np.isnan(figures.iou):
            label[ignored] = IGNORED
            # The smallest entry is the best image that is kept; among equals, the last one.
            entry = (-figures.iou, -figures.number, WorstImage(figures, _shrink(label), _shrink(mask)))
            push = heapq.heappush if len(self._worst) < self._keep else heapq.heappushpop
            push(self._worst, entry)

    def _numbers(self, classes: np.ndarray) -> np.ndarray:
        """Convert to int64, with invalid values replaced by the number of classes."""
        known = (classes >= 0) & (classes < self._num_classes)
        return np.where(known, classes, self._num_classes).astype("int64")

    @property
    def worst(self) -> list[WorstImage]:
        """The images to show, the worst first."""
        return [worst for _, _, worst in sorted(self._worst, key=lambda entry: entry[:2], reverse=True)]

    def disagreement(self, miou: float, acc: float, of_classes: Sequence[Sequence[float]]) -> str | None:
        """Return a sentence if figures differ by more than 1e-9 from PaddleSeg's, else None.

        Args:
            miou, acc: PaddleSeg's mIoU and accuracy.
            of_classes: PaddleSeg's IoU, precision and recall of each class. Classes without pixels are not compared.
        """
        iou, precision, recall = (np.where(np.isnan(a), b, a) for a, b in zip(class_figures(self.matrix), of_classes))
        names = ("IoU", "precision", "recall", "mIoU", "accuracy")
        ours = [iou, precision, recall, iou.mean(keepdims=True), np.array([accuracy(self.matrix)])]
        theirs = [*of_classes, [miou], [acc]]
        odd = [n for n, a, b in zip(names, ours, theirs) if not np.allclose(a, b, rtol=0, atol=1e-9, equal_nan=True)]
        return f"the report's {', '.join(odd)} and PaddleSeg's differ: they count different pixels." if odd else None


def class_figures(matrix: np.ndarray) -> ClassFigures:
    """Compute the IoU, precision and recall of each class from a `Confusion.matrix`."""
    hits, labels, masks = np.diag(matrix)[:-1], matrix[:-1].sum(axis=1), matrix[:, :-1].sum(axis=0)
    return ClassFigures(_ratio(hits, labels + masks - hits), _ratio(hits, masks), _ratio(hits, labels))


def accuracy(matrix: np.ndarray) -> float:
    """Compute the share of correct pixels among those with a valid prediction."""
    return float(_ratio(np.diag(matrix)[:-1].sum(), matrix[:, :-1].sum()))


def row_shares(matrix: np.ndarray) -> np.ndarray:
    """Divide each row by its sum: float64, NaN in rows without pixels."""
    return _ratio(matrix, matrix.sum(axis=1, keepdims=True))


def mistakes(matrix: np.ndarray) -> np.ndarray:
    """Return the matrix with zeros on the diagonal, which counts the correct pixels."""
    return matrix - np.diag(np.diag(matrix))


def largest_mistake(matrix: np.ndarray) -> Mistake | None:
    """Return the most frequent mistake, or None if there are no mistakes."""
    counts = mistakes(matrix)
    label, prediction = map(int, np.unravel_index(counts.argmax(), counts.shape))
    pixels = int(counts[label, prediction])
    return Mistake(label, prediction, pixels, pixels / int(matrix.sum())) if pixels else None


def most_confused(matrix: np.ndarray, most: int) -> list[ConfusedPair]:
    """Return at most `most` pairs of classes, the most confused first."""
    counts, of_label = mistakes(matrix), row_shares(matrix)
    both = np.triu(counts + counts.T)
    pairs = []
    for place in np.argsort(-both, axis=None, kind="stable")[:most]:
        first, second = map(int, np.unravel_index(place, both.shape))
        if not both[first, second]:
            break
        share = both[first, second] / matrix.sum()
        if counts[second, first] > counts[first, second]:
            first, second = second, first
        shares = of_label[first, second], of_label[second, first]
        pairs.append(ConfusedPair(first, second, float(share), *map(float, shares)))
    return pairs


def mean(values: np.ndarray) -> float:
    """Compute the mean of all values except NaN; NaN if there are no others."""
    numbers = values[~np.isnan(values)]
    return float(numbers.mean()) if len(numbers) else float("nan")


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    part, whole = np.broadcast_arrays(part, whole)
    return np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)


def _shrink(classes: np.ndarray) -> np.ndarray:
    height, width = classes.shape
    scale = min(1.0, _SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return cv2.resize(classes.astype("uint8"), size, interpolation=cv2.INTER_NEAREST)
