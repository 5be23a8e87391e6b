"""Estimate whether a picture fits into memory before it is run: the system kills a process that uses too much."""

from __future__ import annotations

from bisenetv1_plugin import machine
from bisenetv1_plugin.inference.exported_model import Export

# Bytes per pixel on the CPU in fp32: at the peak of the features, and at that of the logits without 4 bytes per class.
# The lowest values measured of ResNet-18 and Xception39 with 2 to 150 classes. ResNet-101 takes twice as much.
_BYTES = {"openvino": (160, 135), "onnxruntime": (120, 50), "paddle": (175, 135)}

_LITTLE = 100_000_000  # bytes: smaller needs are not checked, because a check takes a millisecond

CURE = (
    "make it smaller, or slide a window over it: `--is_slide` of `bisenetv1 infer` and `bisenetv1 app`, "
    "`Segmenter(crop_size=, stride=)`"
)


def needed_bytes(export: Export, runtime: str, width: int, height: int) -> int | None:
    """The least memory for a picture of this size, in bytes; None if unknown.

    Args:
        export: the export.
        runtime: the name of a `select.Choice`, such as 'openvino fp32'.
        width, height: of the picture, in pixels.
    """
    backend, _, precision = runtime.partition(" ")
    changes_size = any(values["type"] != "Normalize" for values in export.transform_list)
    if backend not in _BYTES or precision != "fp32" or changes_size or any(export.input_shape[2:]):
        return None
    features, others = _BYTES[backend]
    return width * height * max(features, others + 4 * len(export.classes))


def shortage(export: Export, runtime: str, width: int, height: int) -> str | None:
    """Why the available memory is too small for a picture: a sentence without its cure; None if it suffices."""
    least = needed_bytes(export, runtime, width, height)
    if least is None or least < _LITTLE:
        return None
    at_hand = machine.available_memory()
    if at_hand is None or least <= at_hand:
        return None
    return (
        f"it has {width} x {height} pixels, for which {runtime} needs {least / 1e9:.1f} GB of memory or more, and "
        f"{at_hand / 1e9:.1f} GB are available"
    )
