"""The loss of BiSeNetV1: cross-entropy over the hard pixels (online hard example mining, OHEM)."""

from __future__ import annotations

import math
from typing import Any, Sequence

import numpy as np
import paddle
import paddle.nn as nn
import paddle.nn.functional as F

from bisenetv1_plugin import compat
from bisenetv1_plugin.compat import core_train
from bisenetv1_plugin.errors import InputError

__all__ = ["BiSeNetV1Loss"]

# Calls between two checks of the labels and the loss. Reading a value from a GPU waits for all queued work.
_CHECK_EVERY = 50

# A loss of NaN or infinity this often in a row stops the training. A single one is harmless: mixed precision may
# overflow, and GradScaler then skips that step.
_PATIENCE = 20

# Losses within this difference are ties. Equal probabilities may differ in their last bits by the order of the classes.
_TIE = 1e-6

# The `ignore_index` for Paddle's cross-entropy.
_UNLABELLED = -1

# Labels are clipped to 32 bits. Neither end of the range is a valid class or `ignore_index`.
_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1
_BEYOND = {_INT32_MIN: " or less", _INT32_MAX: " or more"}


class BiSeNetV1Loss(nn.Layer):
    """OHEM cross-entropy as in the authors' code (TorchSeg `ProbOhemCrossEntropy2d`).

    A pixel is hard if the probability of its true class is at most `thresh`. If fewer than `min_kept` pixels of the
    batch are hard, the `min_kept` least probable pixels count as hard, and so do ties with the last of them. The loss
    is the mean cross-entropy over the hard pixels. If the batch has fewer valid pixels than `min_kept`, all are kept.

    Args:
        thresh: the largest probability of the true class at which a pixel is hard, in (0, 1].
        min_kept: an integer is a number of pixels (in the batch on one device), a float a fraction. Default: 1/16, as
            in the authors' code.
        weight: a weight for each class. The mean then divides by the summed weights of the kept pixels, or with
            `average_over: all` by the number of pixels.
        ignore_index: label of the ignored pixels.
        resize_label: resize the label to the size of the logits, with nearest neighbor. This is the authors' loss of
            the `.speed` networks, at 1/8 of the image. `min_kept` counts the resized pixels.
        min_kept_of: the pixels of which `min_kept` is a fraction: 'all', as in the authors' code, or 'valid', without
            ignored pixels, as in CoinCheung/BiSeNet.
        average_over: the pixels by which the loss is divided: 'kept', or 'all', including ignored ones, as in
            MMSegmentation's cross-entropy.

    Raises:
        ValueError: an argument is out of range, or at a call the shapes do not match.
        InputError: at a call, a label is neither a class nor `ignore_index`. Checked at the first call and regularly.
        FloatingPointError: at a call, the loss was NaN or infinite many times in a row. Checked regularly.
    """

    def __init__(
        self,
        thresh: float = 0.7,
        min_kept: float = 1 / 16,
        weight: Sequence[float] | None = None,
        ignore_index: int = 255,
        resize_label: bool = False,
        min_kept_of: str = "all",
        average_over: str = "kept",
    ) -> None:
        super().__init__()
        if not _is_number(thresh, 0, 1) or thresh == 0:
            raise ValueError(f"`thresh` is a probability in (0, 1], not {thresh!r}; 1 keeps every pixel.")
        is_count = isinstance(min_kept, int) and min_kept >= 1
        is_fraction = isinstance(min_kept, float) and 0 < min_kept <= 1
        if isinstance(min_kept, bool) or not (is_count or is_fraction):
            raise ValueError(
                f"`min_kept` is a number of pixels (an integer of 1 or more) or a fraction (a float in (0, 1]), "
                f"not {min_kept!r}."
            )
        if min_kept_of not in ("all", "valid"):
            raise ValueError(f"`min_kept_of` is 'all' or 'valid', not {min_kept_of!r}.")
        if average_over not in ("kept", "all"):
            raise ValueError(f"`average_over` is 'kept' or 'all', not {average_over!r}.")
        if not _is_number(ignore_index, _INT32_MIN + 1, _INT32_MAX - 1) or ignore_index != int(ignore_index):
            raise ValueError(f"`ignore_index` is a label, an integer of 32 bits, not {ignore_index!r}.")
        if weight is not None and not _are_weights(weight):
            raise ValueError(f"`weight` needs a non-negative number for each class, not {weight!r}.")
        self.max_easy_loss = -math.log(thresh)
        self.min_kept = min_kept
        self.weight = weight
        self.ignore_index = ignore_index
        self.resize_label = resize_label
        self.min_kept_of = min_kept_of
        self.average_over = average_over
        self._calls = 0
        self._label_range: paddle.Tensor | None = None
        self._calls_not_finite: paddle.Tensor | None = None
        compat.apply(compat.WITH_THE_NETWORK)

    def forward(self, logit: paddle.Tensor, label: paddle.Tensor) -> paddle.Tensor:
        """Compute the loss of a batch.

        Args:
            logit: `[N, C, H, W]`, float16, bfloat16, float32 or float64.
            label: `[N, H, W]` or `[N, 1, H, W]`, integer, 0..C-1 or `ignore_index`. With `resize_label`, of any size.

        Returns:
            The loss, float32 (float64 for float64 logits), 0-D (with PaddleSeg 2.8.0 `[1]`). It is 0 if all pixels are
            ignored.
        """
        label = label.squeeze(1) if label.ndim == logit.ndim else label
        if self.resize_label:
            label = F.interpolate(label.unsqueeze(1).astype("float32"), size=logit.shape[2:], mode="nearest").squeeze(1)
        if label.shape != [logit.shape[0], *logit.shape[2:]]:
            raise ValueError(f"Logits {logit.shape} and labels {label.shape} do not have the same pixels.")
        num_classes = logit.shape[1]
        if self.weight is not None and len(self.weight) != num_classes:
            raise ValueError(f"`weight` has {len(self.weight)} numbers, but the network has {num_classes} classes.")

        target = self._target(label, num_classes)
        with paddle.amp.auto_cast(enable=False):  # PaddleSeg computes losses inside auto_cast
            if logit.dtype not in (paddle.float32, paddle.float64):  # Paddle 2 copies in a cast to the same type
                logit = logit.astype("float32")
            pixel_loss = F.cross_entropy(
                logit, target.unsqueeze(1), ignore_index=_UNLABELLED, reduction="none", axis=1
            ).squeeze(1)
            kept = self._hard_pixels(pixel_loss.detach(), target != _int32(_UNLABELLED)).astype(pixel_loss.dtype)
            if self.weight is not None:
                weight = paddle.to_tensor(self.weight, dtype=kept.dtype)
                kept = kept * paddle.gather(weight, target.clip(min=0).flatten()).reshape(kept.shape)
            total = kept.sum() if self.average_over == "kept" else paddle.full([], kept.size, kept.dtype)
            loss = (pixel_loss * kept).sum() / paddle.where(total > 0, total, paddle.ones_like(total))
            if paddle.in_dynamic_mode():
                self._count_not_finite(loss.detach())
            return loss.reshape([1]) if _train_indexes_loss() else loss

    def calls_not_finite(self) -> int:
        """The number of calls in a row, up to the last one, that returned NaN or infinity. Reads from the device."""
        return 0 if self._calls_not_finite is None else int(self._calls_not_finite)

    def _target(self, label: paddle.Tensor, num_classes: int) -> paddle.Tensor:
        """The classes, int32, with `_UNLABELLED` for ignored pixels.

        To save memory, numbers are 0-D tensors, which Paddle does not expand to the size of the label, and operations
        are in place. The caller's label must not change, and `astype` may return it.
        """
        least, end, one, ignored = (_int32(value) for value in (0, num_classes, 1, self.ignore_index))
        if label.dtype == paddle.int64:
            label = label.clip(_INT32_MIN, _INT32_MAX)
        label = label.astype("int32")
        labeled = label != ignored
        label = labeled.astype("int32").multiply_(label)
        if paddle.in_dynamic_mode():
            self._check(label, num_classes)
        valid = (labeled & (label >= least) & (label < end)).astype("int32")
        return label.multiply_(valid).add_(valid).subtract_(one)

    def _hard_pixels(self, pixel_loss: paddle.Tensor, valid: paddle.Tensor) -> paddle.Tensor:
        """The mask of the pixels to keep, bool `[N, H, W]`. `loss >= -log(t)` means `probability <= t`."""
        if isinstance(self.min_kept, int) and self.min_kept > valid.size:
            return valid
        count = self._least_kept(valid)
        # Ignored pixels have loss 0, so probability 1, as in the authors' code.
        threshold = _kth_largest(pixel_loss, count, self.max_easy_loss) - _TIE
        threshold = paddle.where(_count_true(valid) >= count, threshold, paddle.zeros_like(threshold))
        return valid & (pixel_loss >= threshold)

    def _least_kept(self, valid: paddle.Tensor) -> int | paddle.Tensor:
        """The smallest number of pixels to keep, an integer or a 0-D tensor on the device."""
        if isinstance(self.min_kept, int):
            return self.min_kept
        if self.min_kept_of == "all":
            return max(int(self.min_kept * valid.size), 1)
        return paddle.clip((_count_true(valid).astype("float64") * self.min_kept).astype("int64"), min=1)

    def _count_not_finite(self, loss: paddle.Tensor) -> None:
        """Count calls in a row with a loss that is not finite, on the device."""
        before = paddle.zeros_like(loss) if self._calls_not_finite is None else self._calls_not_finite
        self._calls_not_finite = paddle.where(paddle.isfinite(loss), paddle.zeros_like(before), before + 1)

    def _check(self, label: paddle.Tensor, num_classes: int) -> None:
        """Track the range of the labels on the device, and check it and the loss every `_CHECK_EVERY` calls."""
        seen = paddle.stack([label.min(), label.max()])
        if self._label_range is not None:
            seen = paddle.stack(
                [paddle.minimum(self._label_range, seen)[0], paddle.maximum(self._label_range, seen)[1]]
            )
        self._label_range = seen
        self._calls += 1
        if self._calls % _CHECK_EVERY != 1:
            return
        extremes: Any = seen.tolist()
        low, high = map(int, extremes)
        if low < 0 or high >= num_classes:
            value = low if low < 0 else high
            raise InputError(
                f"A label has the value {value}{_BEYOND.get(value, '')}, but there are {num_classes} classes "
                f"(0..{num_classes - 1}) and `ignore_index` is {self.ignore_index}. "
                "`bisenetv1 data check CONFIG` names the files."
            )
        calls = self.calls_not_finite()
        if calls >= _PATIENCE:
            raise FloatingPointError(
                f"The loss has been NaN or infinite {calls} times in a row. Try a lower learning rate, look for wrong "
                "labels, and under mixed precision try float32."
            )


def _train_indexes_loss() -> bool:
    """Whether PaddleSeg's `train` averages `loss.numpy()[0]`, as in 2.8.0. Later versions use `float(loss)`.

    No shape works for both: from 2.5 on, NumPy cannot convert an array of shape `[1]` to a number.
    """
    return "numpy" in core_train.names()


def _kth_largest(values: paddle.Tensor, count: int | paddle.Tensor, limit: float) -> paddle.Tensor:
    """The smaller of `limit` and the `count`-th largest of `values` (`[N, H, W]`, not negative), 0-D."""
    if paddle.in_dynamic_mode() and str(values.place) == "Place(cpu)":
        return _kth_largest_by_partition(values, count, limit)
    return _kth_largest_by_bisection(values, count, limit)


def _kth_largest_by_partition(values: paddle.Tensor, count: int | paddle.Tensor, limit: float) -> paddle.Tensor:
    """Partition in NumPy, for tensors on the CPU."""
    found = values.numpy().ravel()
    index = found.size - int(count)
    found.partition(index)
    return paddle.to_tensor(np.minimum(found[index], found.dtype.type(limit)))


def _kth_largest_by_bisection(values: paddle.Tensor, count: int | paddle.Tensor, limit: float) -> paddle.Tensor:
    """Halve an interval around the value until no float is inside, without sorting or reading from the device.

    The result is exact from 1e-5 on. Below, its error is smaller than `_TIE`.
    """
    low, high = paddle.zeros([], values.dtype), paddle.full([], limit, values.dtype)
    reached = _count_true(values >= high) >= count
    for _ in range(70 if values.dtype == paddle.float64 else 40):
        middle = (low + high) / 2
        enough = _count_true(values >= middle) >= count
        low, high = paddle.where(enough, middle, low), paddle.where(enough, high, middle)
    return paddle.where(reached, paddle.full([], limit, values.dtype), low)


def _is_number(value: Any, least: float, most: float) -> bool:
    try:
        return bool(least <= value <= most)  # NaN is not
    except (TypeError, ValueError):
        return False


def _are_weights(weight: Any) -> bool:
    """Whether it is a list, tuple or array of numbers from 0 to the largest float32."""
    if isinstance(weight, (str, bytes, dict)) or not hasattr(weight, "__len__"):
        return False
    return len(weight) > 0 and all(_is_number(value, 0, float(np.finfo("float32").max)) for value in weight)


def _int32(value: int) -> paddle.Tensor:
    return paddle.full([], value, "int32")


def _count_true(mask: paddle.Tensor) -> paddle.Tensor:
    """The number of true values in `[N, H, W]`, int64. The sum of an image is float32, exact to 16 million."""
    return mask.astype("float32").sum(axis=[1, 2]).astype("int64").sum()
