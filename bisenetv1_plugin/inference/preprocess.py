"""Turn a picture's pixels into the network's input, by the transforms of a `deploy.yaml`.

NumPy and OpenCV compute the same bits as PaddleSeg's classes, which are not imported. A transform that is not defined
here is taken from PaddleSeg, if that is installed.
"""

from __future__ import annotations

import math
from contextlib import suppress
from typing import Any, Callable, List, NamedTuple, Sequence, Tuple, cast

import cv2
import numpy as np

from bisenetv1_plugin.errors import InputError, brief
from bisenetv1_plugin.libraries import install_command, optional_library

# The sizes (H, W) of a picture before each resize and padding, to undo them in the mask.
Sizes = List[Tuple[str, Tuple[int, ...]]]
# A transform of float32 `[H, W, 3]`; it appends to `Sizes`.
_Transform = Callable[[np.ndarray, Sizes], np.ndarray]

# The errors of OpenCV, NumPy and PaddleSeg's transforms for an unsuitable picture.
_REFUSALS = (cv2.error, AssertionError, IndexError, KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError)


class NetworkInput(NamedTuple):
    """The network's input for a picture, float32 `[C, H, W]`, and the `Sizes` to undo the transforms."""

    image: np.ndarray
    trans_info: Sizes


class Preprocess:
    """Applies the transforms to the pixels of pictures.

    If `Normalize` is the only transform, a lookup table of each channel's 256 values gives the same bits faster: an
    image of 480x360 takes 0.4 instead of 6 ms.

    Args:
        transforms: the `type` and the values of each, as in a configuration or a `deploy.yaml`.

    Raises:
        InputError: a transform is unknown or does not accept its values.
    """

    def __init__(self, transforms: Sequence[dict[str, Any]]) -> None:
        self._transforms = [_transform(values) for values in transforms]
        self._tables: np.ndarray | None = None
        if transforms and all(values["type"] == "Normalize" for values in transforms):
            ramp = np.arange(256, dtype="float32")[:, np.newaxis, np.newaxis].repeat(3, axis=2)
            with suppress(ValueError):  # wrong number of channels: reported for each picture
                self._tables = np.ascontiguousarray(self._apply(ramp).image[..., 0])

    def _apply(self, image: np.ndarray) -> NetworkInput:
        sizes: Sizes = []
        for transform in self._transforms:
            image = transform(image, sizes)
        return NetworkInput(image.transpose(2, 0, 1), sizes)

    def __call__(self, pixels: np.ndarray) -> NetworkInput:
        """The network's input for `pixels`, uint8 BGR `[H, W, 3]`.

        Raises:
            InputError: a transform refuses them.
        """
        if self._tables is None:
            try:
                return self._apply(cv2.cvtColor(pixels.astype("float32"), cv2.COLOR_BGR2RGB))
            except _REFUSALS as error:
                if isinstance(error, cv2.error) and "Insufficient memory" in str(error):
                    raise
                raise InputError(f"the transforms cannot take it: {brief(error)}") from error
        image = np.empty((3, *pixels.shape[:2]), self._tables.dtype)
        for plane, table, channel in zip(image, self._tables, (2, 1, 0)):
            cv2.LUT(cv2.extractChannel(pixels, channel), table, plane)
        return NetworkInput(image, [])

    def lazy_input(self, pixels: np.ndarray) -> NetworkInput:
        """Like a call, but a piece `image[:, rows, columns]` is prepared when it is read, if the transforms allow that.

        Raises:
            InputError: a transform refuses them.
        """
        if self._tables is None:
            return self(pixels)
        return NetworkInput(cast(np.ndarray, _LazyImage(self, pixels)), [])


class _LazyImage:
    """A picture that is prepared piece by piece, because float32 takes four times the memory."""

    def __init__(self, preprocess: Preprocess, pixels: np.ndarray) -> None:
        self._preprocess, self._pixels = preprocess, pixels
        self.shape = (3, *pixels.shape[:2])

    def __getitem__(self, key: tuple[slice, slice, slice]) -> np.ndarray:
        _, rows, columns = key
        return self._preprocess(np.ascontiguousarray(self._pixels[rows, columns])).image


def _transform(values: dict[str, Any]) -> _Transform:
    rest = {key: value for key, value in values.items() if key != "type"}
    kind = values["type"]
    make = _TRANSFORMS.get(kind) or _upstream(kind)
    try:
        return make(**rest)
    except Exception as error:  # PaddleSeg's classes may raise anything
        shown = repr(rest)
        shown = shown if len(shown) <= 80 else f"{shown[:80]} ..."
        raise InputError(f"the transform {kind} does not take {shown} ({brief(error)}).") from error


def _normalize(mean: Sequence[float] = (0.5,), std: Sequence[float] = (0.5,)) -> _Transform:
    means, deviations = _array("mean", mean), _array("std", std)
    if not deviations.all():
        raise ValueError("std has a 0")

    def apply(image: np.ndarray, sizes: Sizes) -> np.ndarray:
        for numbers in (means, deviations):
            if numbers.size not in (1, image.shape[2]):
                raise ValueError(f"it has {image.shape[2]} channels, and Normalize has numbers for {numbers.size}")
        image = image / np.float32(255)
        image -= means  # in float64, as PaddleSeg does, and rounded after each step
        image /= deviations
        return image

    return apply


def _resize(
    target_size: Sequence[int] = (512, 512),
    keep_ratio: bool = False,
    size_divisor: int | None = None,
    interp: str = "LINEAR",
) -> _Transform:
    size = _size(target_size)
    if size_divisor is not None and (type(size_divisor) is not int or size_divisor < 1):
        raise ValueError(f"size_divisor is {size_divisor!r}, not a whole number above 0")
    if interp not in _INTERPOLATIONS:
        raise ValueError(f"interp is not one of {', '.join(_INTERPOLATIONS)}")
    how = _INTERPOLATIONS[interp]

    def apply(image: np.ndarray, sizes: Sizes) -> np.ndarray:
        height, width = image.shape[:2]
        sizes.append(("resize", (height, width)))
        target = size
        if keep_ratio:
            scale = min(max(size) / max(width, height), min(size) / min(width, height))
            target = (round(width * scale), round(height * scale))
        if size_divisor:
            width, height = (math.ceil(side / size_divisor) * size_divisor for side in target)
            target = (width, height)
        return cv2.resize(image, target, interpolation=how)

    return apply


_INTERPOLATIONS = {
    **{"NEAREST": cv2.INTER_NEAREST, "LINEAR": cv2.INTER_LINEAR, "CUBIC": cv2.INTER_CUBIC},
    **{"AREA": cv2.INTER_AREA, "LANCZOS4": cv2.INTER_LANCZOS4},
}


def _resize_by_long(long_size: int) -> _Transform:
    _check_side("long_size", long_size)

    def apply(image: np.ndarray, sizes: Sizes) -> np.ndarray:
        sizes.append(("resize", image.shape[:2]))
        return _scale(image, long_size / max(image.shape[:2]))

    return apply


def _resize_by_short(short_size: int, max_size: float = 1e10) -> _Transform:
    _check_side("short_size", short_size)

    def apply(image: np.ndarray, sizes: Sizes) -> np.ndarray:
        sizes.append(("resize", image.shape[:2]))
        short, long = min(image.shape[:2]), max(image.shape[:2])
        # PaddleSeg would keep the smaller size for all later pictures.
        size = short_size if short_size / short * long <= max_size else int(max_size / long * short)
        return _scale(image, size / short)

    return apply


def _limit_long(max_long: int | None = None, min_long: int | None = None) -> _Transform:
    for name, side in (("max_long", max_long), ("min_long", min_long)):
        if side is not None:
            _check_side(name, side)
    if max_long is not None and min_long is not None and min_long > max_long:
        raise ValueError(f"min_long, {min_long}, is above max_long, {max_long}")

    def apply(image: np.ndarray, sizes: Sizes) -> np.ndarray:
        sizes.append(("resize", image.shape[:2]))
        long = max(image.shape[:2])
        target = long
        if max_long is not None and long > max_long:
            target = max_long
        elif min_long is not None and long < min_long:
            target = min_long
        return image if target == long else _scale(image, target / long)

    return apply


def _padding(target_size: Sequence[int], im_padding_value: float = 127.5, label_padding_value: int = 255) -> _Transform:
    width, height = _size(target_size)
    return lambda image, sizes: _pad(image, sizes, width, height, im_padding_value)


def _padding_by_aspect_ratio(
    aspect_ratio: float = 1, im_padding_value: float = 127.5, label_padding_value: int = 255
) -> _Transform:
    if not 0 < aspect_ratio < math.inf:
        raise ValueError(f"aspect_ratio is {aspect_ratio}, not above 0")

    def apply(image: np.ndarray, sizes: Sizes) -> np.ndarray:
        height, width = image.shape[:2]
        if width / height == aspect_ratio:
            return image
        if width / height > aspect_ratio:
            height = int(width / aspect_ratio)
        else:
            width = int(height * aspect_ratio)
        return _pad(image, sizes, width, height, im_padding_value)

    return apply


def _center_padding(target_size: Sequence[int]) -> _Transform:
    """This package's `CenterPadding`."""
    width, height = _size(target_size)

    def apply(image: np.ndarray, sizes: Sizes) -> np.ndarray:
        vertical, horizontal = max(height - image.shape[0], 0), max(width - image.shape[1], 0)
        top, left = vertical // 2, horizontal // 2
        borders = (top, vertical - top, left, horizontal - left)
        return cv2.copyMakeBorder(image, *borders, cv2.BORDER_CONSTANT, value=0) if any(borders) else image

    return apply


_TRANSFORMS: dict[str, Callable[..., _Transform]] = {
    "Normalize": _normalize,
    "Resize": _resize,
    "ResizeByLong": _resize_by_long,
    "ResizeByShort": _resize_by_short,
    "LimitLong": _limit_long,
    "Padding": _padding,
    "PaddingByAspectRatio": _padding_by_aspect_ratio,
    "CenterPadding": _center_padding,
}


def _upstream(kind: str) -> Callable[..., _Transform]:
    """The factory of a transform that only PaddleSeg or its plugins have.

    Raises:
        InputError: PaddleSeg is not installed or has no such transform.
    """
    try:
        manager = optional_library("paddleseg.cvlibs", "cpu").manager
    except InputError as error:
        raise InputError(
            f"the transform {kind} is PaddleSeg's, which is not installed: {install_command('cpu')}. "
            f"The transforms that run without it are {', '.join(_TRANSFORMS)}."
        ) from error
    known = manager.TRANSFORMS.components_dict
    if kind not in known:
        raise InputError(f"there is no transform {kind}.")

    def make(**values: Any) -> _Transform:
        transform = known[kind](**values)

        def apply(image: np.ndarray, sizes: Sizes) -> np.ndarray:
            return transform({"img": image, "trans_info": sizes})["img"]

        return apply

    return make


def _scale(image: np.ndarray, scale: float) -> np.ndarray:
    height, width = (int(round(side * scale)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


def _pad(image: np.ndarray, sizes: Sizes, width: int, height: int, value: float) -> np.ndarray:
    """Pad at the bottom and at the right."""
    sizes.append(("padding", image.shape[:2]))
    down, right = height - image.shape[0], width - image.shape[1]
    if down < 0 or right < 0:
        raise ValueError(
            f"it is {image.shape[1]}x{image.shape[0]} pixels, larger than the padded size {width}x{height}"
        )
    return cv2.copyMakeBorder(image, 0, down, 0, right, cv2.BORDER_CONSTANT, value=(value,) * 3)


def _array(name: str, values: Sequence[float]) -> np.ndarray:
    array = np.array(values, "float64")
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"{name} is not a list of numbers")
    return array


def _size(target_size: Sequence[int]) -> tuple[int, int]:
    width, height = target_size
    _check_side("target_size", width)
    _check_side("target_size", height)
    return width, height


def _check_side(name: str, value: Any) -> None:
    if type(value) is not int or value < 1:
        raise ValueError(f"{name} has {value!r}, not a whole number above 0")
