"""Paddle Inference, which needs nothing but Paddle."""

from __future__ import annotations

import os
import threading
from typing import Any, Callable, Iterable, Iterator

import numpy as np
import paddle

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.exported import Export


class PaddleInference:
    """Runs an export with Paddle Inference.

    Args:
        export (Export): the exported model.
        device (str): 'cpu' or 'gpu'.
        cpu_threads (int): threads on the CPU.
        precision (str): 'fp32', or on the CPU (with oneDNN) 'bf16' or, for a quantised export, 'int8', or with TensorRT
            'fp16' or 'int8'.
        enable_mkldnn (bool): use oneDNN on the CPU.
        tensorrt (callable, optional): configures TensorRT, see `tensorrt.configure`.

    Raises:
        InputError: a file of the exported model cannot be used, or this machine has not what was asked.
    """

    def __init__(
        self,
        export: Export,
        device: str = "cpu",
        cpu_threads: int = 1,
        precision: str = "fp32",
        enable_mkldnn: bool = False,
        tensorrt: Callable[[Any], None] | None = None,
    ) -> None:
        from paddle import inference

        if not (export.program and export.params):
            raise InputError(f"{export.path} is for another runtime; Paddle's int8 is made by `bisenetv1 quantize`.")
        config = inference.Config(export.program, export.params)
        config.disable_glog_info()
        config.enable_memory_optim()
        if export.program.endswith(".json"):  # a program of Paddle 3
            config.enable_new_ir(True)
            config.enable_new_executor(True)
        if device == "gpu":
            _check_gpu()
            config.enable_use_gpu(100, 0)
            if tensorrt:
                tensorrt(config)
        else:
            config.disable_gpu()
            config.set_cpu_math_library_num_threads(cpu_threads)
            # Made for GPUs: on the CPU it transposes the backbone's max pooling, which then takes six times as long.
            config.delete_pass("transfer_layout_pass")
            if enable_mkldnn or precision != "fp32":
                _use_onednn(config, export.program)
            else:
                config.disable_mkldnn()
            _set_cpu_precision(config, precision, export)
        try:
            self._predictor = inference.create_predictor(config)
        except Exception as error:
            raise InputError(f"Paddle Inference cannot load {export.program}: {error}") from error
        self._lock = threading.Lock()
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        self._output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])

    def run(self, images: np.ndarray) -> np.ndarray:
        """`[N, C, H, W]` float32 -> what the export's `output_op` gives: int32 `[N, H, W]` for argmax."""
        images = np.ascontiguousarray(images, dtype="float32")
        with self._lock:  # a predictor has one input and one output
            self._input.reshape(images.shape)
            self._input.copy_from_cpu(images)
            self._predictor.run()
            # It leaves all of Paddle's mathematics on one thread: the next forward pass in dygraph takes twice as long.
            paddle.base.core.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1").split(",")[0]))
            return self._output.copy_to_cpu()

    def stream(self, inputs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """What `run` gives for each, in order."""
        return map(self.run, inputs)


def _use_onednn(config: Any, program: str) -> None:
    config.set_mkldnn_cache_capacity(10)  # of as many image sizes it remembers the compiled primitives
    config.enable_mkldnn()
    if program.endswith(".json"):
        # This pass puts every operator on oneDNN that has a name there. Its bilinear interpolation ignores
        # align_corners (Paddle 3.0 to 3.2: wrong masks) or raises (3.3). Convolutions get there by later passes.
        config.delete_pass("onednn_placement_pass")


def _set_cpu_precision(config: Any, precision: str, export: Export) -> None:
    if precision == "bf16":
        if not paddle.base.core.supports_bfloat16():
            raise InputError("precision bf16 needs a processor with AVX-512 (avx512f); this one has not: use fp32.")
        config.enable_mkldnn_bfloat16()
    elif precision == "int8":
        if not export.quantised:
            raise InputError(
                f"precision int8: {export.path} is no quantised export; make one with `bisenetv1 quantize`."
            )
        config.enable_mkldnn_int8()
        for library in ("mkldnn", "onednn"):  # as Paddle 2.6 and Paddle 3 call it
            # A residual block's sum, done by the convolution itself, is wrong in int8.
            config.delete_pass(f"conv_elementwise_add_{library}_fuse_pass")


def _check_gpu() -> None:
    if not paddle.is_compiled_with_cuda():
        raise InputError("device gpu needs paddlepaddle-gpu; this Paddle is built for the CPU: choose device cpu.")
    if not paddle.device.cuda.device_count():
        raise InputError("device gpu: Paddle finds no GPU on this machine: choose device cpu.")
