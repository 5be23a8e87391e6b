"""ONNX Runtime, on the ONNX model of an export."""

from __future__ import annotations

import functools
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Iterable, Iterator

import numpy as np

from bisenetv1_plugin.errors import InputError, brief
from bisenetv1_plugin.inference.exported_model import Export
from bisenetv1_plugin.libraries import optional_library

_MOST_AT_A_TIME = 4  # pictures; each takes the memory of a run


class OnnxRuntime:
    """Runs an export's ONNX model, in fp32 or, if it is quantized, int8.

    Args:
        export: made with `to='onnx'`.
        device: 'cpu', or 'gpu' with onnxruntime-gpu.
        cpu_threads: threads on the CPU.
        precision: 'fp32', or 'int8' for an export of `quantize --to onnx`, or with TensorRT 'fp16'.
        tensorrt: on the GPU, let its TensorRT compute what it can.

    Raises:
        InputError: the export or this machine has not what it takes.
    """

    def __init__(
        self,
        export: Export,
        device: str = "cpu",
        cpu_threads: int = 1,
        precision: str = "fp32",
        tensorrt: bool = False,
    ) -> None:
        onnxruntime = optional_library("onnxruntime")
        model = export.onnx_model()
        if precision != ("int8" if export.quantized else "fp32") and not (tensorrt and precision == "fp16"):
            raise InputError(
                f"precision {precision}: ONNX Runtime computes this model in {'int8' if export.quantized else 'fp32'} "
                "only. OpenVINO and Paddle have bf16 on the CPU; `bisenetv1 quantize --to onnx` makes a model in int8."
            )
        providers = _providers(device, tensorrt, precision)
        missing = [name for name, _ in providers if name not in onnxruntime.get_available_providers()]
        if missing:
            raise InputError(
                f"device gpu needs onnxruntime-gpu; this ONNX Runtime has no {missing[0]}: choose device cpu."
            )
        self._at_a_time = min(cpu_threads, _MOST_AT_A_TIME) if device == "cpu" else 1
        self._open = functools.partial(_session, onnxruntime, model, providers)
        self._for_many: Any = None
        self._threads = cpu_threads
        try:
            self._session = self._open(cpu_threads)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"ONNX Runtime cannot load {model} ({brief(error)}): copy the export again, or export again."
            ) from error

    def run(self, images: np.ndarray) -> np.ndarray:
        """`[N, C, H, W]` float32 -> what the export's `output_op` gives."""
        return _run(self._session, images)

    def stream(self, inputs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """What `run` gives for each, in order; several at a time, on threads of their own."""
        if self._at_a_time == 1:
            yield from map(self.run, inputs)
            return
        if self._for_many is None:
            self._for_many = self._open(self._threads // self._at_a_time)
        begun: deque[Future[np.ndarray]] = deque()
        with ThreadPoolExecutor(self._at_a_time) as pool:
            for images in inputs:
                if len(begun) > self._at_a_time:  # one more than run: no thread waits for another's picture
                    yield begun.popleft().result()
                begun.append(pool.submit(_run, self._for_many, images))
            while begun:
                yield begun.popleft().result()


def _providers(device: str, tensorrt: bool, precision: str) -> list[tuple[str, dict[str, Any]]]:
    """ONNX Runtime's names of what computes, the first where it can, and their options. Those of GPUs were not run."""
    if device == "cpu":
        return [("CPUExecutionProvider", {})]
    # TF32, its default, keeps 10 bits of 23: that would not be fp32.
    providers: list[tuple[str, dict[str, Any]]] = [("CUDAExecutionProvider", {"use_tf32": 0})]
    if tensorrt:
        providers.insert(0, ("TensorrtExecutionProvider", {"trt_fp16_enable": precision == "fp16"}))
    return providers


def _session(onnxruntime: Any, model: str, providers: list[tuple[str, dict[str, Any]]], cpu_threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cpu_threads
    # Threads that spin while they wait for work take the cores from those that read and write the pictures.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors; exports of earlier versions hold constants nobody uses, a warning each
    session = onnxruntime.InferenceSession(model, options, providers=providers)
    if session.get_providers()[0] != providers[0][0]:  # it warns, and takes the CPU
        raise InputError(f"device gpu: ONNX Runtime cannot load its {providers[0][0]} here: choose device cpu.")
    return session


def _run(session: Any, images: np.ndarray) -> np.ndarray:
    inputs = {session.get_inputs()[0].name: np.ascontiguousarray(images, dtype="float32")}
    try:
        output = session.run(None, inputs)[0]
    except Exception as error:
        if "Failed to allocate memory" in str(error):  # a class of its own, which says no more than that a run failed
            raise MemoryError(str(error)) from error
        raise RuntimeError(f"ONNX Runtime cannot run it: {error}") from error
    if output.ndim < 3 or len(output) != len(images) or output.shape[-2:] != images.shape[-2:]:
        raise RuntimeError(f"the ONNX model gives {list(output.shape)} for {list(images.shape)}: export again")
    return output
