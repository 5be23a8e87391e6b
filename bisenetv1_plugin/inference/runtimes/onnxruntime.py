"""Run the ONNX model of an export with ONNX Runtime."""

from __future__ import annotations

import functools
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Iterable, Iterator

import numpy as np

from bisenetv1_plugin.errors import InputError, brief
from bisenetv1_plugin.inference.exported_model import Export
from bisenetv1_plugin.libraries import optional_library

_MAX_PARALLEL = 4  # pictures, because each needs the memory of a run


class OnnxRuntime:
    """Runs an export's ONNX model, in fp32 or, if it is quantized, in int8.

    Args:
        export: an export with an ONNX model.
        device: 'cpu', or 'gpu' with onnxruntime-gpu.
        cpu_threads: threads on the CPU.
        precision: 'fp32', 'int8' for an export of `quantize --to onnx`, or 'fp16' with TensorRT.
        tensorrt: use TensorRT on the GPU for the operators that it supports.

    Raises:
        InputError: the export or this machine does not support the arguments.
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
        self._at_a_time = min(cpu_threads, _MAX_PARALLEL) if device == "cpu" else 1
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
        """Run float32 `[N, C, H, W]`; see `Runtime.run`."""
        return _run(self._session, images)

    def stream(self, inputs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the output of `run` for each input, in order. Several run at a time."""
        if self._at_a_time == 1:
            yield from map(self.run, inputs)
            return
        if self._for_many is None:
            self._for_many = self._open(self._threads // self._at_a_time)
        begun: deque[Future[np.ndarray]] = deque()
        with ThreadPoolExecutor(self._at_a_time) as pool:
            for images in inputs:
                if len(begun) > self._at_a_time:  # one more than run at a time, so that no thread idles
                    yield begun.popleft().result()
                begun.append(pool.submit(_run, self._for_many, images))
            while begun:
                yield begun.popleft().result()


def _providers(device: str, tensorrt: bool, precision: str) -> list[tuple[str, dict[str, Any]]]:
    """ONNX Runtime's execution providers, the preferred one first, with options. Those for GPUs are untested."""
    if device == "cpu":
        return [("CPUExecutionProvider", {})]
    # The default, TF32, keeps only 10 of 23 bits.
    providers: list[tuple[str, dict[str, Any]]] = [("CUDAExecutionProvider", {"use_tf32": 0})]
    if tensorrt:
        providers.insert(0, ("TensorrtExecutionProvider", {"trt_fp16_enable": precision == "fp16"}))
    return providers


def _session(onnxruntime: Any, model: str, providers: list[tuple[str, dict[str, Any]]], cpu_threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cpu_threads
    # Spinning threads would take the cores from the threads that read and write pictures.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only: unused constants in older exports cause a warning each
    session = onnxruntime.InferenceSession(model, options, providers=providers)
    if session.get_providers()[0] != providers[0][0]:  # it only warns, and falls back to the CPU
        raise InputError(f"device gpu: ONNX Runtime cannot load its {providers[0][0]} here: choose device cpu.")
    return session


def _run(session: Any, images: np.ndarray) -> np.ndarray:
    inputs = {session.get_inputs()[0].name: np.ascontiguousarray(images, dtype="float32")}
    try:
        output = session.run(None, inputs)[0]
    except Exception as error:
        if "Failed to allocate memory" in str(error):  # the error's class only says that a run failed
            raise MemoryError(str(error)) from error
        raise RuntimeError(f"ONNX Runtime cannot run it: {error}") from error
    if output.ndim < 3 or len(output) != len(images) or output.shape[-2:] != images.shape[-2:]:
        raise RuntimeError(f"the ONNX model gives {list(output.shape)} for {list(images.shape)}: export again")
    return output
