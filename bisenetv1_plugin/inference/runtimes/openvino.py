"""Run the ONNX model of an export with OpenVINO, on the CPU or an Intel GPU."""

from __future__ import annotations

import functools
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any, Iterable, Iterator

import numpy as np

from bisenetv1_plugin import machine
from bisenetv1_plugin.errors import InputError, brief
from bisenetv1_plugin.inference.exported_model import Export
from bisenetv1_plugin.libraries import optional_library


class OpenVINO:
    """Runs an export's ONNX model, or OpenVINO's int8 model.

    Args:
        export: an export with an ONNX model, or from `quantize --to openvino` or `--to onnx`.
        device: 'cpu', or 'gpu' for the first GPU that OpenVINO finds (untested).
        cpu_threads: threads on the CPU.
        precision: 'fp32', 'bf16' if the processor supports it, or 'int8' for a quantized export.

    Raises:
        InputError: the export or this machine does not support the arguments.
    """

    def __init__(self, export: Export, device: str = "cpu", cpu_threads: int = 1, precision: str = "fp32") -> None:
        model = export.openvino or export.onnx_model()
        core, has_bf16 = _load_core(optional_library("openvino"))
        if device == "gpu" and "GPU" not in {name.split(".")[0] for name in core.available_devices}:
            raise InputError("device gpu: OpenVINO finds no Intel GPU, and runs on no other: choose device cpu.")
        possible = ("int8",) if export.quantized else ("fp32", "bf16")
        if precision not in possible:
            raise InputError(f"precision {precision}: OpenVINO runs {export.path} in {' or '.join(possible)}.")
        if precision == "bf16" and not has_bf16:
            raise InputError("precision bf16: OpenVINO finds no bf16 in this processor: use fp32.")
        # Always set, because OpenVINO's default is bf16 if the processor supports it. In a quantized model, bf16 is
        # precise enough for the attention, which is not int8.
        hint = "bf16" if precision == "bf16" or (precision == "int8" and has_bf16) else "f32"
        self._lock = threading.Lock()
        self._options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint}
        if device == "cpu":
            self._options["INFERENCE_NUM_THREADS"] = cpu_threads
            if cpu_threads < machine.cores():  # otherwise every process would use the same first cores
                self._options["ENABLE_CPU_PINNING"] = False
        self._compile = functools.partial(core.compile_model, model, device.upper())
        self._for_many: Any = None
        try:
            self._model = self._compile({**self._options, "PERFORMANCE_HINT": "LATENCY"})
        except Exception as error:
            raise InputError(
                f"OpenVINO cannot load {model} ({brief(error)}): copy the export again, or export again."
            ) from error

    def run(self, images: np.ndarray) -> np.ndarray:
        """Run float32 `[N, C, H, W]`; see `Runtime.run`."""
        with self._lock:  # one request cannot be used by two threads; each run uses all cores anyway
            return _check_output(self._model(np.ascontiguousarray(images, dtype="float32"))[0], images)

    def stream(self, inputs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the output of `run` for each input, in order. Several run at a time."""
        if self._for_many is None:
            self._for_many = self._compile({**self._options, "PERFORMANCE_HINT": "THROUGHPUT"})
        # One more than run at a time, so that a stream need not wait until the oldest result is taken.
        count = self._for_many.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS") + 1
        requests = [self._for_many.create_infer_request() for _ in range(count)]
        busy: deque[tuple[Any, np.ndarray]] = deque()
        for images in inputs:
            if not requests:
                yield _result(*busy[0])
                requests.append(busy.popleft()[0])
            request = requests.pop()
            request.start_async([np.ascontiguousarray(images, dtype="float32")])
            busy.append((request, images))
        while busy:
            yield _result(*busy.popleft())


def _load_core(openvino: ModuleType) -> tuple[Any, bool]:
    """Return an `openvino.Core`, and whether this processor has bf16. A thread of their own loads both.

    On processors with AMX, OpenVINO's CPU plugin gives the thread that loads it a stack for signal handlers, and unmaps
    this stack with the Core. If another thread frees the Core, the first thread keeps the unmapped stack and crashes at
    its next signal. Signals are handled by the main thread, so another thread loads the plugin.
    """

    def load() -> tuple[Any, bool]:
        core = openvino.Core()
        return core, "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(load).result()


def _result(request: Any, images: np.ndarray) -> np.ndarray:
    request.wait()
    return _check_output(request.get_output_tensor().data.copy(), images)  # the next run overwrites it


def _check_output(output: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Check the shape: when memory runs out, OpenVINO silently returns the output of the previous run."""
    if len(output) != len(images) or output.shape[-2:] != images.shape[-2:]:
        raise MemoryError(f"OpenVINO gave {output.shape} for {images.shape}")
    return output
