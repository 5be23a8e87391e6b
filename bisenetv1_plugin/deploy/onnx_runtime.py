"""ONNX Runtime, on the ONNX model of an export."""

from __future__ import annotations

from typing import Iterable, Iterator

import numpy as np

from bisenetv1_plugin.deploy.exported import Export
from bisenetv1_plugin.deploy.libraries import optional_library
from bisenetv1_plugin.errors import InputError


class OnnxRuntime:
    """Runs an export's ONNX model, in fp32 or, if it is quantised, int8.

    Args:
        export (Export): made with `to='onnx'`.
        device (str): 'cpu', or 'gpu' with onnxruntime-gpu.
        cpu_threads (int): threads on the CPU.
        precision (str): 'fp32', or 'int8' for an export of `quantize --to onnx`.

    Raises:
        InputError: the export or this machine has not what it takes.
    """

    def __init__(self, export: Export, device: str = "cpu", cpu_threads: int = 1, precision: str = "fp32") -> None:
        onnxruntime = optional_library("onnxruntime")
        model = export.onnx_model()
        if precision != ("int8" if export.quantised else "fp32"):
            raise InputError(
                f"precision {precision}: ONNX Runtime computes this model in {'int8' if export.quantised else 'fp32'} "
                "only. OpenVINO and Paddle have bf16 on the CPU; `bisenetv1 quantize --to onnx` makes a model in int8."
            )
        provider = "CUDAExecutionProvider" if device == "gpu" else "CPUExecutionProvider"
        if provider not in onnxruntime.get_available_providers():
            raise InputError("device gpu needs onnxruntime-gpu; this ONNX Runtime has no CUDA: choose device cpu.")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = cpu_threads
        options.log_severity_level = 3  # errors; the converter leaves constants nobody uses, a warning each
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=[provider])
        except Exception as error:
            raise InputError(f"ONNX Runtime cannot load {model}: {error}") from error
        self._input = self._session.get_inputs()[0].name

    def run(self, images: np.ndarray) -> np.ndarray:
        """`[N, C, H, W]` float32 -> what the export's `output_op` gives."""
        return self._session.run(None, {self._input: np.ascontiguousarray(images, dtype="float32")})[0]

    def stream(self, inputs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """What `run` gives for each, in order."""
        return map(self.run, inputs)
