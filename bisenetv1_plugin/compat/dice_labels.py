"""PaddleSeg's DiceLoss and the labels that other losses see after it."""

from __future__ import annotations

import functools
from typing import Any, Callable

import paddle
from paddleseg.models.losses import DiceLoss

DEFECT = (
    "PaddleSeg's DiceLoss writes class 0 over the ignored pixels of the labels it is given: the losses after it in a "
    "MixedLoss, and those of the auxiliary heads, train on these pixels as class 0."
)


def needed() -> bool:
    place = paddle.CPUPlace()
    labels = paddle.to_tensor([[[255, 1]]], dtype="int64", place=place)
    DiceLoss()(paddle.to_tensor([[[[0.0, 1.0]], [[1.0, 0.0]]]], place=place), labels)
    return int(labels.numpy()[0, 0, 0]) != 255


def apply() -> None:
    DiceLoss.forward = _on_a_copy(DiceLoss.forward)


def _on_a_copy(forward: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(forward)
    def wrapped(self: Any, logits: paddle.Tensor, labels: paddle.Tensor) -> paddle.Tensor:
        return forward(self, logits, labels.clone())

    return wrapped
