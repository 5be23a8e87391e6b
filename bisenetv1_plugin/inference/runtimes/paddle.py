"""Run an export with Paddle Inference.

Only this file of `inference` imports Paddle. It imports PaddleSeg too, to apply the corrections of Paddle Inference.
"""

from __future__ import annotations

import functools
import os
import threading
from typing import Any, Callable, Iterable, Iterator

import numpy as np

from bisenetv1_plugin import gpu
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.exported_model import Export
from bisenetv1_plugin.libraries import optional_library

paddle = optional_library("paddle", "cpu")
optional_library("paddleseg", "cpu")

TUNING_IMAGES = 10


class PaddleInference:
    """Runs an export with Paddle Inference.

    Args:
        export: the exported model.
        device: 'cpu' or 'gpu'.
        cpu_threads: threads on the CPU.
        precision: 'fp32'; on the CPU (with oneDNN) also 'bf16' or, for a quantized export, 'int8'; with TensorRT also
            'fp16' or 'int8'.
        enable_mkldnn: use oneDNN on the CPU.
        tensorrt: a function that configures TensorRT, see `use_tensorrt`.

    Raises:
        InputError: a file of the export cannot be used, or this machine does not support the arguments.
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
            raise InputError(f"{export.path} is for another runtime: use `bisenetv1 quantize --to paddle`.")
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
            # Made for GPUs: on the CPU it transposes the backbone's max pooling and makes it six times slower.
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
        """Run float32 `[N, C, H, W]`; see `Runtime.run`."""
        images = np.ascontiguousarray(images, dtype="float32")
        with self._lock:  # a predictor has one input and one output
            self._input.reshape(images.shape)
            self._input.copy_from_cpu(images)
            self._predictor.run()
            # A run sets Paddle to one thread, which would make the next forward pass in dygraph twice as slow.
            paddle.base.core.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1").split(",")[0]))
            return self._output.copy_to_cpu()

    def stream(self, inputs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the output of `run` for each input, in order."""
        return map(self.run, inputs)


def _use_onednn(config: Any, program: str) -> None:
    config.set_mkldnn_cache_capacity(10)  # the number of image sizes with cached primitives
    config.enable_mkldnn()
    if program.endswith(".json"):
        # This pass moves every operator that oneDNN has. Its bilinear interpolation ignores align_corners
        # (Paddle 3.0 to 3.2: wrong masks) or raises (3.3). Later passes move the convolutions anyway.
        config.delete_pass("onednn_placement_pass")


def _set_cpu_precision(config: Any, precision: str, export: Export) -> None:
    if precision == "bf16":
        if not paddle.base.core.supports_bfloat16():
            raise InputError("precision bf16 needs a processor with AVX-512 (avx512f), which this one lacks: use fp32.")
        config.enable_mkldnn_bfloat16()
    elif precision == "int8":
        if not export.quantized:
            raise InputError(
                f"precision int8: {export.path} is not a quantized export: make one with `bisenetv1 quantize`."
            )
        config.enable_mkldnn_int8()
        for library in ("mkldnn", "onednn"):  # its names in Paddle 2.6 and Paddle 3
            # The fused sum of a residual block is wrong in int8.
            config.delete_pass(f"conv_elementwise_add_{library}_fuse_pass")


def _check_gpu() -> None:
    if not paddle.is_compiled_with_cuda():
        raise InputError("device gpu needs paddlepaddle-gpu; this Paddle is built for the CPU: choose device cpu.")
    sentence = gpu.obstacle(paddle)
    if sentence:
        raise InputError(f"device gpu: {sentence} Choose device cpu.")


def use_tensorrt(precision: str, min_subgraph_size: int = 3, shapes_file: str | None = None) -> Callable[[Any], None]:
    """Return a function that enables TensorRT in a `paddle.inference.Config`.

    Args:
        precision: 'fp32', 'fp16' or 'int8' (for a quantized model).
        min_subgraph_size: Paddle runs smaller parts of the network itself.
        shapes_file: a file of `collect_shapes`. Default: 100x100 to 3000x2000 pixels.

    Raises:
        InputError: this Paddle has no TensorRT.
    """
    from paddle import inference

    if not any(inference.get_trt_compile_version()):
        raise InputError("This Paddle is built without TensorRT: omit use_trt.")
    return functools.partial(_enable_tensorrt, precision, min_subgraph_size, shapes_file)


def _enable_tensorrt(precision: str, min_subgraph_size: int, shapes_file: str | None, config: Any) -> None:
    from paddle.inference import PrecisionType

    modes = {"fp32": PrecisionType.Float32, "fp16": PrecisionType.Half, "int8": PrecisionType.Int8}
    config.enable_tensorrt_engine(
        workspace_size=1 << 30,
        max_batch_size=1,
        min_subgraph_size=min_subgraph_size,
        precision_mode=modes[precision],
        use_static=False,
        use_calib_mode=False,
    )
    if shapes_file and os.path.exists(shapes_file):
        config.enable_tuned_tensorrt_dynamic_shape(shapes_file, True)
    else:
        sizes = ([1, 3, 100, 100], [1, 3, 2000, 3000], [1, 3, 512, 1024])
        config.set_trt_dynamic_shape_info(*({"x": size} for size in sizes))


def collect_shapes(
    make_runtime: Callable[..., PaddleInference], images: Iterable[np.ndarray], shapes_file: str
) -> None:
    """Run a few images and let Paddle write the shapes inside the network, for `use_tensorrt`.

    Args:
        make_runtime: creates a `PaddleInference` with the argument `tensorrt`.
        images: arrays `[1, C, H, W]`.
        shapes_file: the file to write.
    """
    runtime = make_runtime(tensorrt=lambda config: config.collect_shape_range_info(shapes_file))
    for _, image in zip(range(TUNING_IMAGES), images):
        runtime.run(image)
