"""PaddleSeg's `DiceLoss` changes its labels, which later losses then use."""

from __future__ import annotations

import functools
from typing import Any, Callable

import paddle
from paddleseg.models.losses import DiceLoss

DEFECT = (
    "PaddleSeg's DiceLoss overwrites the ignored pixels of its labels with class 0: later losses in the same "
    "MixedLoss, and the losses of auxiliary heads, train on these pixels as class 0."
)


def needed() -> bool:
    place = paddle.CPUPlace()
    labels = paddle.to_tensor([[[255, 1]]], dtype="int64", place=place)
    DiceLoss()(paddle.to_tensor([[[[0.0, 1.0]], [[1.0, 0.0]]]], place=place), labels)
    return int(labels.numpy()[0, 0, 0]) != 255


def apply() -> None:
    DiceLoss.forward = _copy_labels(DiceLoss.forward)


def _copy_labels(forward: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(forward)
    def wrapped(self: Any, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        return forward(self, logits, labels.clone())

    return wrapped
