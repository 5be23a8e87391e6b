"""Which class is taken for which: pixels by the class of their label and that of the mask, over all images and of each.

Of the pixels only those of the few images that are shown are kept, and these images are reduced.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import NamedTuple, Sequence

import cv2
import numpy as np

IGNORED = 255  # in the label of a `WorstImage`
_SIDE = 640  # pixels of the longer side of what is shown


class Mistake(NamedTuple):
    """Pixels of one class that were taken for another, and their share of all pixels."""

    label: int
    prediction: int
    pixels: int
    share: float


class ConfusedPair(NamedTuple):
    """Two classes that were taken for one another.

    Attributes:
        first, second: the classes; more pixels of the first were lost to the second than the other way round.
        share: the pixels of both that were taken for the other, of all pixels.
        first_share, second_share: those of the class alone, of its own pixels; NaN where it has none.
    """

    first: int
    second: int
    share: float
    first_share: float
    second_share: float


class ClassFigures(NamedTuple):
    """Figures of every class, float64 `[classes]`, 0..1; NaN where there is no pixel to divide by."""

    iou: np.ndarray
    precision: np.ndarray
    recall: np.ndarray


@dataclass
class ImageFigures:
    """Figures of one image, 0..1; NaN where no pixel counts.

    Attributes:
        number: its place in the data, from 0 on.
        pixels: how many count.
        iou: the mean over the classes that its label or its mask has.
        acc: share of the pixels that are right.
        class_iou: float64 `[classes]`, NaN for a class that neither has.
        mistake: the most pixels of one class that were taken for one other; None where all are right.
    """

    number: int
    pixels: int
    iou: float
    acc: float
    class_iou: np.ndarray
    mistake: Mistake | None


class WorstImage(NamedTuple):
    """One of the images to show: its figures, its label and its mask, uint8 `[h, w]`, reduced alike."""

    figures: ImageFigures
    label: np.ndarray
    mask: np.ndarray


class Confusion:
    """Counts masks against labels as PaddleSeg does.

    Args:
        num_classes (int): number of classes.
        ignore_index (int): value of labels that counts nowhere.
        worst (int): how many images to keep for a picture, those of the lowest IoU.

    Attributes:
        matrix: int64 `[classes + 1, classes + 1]`: rows are the classes of the labels, columns those of the masks. The
            last of each is for values that are no class, which PaddleSeg counts as wrong.
        images: the figures of each image, in the order of the data.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255, worst: int = 0) -> None:
        self._num_classes, self._ignore_index, self._keep = num_classes, ignore_index, worst
        self._worst: list[tuple[float, int, WorstImage]] = []
        self.matrix = np.zeros((num_classes + 1, num_classes + 1), "int64")
        self.images: list[ImageFigures] = []

    def add(self, mask: np.ndarray, label: np.ndarray) -> None:
        """The mask of the next image, and its label, integers `[H, W]` both, with or without axes of one before."""
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
            # The smallest is the best of those that are kept; of equals the last.
            entry = (-figures.iou, -figures.number, WorstImage(figures, _shrink(label), _shrink(mask)))
            push = heapq.heappush if len(self._worst) < self._keep else heapq.heappushpop
            push(self._worst, entry)

    def _numbers(self, classes: np.ndarray) -> np.ndarray:
        """int64, the number of classes for what is none."""
        known = (classes >= 0) & (classes < self._num_classes)
        return np.where(known, classes, self._num_classes).astype("int64")

    @property
    def worst(self) -> list[WorstImage]:
        """The images to show, the worst first."""
        return [worst for _, _, worst in sorted(self._worst, key=lambda entry: entry[:2], reverse=True)]

    def disagreement(self, miou: float, acc: float, of_classes: Sequence[Sequence[float]]) -> str | None:
        """What differs by more than 1e-9 from PaddleSeg's figures, a sentence; None if nothing does.

        Args:
            miou, acc (float): PaddleSeg's figures over all classes.
            of_classes (sequence): its IoU, precision and recall of each class. Whatever these are for a class
                without pixels is right.
        """
        iou, precision, recall = (np.where(np.isnan(a), b, a) for a, b in zip(class_figures(self.matrix), of_classes))
        names = ("IoU", "precision", "recall", "mIoU", "accuracy")
        ours = [iou, precision, recall, iou.mean(keepdims=True), np.array([accuracy(self.matrix)])]
        theirs = [*of_classes, [miou], [acc]]
        odd = [n for n, a, b in zip(names, ours, theirs) if not np.allclose(a, b, rtol=0, atol=1e-9, equal_nan=True)]
        return f"the report's {', '.join(odd)} and PaddleSeg's differ: the two count other pixels." if odd else None


def class_figures(matrix: np.ndarray) -> ClassFigures:
    """IoU, precision and recall of every class, of a `Confusion.matrix`."""
    hits, labels, masks = np.diag(matrix)[:-1], matrix[:-1].sum(axis=1), matrix[:, :-1].sum(axis=0)
    return ClassFigures(_ratio(hits, labels + masks - hits), _ratio(hits, masks), _ratio(hits, labels))


def accuracy(matrix: np.ndarray) -> float:
    """The share of pixels that are right, of those with a class in the mask."""
    return float(_ratio(np.diag(matrix)[:-1].sum(), matrix[:, :-1].sum()))


def row_shares(matrix: np.ndarray) -> np.ndarray:
    """Each row by its sum: float64, NaN in a row without pixels."""
    return _ratio(matrix, matrix.sum(axis=1, keepdims=True))


def mistakes(matrix: np.ndarray) -> np.ndarray:
    """The matrix without the pixels that are right."""
    return matrix - np.diag(np.diag(matrix))


def largest_mistake(matrix: np.ndarray) -> Mistake | None:
    """The most pixels of one class that were taken for one other; None where there are none."""
    counts = mistakes(matrix)
    label, prediction = map(int, np.unravel_index(counts.argmax(), counts.shape))
    pixels = int(counts[label, prediction])
    return Mistake(label, prediction, pixels, pixels / int(matrix.sum())) if pixels else None


def most_confused(matrix: np.ndarray, most: int) -> list[ConfusedPair]:
    """The pairs of classes that were most often taken for one another, by pixels."""
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
    """The mean of those that are numbers; NaN where none is."""
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
