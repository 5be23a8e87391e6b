"""PaddleSeg 2.8.0's evaluation fails: `calculate_area` concatenates sums, which are 0-D tensors since Paddle 2.5."""

from __future__ import annotations

import functools

import paddle
from paddleseg.utils import metrics

from bisenetv1_plugin import compat

DEFECT = (
    "PaddleSeg 2.8.0's utils.metrics.calculate_area concatenates 0-D tensors, so no model can be evaluated "
    "with Paddle 2.5 or later (fixed in 2.9)."
)


def needed() -> bool:
    names = metrics.calculate_area.__code__.co_names
    return "concat" in names and "stack" not in names


def apply() -> None:
    metrics.calculate_area = functools.wraps(metrics.calculate_area)(calculate_area)


def calculate_area(
    pred: paddle.Tensor, label: paddle.Tensor, num_classes: int, ignore_index: int = 255
) -> tuple[paddle.Tensor, paddle.Tensor, paddle.Tensor]:
    """Count the pixels of each class in the intersection, the prediction and the label.

    Args:
        pred: `[N, H, W]` or `[N, 1, H, W]`, integer, predicted classes.
        label: the same shape.
        num_classes: number of classes.
        ignore_index: the label of pixels that are not counted.

    Returns:
        The areas of intersection, prediction and label, int64 `[num_classes]` each.

    Raises:
        ValueError: the shapes differ.
    """
    compat.log_once("bisenetv1-plugin corrects calculate_area of this PaddleSeg: it concatenates 0-D tensors.")
    pred = pred.squeeze(1) if pred.ndim == 4 else pred
    label = label.squeeze(1) if label.ndim == 4 else label
    if pred.shape != label.shape:
        raise ValueError(f"The prediction {pred.shape} and the label {label.shape} must have the same shape.")
    counted = label != ignore_index

    def areas(masks: list[paddle.Tensor]) -> paddle.Tensor:
        return paddle.stack([mask.astype("int64").sum() for mask in masks])

    predicted = [(pred == i) & counted for i in range(num_classes)]
    labeled = [(label == i) & counted for i in range(num_classes)]
    return areas([p & t for p, t in zip(predicted, labeled)]), areas(predicted), areas(labeled)
