"""TensorRT in Paddle Inference, configured as PaddleSeg's deploy/python/infer.py configures it."""

from __future__ import annotations

import functools
import os
from typing import Any, Callable, Iterable

import numpy as np

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.runtimes.paddle import PaddleInference

TUNING_IMAGES = 10


def configure(precision: str, min_subgraph_size: int = 3, shapes_file: str | None = None) -> Callable[[Any], None]:
    """A function that switches TensorRT on in a `paddle.inference.Config`.

    Args:
        precision (str): 'fp32', 'fp16' or 'int8' (of a quantised model).
        min_subgraph_size (int): smaller parts of the network stay with Paddle.
        shapes_file (str, optional): what `collect_shapes` wrote. Default: 100x100 to 3000x2000 pixels.

    Raises:
        InputError: this Paddle has no TensorRT.
    """
    from paddle import inference

    if not any(inference.get_trt_compile_version()):
        raise InputError("This Paddle is built without TensorRT: leave use_trt away.")
    return functools.partial(_switch_on, precision, min_subgraph_size, shapes_file)


def _switch_on(precision: str, min_subgraph_size: int, shapes_file: str | None, config: Any) -> None:
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
    """Run a few images and let Paddle write the shapes inside the network, for `configure`.

    Args:
        make_runtime (callable): makes a `PaddleInference` with the given `tensorrt`.
        images (iterable): arrays `[1, C, H, W]`.
        shapes_file (str): where to write.
    """
    runtime = make_runtime(tensorrt=lambda config: config.collect_shape_range_info(shapes_file))
    for _, image in zip(range(TUNING_IMAGES), images):
        runtime.run(image)
