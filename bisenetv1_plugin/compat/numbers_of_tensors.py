"""NumPy 2.5 and Paddle's `float()` and `int()` of a tensor of one element that has dimensions."""

from __future__ import annotations

import functools
import logging
import warnings
from typing import Any, Callable

import numpy as np
import paddle

logger = logging.getLogger(__name__)

DEFECT = (
    "Paddle's float() and int() of a tensor of shape [1] raise with NumPy 2.5 (TypeError: only 0-dimensional arrays "
    "can be converted): that of the loss in PaddleSeg 2.8.0's train, and in every version paddle.flops after training."
)

_CONVERSIONS = ("__float__", "__int__", "__index__")


def needed() -> bool:
    # NumPy first: an older one answers without a tensor.
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
    """The conversion, for which a tensor of one element loses its dimensions; others it gets as they are."""

    @functools.wraps(convert)
    def converted(tensor: Any) -> Any:
        if tensor.ndim > 0 and tensor.size == 1:
            _log_once()
            tensor = tensor.reshape([])
        return convert(tensor)

    return converted


@functools.lru_cache(maxsize=None)
def _log_once() -> None:
    logger.info("bisenetv1-plugin corrects float() and int() of Paddle's tensors of one element, which NumPy refuses.")
