"""With NumPy 2.5, `float()` and `int()` of a Paddle tensor with one element and dimensions raise."""

from __future__ import annotations

import functools
import warnings
from typing import Any, Callable

import numpy as np
import paddle

from bisenetv1_plugin import compat

DEFECT = (
    "Paddle's float() and int() of a tensor of shape [1] raise with NumPy 2.5 (TypeError: only 0-dimensional arrays "
    "can be converted). PaddleSeg 2.8.0's train calls them on the loss, and every version through paddle.flops."
)

_CONVERSIONS = ("__float__", "__int__", "__index__")


def needed() -> bool:
    # NumPy first: with an older version no tensor is needed.
    return not (_converts(np.ones([1])) or _converts(paddle.to_tensor([1.0], place=paddle.CPUPlace())))


def apply() -> None:
    for name in _CONVERSIONS:
        setattr(paddle.Tensor, name, without_dimensions(getattr(paddle.Tensor, name)))


def _converts(array: Any) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # NumPy warns from 1.25 on
        try:
            float(array)
        except TypeError:
            return False
    return True


def without_dimensions(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The conversion, applied to a 0-D tensor if the given tensor has one element."""

    @functools.wraps(convert)
    def converted(tensor: Any) -> Any:
        if tensor.ndim > 0 and tensor.size == 1:
            compat.log_once(
                "bisenetv1-plugin corrects float() and int() of Paddle tensors with one element, which NumPy refuses."
            )
            tensor = tensor.reshape([])
        return convert(tensor)

    return converted
