"""OpenVINO on the CPU, on the ONNX model of an export."""

from __future__ import annotations

import numpy as np

from bisenetv1_plugin.deploy.exported import Export
from bisenetv1_plugin.deploy.libraries import optional_library
from bisenetv1_plugin.errors import InputError


class OpenVINO:
    """Runs an export's ONNX model on the CPU, in fp32 or bf16.

    Args:
        export (Export): made with `to='onnx'`.
        device (str): 'cpu'.
        cpu_threads (int): threads.
        precision (str): 'fp32', or 'bf16' where the processor has it.

    Raises:
        InputError: the export or this machine has not what it takes.
    """

    def __init__(self, export: Export, device: str = "cpu", cpu_threads: int = 1, precision: str = "fp32") -> None:
        openvino = optional_library("openvino")
        model = export.onnx_model()
        if device == "gpu":
            raise InputError("backend openvino runs on no NVIDIA GPU: choose device cpu.")
        core = openvino.Core()
        if precision not in ("fp32", "bf16"):
            raise InputError(f"precision {precision}: OpenVINO runs in fp32 or bf16 here.")
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise InputError("precision bf16: OpenVINO finds no bf16 in this processor: use fp32.")
        # Said in both cases: where the processor has bf16, OpenVINO takes it unless told otherwise.
        hint = {"fp32": "f32", "bf16": "bf16"}[precision]
        options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": cpu_threads}
        try:
            self._model = core.compile_model(model, "CPU", options)
        except Exception as error:
            raise InputError(f"OpenVINO cannot load {model}: {error}") from error

    def run(self, images: np.ndarray) -> np.ndarray:
        """`[N, C, H, W]` float32 -> what the export's `output_op` gives."""
        return self._model(np.ascontiguousarray(images, dtype="float32"))[0]
