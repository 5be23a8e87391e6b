"""The runtimes of an exported model, behind one small interface. Each imports its library when it is made."""

from __future__ import annotations

import importlib
from typing import Any, Callable, Iterable, Iterator, Protocol

import numpy as np

PRECISIONS = ("fp32", "bf16", "fp16", "int8")
DEVICES = ("cpu", "gpu")


class Runtime(Protocol):
    """What every runtime does, for several threads too. It is made with `(export, device, cpu_threads, precision)`."""

    def run(self, images: np.ndarray) -> np.ndarray:
        """`[N, C, H, W]` float32 -> what the export's `output_op` gives: integer `[N, H, W]` for argmax."""

    def stream(self, inputs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """What `run` gives for each, in order; a runtime that can works on several at a time."""


def _maker(module: str, name: str) -> Callable[..., Any]:
    def make(*arguments: Any, **options: Any) -> Any:
        return getattr(importlib.import_module(f"{__name__}.{module}"), name)(*arguments, **options)

    return make


RUNTIMES: dict[str, Callable[..., Any]] = {
    "paddle": _maker("paddle", "PaddleInference"),
    "onnxruntime": _maker("onnxruntime", "OnnxRuntime"),
    "openvino": _maker("openvino", "OpenVINO"),
}
