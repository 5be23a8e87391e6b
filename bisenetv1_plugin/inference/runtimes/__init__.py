"""The runtimes of exported models. Each imports its library when it is created."""

from __future__ import annotations

import importlib
from typing import Any, Callable, Iterable, Iterator, Protocol

import numpy as np

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
DEVICES = ("cpu", "gpu")


class Runtime(Protocol):
    """The interface of a runtime. It is created with `(export, device, cpu_threads, precision)` and is thread-safe."""

    def run(self, images: np.ndarray) -> np.ndarray:
        """Run float32 `[N, C, H, W]`. The output follows the export's `output_op`: for argmax, integer `[N, H, W]`."""

    def stream(self, inputs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the output of `run` for each input, in order. Some runtimes work on several at a time."""


def _lazy_class(module: str, name: str) -> Callable[..., Any]:
    def make(*arguments: Any, **options: Any) -> Any:
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)(*arguments, **options)

    return make


RUNTIMES: dict[str, Callable[..., Any]] = {
    "paddle": _lazy_class("paddle", "PaddleInference"),
    "onnxruntime": _lazy_class("onnxruntime", "OnnxRuntime"),
    "openvino": _lazy_class("openvino", "OpenVINO"),
}
