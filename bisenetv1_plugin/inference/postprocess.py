"""What a runtime gives, to a mask in the picture's own size."""

from __future__ import annotations

from typing import Callable

import cv2
import numpy as np

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.preprocess import Sizes

_MOST = 256  # classes, of a mask of 8 bits


def logits_of(output: np.ndarray, output_op: str) -> np.ndarray:
    """The logits of what an export gives; of probabilities, up to a constant of each pixel, which changes no class."""
    return np.log(np.maximum(output, np.finfo("float32").tiny)) if output_op == "softmax" else output


def check_classes(count: int) -> None:
    """
    Raises:
        InputError: a mask of 8 bits has no number for so many classes.
    """
    if count > _MOST:
        raise InputError(f"the network has {count} classes or more, and a mask of 8 bits has numbers for {_MOST}.")


def restore(mask: np.ndarray, trans_info: Sizes) -> np.ndarray:
    """Undo the resizing and padding of the transforms: uint8 `[h, w]` -> the image's own `[H, W]`."""
    for kind, (height, width) in reversed(trans_info):
        if (kind[0] if isinstance(kind, list) else kind) == "resize":
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        else:
            mask = mask[:height, :width]
    return mask


def restore_logits(logits: np.ndarray, trans_info: Sizes) -> np.ndarray:
    """The same for logits `[classes, h, w]`, bilinear as in PaddleSeg's `reverse_transform`: `[classes, H, W]`."""
    for kind, (height, width) in reversed(trans_info):
        if (kind[0] if isinstance(kind, list) else kind) == "resize":
            planes = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in logits]
            logits = np.stack(planes)
        else:
            logits = logits[:, :height, :width]
    return logits


def of_output(
    output: np.ndarray, trans_info: Sizes, enlarge: Callable[[np.ndarray, Sizes], np.ndarray] = restore_logits
) -> np.ndarray:
    """The mask of a picture in its own size, uint8 `[H, W]`.

    As PaddleSeg's `val` and `predict`, it enlarges the logits and takes the best class then. Of an export that ends in
    argmax there is only a mask to enlarge.

    Args:
        output (numpy.ndarray): what a runtime gives for the picture: logits `[classes, h, w]` or integer `[h, w]`.
        trans_info (Sizes): see `preprocess`; of PaddleSeg's own transforms as well.
        enlarge (callable): gives logits the picture's size.

    Raises:
        InputError: there are more classes than a mask has numbers.
    """
    if output.ndim == 3:
        check_classes(output.shape[0])
        return enlarge(output, trans_info).argmax(axis=0).astype("uint8")
    if output.size:
        check_classes(int(output.max()) + 1)
    return restore(output.astype("uint8"), trans_info)
