"""The runtimes of an exported model, behind one small interface."""

from __future__ import annotations

from typing import Any, Callable, Iterable, Iterator, Protocol

import numpy as np

from bisenetv1_plugin.inference.runtimes.onnxruntime import OnnxRuntime
from bisenetv1_plugin.inference.runtimes.openvino import OpenVINO
from bisenetv1_plugin.inference.runtimes.paddle import PaddleInference

PRECISIONS = ("fp32", "bf16", "fp16", "int8")


class Runtime(Protocol):
    """What every runtime does, for several threads too. It is made with `(export, device, cpu_threads, precision)`."""

    def run(self, images: np.ndarray) -> np.ndarray:
        """`[N, C, H, W]` float32 -> what the export's `output_op` gives: integer `[N, H, W]` for argmax."""

    def stream(self, inputs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """What `run` gives for each, in order; a runtime that can works on several at a time."""


RUNTIMES: dict[str, Callable[..., Any]] = {
    "paddle": PaddleInference,
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVINO,
}
