"""Turn a runtime's output into a mask of the picture's size."""

from __future__ import annotations

from typing import Callable, NamedTuple

import cv2
import numpy as np

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.preprocess import Sizes

UNKNOWN = 255  # in a mask: a pixel whose confidence is too low
NO_NUMBERS = "the network's scores for it contain NaN: check the weights."
_MOST = 256  # classes, of a mask of 8 bits
_ROWS = 64  # processed at a time, because NumPy makes temporary copies


class MaskWithConfidence(NamedTuple):
    """The most likely class of every pixel, uint8 `[H, W]`, and its probability, float32 `[H, W]`, 0..1."""

    mask: np.ndarray
    confidence: np.ndarray


def logits_of(output: np.ndarray, output_op: str) -> np.ndarray:
    """An export's output as logits. From probabilities, they are shifted by a constant per pixel, which is harmless."""
    return np.log(np.maximum(output, np.finfo("float32").tiny)) if output_op == "softmax" else output


def logit_tolerance(logits: np.ndarray) -> float:
    """How far apart the float32 logits of two runtimes may be: 1e-3, or 1e-5 of the largest one if that is more.

    Runtimes add in another order, so rounding grows with the logits. A network of a few iterations may have thousands.
    """
    return max(1e-3, 1e-5 * float(np.abs(logits[np.isfinite(logits)]).max(initial=0)))


def check_classes(count: int) -> None:
    """Check that a mask of 8 bits can number all classes.

    Raises:
        InputError: there are more than 256 classes.
    """
    if count > _MOST:
        raise InputError(
            f"the network has {count} classes or more, and a mask of 8 bits has numbers for only {_MOST}: use fewer."
        )


def check_probability(name: str, value: object) -> None:
    """Check that a value is a probability.

    Raises:
        InputError: the value is not a number from 0 to 1.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 <= value <= 1:
        raise InputError(f"{name} is {value!r}; it must be a number from 0 to 1.")


def check_unknown(count: int) -> None:
    """Check that 255, the number of unknown pixels, is not a class.

    Raises:
        InputError: there are more than 255 classes.
    """
    if count > UNKNOWN:
        raise InputError(
            f"the network has {count} classes, and {UNKNOWN}, the number of unknown pixels, is one of them: omit "
            "unknown_below."
        )


def has_nan(scores: np.ndarray) -> bool:
    """Whether scores, float `[classes, H, W]`, contain NaN or infinity."""
    return not np.isfinite(scores.max())


def mark_unknown(mask: np.ndarray, confidence: np.ndarray, below: float) -> np.ndarray:
    """The mask, uint8 `[H, W]`, with `UNKNOWN` where the confidence, float32 `[H, W]`, is below `below`."""
    return np.where(confidence < np.float32(below), np.uint8(UNKNOWN), mask)


def confidence_picture(confidence: np.ndarray) -> np.ndarray:
    """float32 `[H, W]`, 0..1 -> uint8 `[H, W]`, 0..255."""
    return cv2.convertScaleAbs(confidence, alpha=255)  # rounds, without a temporary array


def best_class(logits: np.ndarray) -> MaskWithConfidence:
    """The most likely class of every pixel of logits `[classes, H, W]`. The confidence is NaN where a logit is.

    Raises:
        InputError: there are more classes than a mask has numbers.
    """
    check_classes(logits.shape[0])
    mask, confidence = np.empty(logits.shape[1:], "uint8"), np.empty(logits.shape[1:], "float32")
    with np.errstate(invalid="ignore"):
        for top in range(0, logits.shape[1], _ROWS):
            part = logits[:, top : top + _ROWS]
            mask[top : top + _ROWS] = part.argmax(axis=0)
            confidence[top : top + _ROWS] = 1 / np.exp(part - part.max(axis=0)).sum(axis=0)
    return MaskWithConfidence(mask, confidence)


def restore_mask(mask: np.ndarray, trans_info: Sizes) -> np.ndarray:
    """Undo the resizing and padding of the transforms: uint8 `[h, w]` -> `[H, W]`."""
    for kind, (height, width) in reversed(trans_info):
        if (kind[0] if isinstance(kind, list) else kind) == "resize":
            mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
        else:
            mask = mask[:height, :width]
    return mask


def restore_logits(logits: np.ndarray, trans_info: Sizes) -> np.ndarray:
    """The same for logits, `[classes, h, w]` -> `[classes, H, W]`, bilinear as in PaddleSeg's `reverse_transform`."""
    for kind, (height, width) in reversed(trans_info):
        if (kind[0] if isinstance(kind, list) else kind) == "resize":
            planes = [cv2.resize(plane, (width, height), interpolation=cv2.INTER_LINEAR) for plane in logits]
            logits = np.stack(planes)
        else:
            logits = logits[:, :height, :width]
    return logits


def mask_from_output(
    output: np.ndarray, trans_info: Sizes, enlarge: Callable[[np.ndarray, Sizes], np.ndarray] = restore_logits
) -> np.ndarray:
    """The mask of a picture in the picture's size, uint8 `[H, W]`.

    As in PaddleSeg's `val` and `predict`, logits are resized before the best class is taken. If the export ends in
    argmax, the mask is resized.

    Args:
        output: the runtime's output: logits `[classes, h, w]` or an integer mask `[h, w]`.
        trans_info: the sizes before each transform, from `Preprocess` or PaddleSeg's transforms.
        enlarge: resizes logits to the picture.

    Raises:
        InputError: there are more classes than a mask has numbers.
    """
    if output.ndim == 3:
        check_classes(output.shape[0])
        return enlarge(output, trans_info).argmax(axis=0).astype("uint8")
    if output.size:
        check_classes(int(output.max()) + 1)
    return restore_mask(output.astype("uint8"), trans_info)
