"""Finds the features of a backbone by running it once, because `feat_channels` is not reliable."""

from __future__ import annotations

from typing import Any

import paddle

_SIZE = 128
_STRIDES = [(8, 16, 32), (8, 16, 16), (8, 8, 8)]


def feature_channels(backbone: paddle.nn.Layer, in_channels: int) -> tuple[int, ...]:
    """The channels of the last three features of a backbone: at 1/8, 1/16 and 1/32, or dilated.

    Args:
        backbone: returns a list or tuple of features `[N, C, h, w]`.
        in_channels: channels of the image.

    Raises:
        ValueError: the backbone cannot run on an image with these channels, or its last three features are not at
            1/8, 1/16 and 1/32 of the input, or dilated.
    """
    shapes = _feature_shapes(backbone, in_channels)
    strides = [round(_SIZE / shape[2]) for shape in shapes]
    if tuple(strides[-3:]) not in _STRIDES:
        listed = ", ".join(f"1/{stride}" for stride in strides)
        raise ValueError(
            f"The backbone {type(backbone).__name__} returns features at {listed} of the input. BiSeNetV1 needs the "
            "last three at 1/8, 1/16, 1/32 (or, dilated, 1/8, 1/16, 1/16 or 1/8, 1/8, 1/8): choose such a backbone or "
            "output_stride."
        )
    return tuple(shape[1] for shape in shapes[-3:])


def _feature_shapes(backbone: paddle.nn.Layer, in_channels: int) -> list[list[int]]:
    """The shapes of all features for an image of `_SIZE` x `_SIZE`."""
    try:
        features = _dry_forward(backbone, paddle.zeros([1, in_channels, _SIZE, _SIZE]))
    except Exception as error:
        raise ValueError(
            f"The backbone {type(backbone).__name__} cannot take an image of {in_channels} channels and "
            f"{_SIZE}x{_SIZE} pixels: {error}. `in_channels` must be the same in `model` and `model.backbone`."
        ) from error
    if not isinstance(features, (list, tuple)):
        features = [features]
    return [feature.shape for feature in features]


def _dry_forward(backbone: paddle.nn.Layer, image: paddle.Tensor) -> Any:
    """Run a forward pass without gradients or updates of BatchNorms."""
    training = backbone.training
    backbone.eval()
    try:
        with paddle.no_grad():
            return backbone(image)
    finally:
        if training:
            backbone.train()
