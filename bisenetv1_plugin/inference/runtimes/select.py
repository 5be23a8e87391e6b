"""Select a runtime: the fastest installed one with correct masks for the export."""

from __future__ import annotations

import functools
import importlib.metadata
from dataclasses import dataclass
from typing import Any, Callable, Sequence

import numpy as np

from bisenetv1_plugin import gpu
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference import probe
from bisenetv1_plugin.inference.exported_model import Export
from bisenetv1_plugin.inference.runtimes import DEVICES, PRECISIONS, RUNTIMES, Runtime
from bisenetv1_plugin.libraries import optional_library

# The fastest first; for the CPU as measured by `bisenetv1 benchmark`.
ORDER = {"cpu": ("openvino", "onnxruntime", "paddle"), "gpu": ("paddle", "onnxruntime", "openvino")}
# For `precision='auto'`: the least share of pixels that must be equal to fp32's.
AGREEMENT = 0.99
THREADS = 1024  # at most: with many more, a runtime may hang at exit


@dataclass
class Choice:
    """A selected runtime.

    Attributes:
        runtime: the runtime, ready to run.
        name: the runtime and the precision, such as 'openvino fp32'.
        skipped: a sentence for each faster runtime that cannot run here or gives wrong masks.
        make: creates another runtime of this kind for an `Export`.
    """

    runtime: Runtime
    name: str
    skipped: list[str]
    make: Callable[[Export], Runtime]


def select(
    export: Export,
    backend: str = "auto",
    device: str | None = None,
    precision: str | None = None,
    cpu_threads: int = 1,
    images: Callable[[], Sequence[np.ndarray]] | None = None,
    enable_mkldnn: bool | None = None,
    tensorrt: Callable[[Callable[..., Any], str], Runtime] | None = None,
) -> Choice:
    """Return the requested runtime; by default the fastest installed one with correct masks.

    Args:
        export: what to run.
        backend: 'auto' or one of `runtimes.RUNTIMES`.
        device: 'cpu' or 'gpu'; default: see `default_device`.
        precision: 'fp32', 'bf16', 'fp16', 'int8', or 'auto' for bf16 if it keeps the masks of
            `images`; default: fp32, or int8 for a quantized export.
        cpu_threads: threads on the CPU.
        images: returns a few prepared images, float32 `[N, C, H, W]`.
        enable_mkldnn: whether Paddle uses oneDNN on the CPU, which is the default. A value selects Paddle.
        tensorrt: creates the runtime with TensorRT, from its factory and the precision.

    Raises:
        InputError: a value is unknown, or the requested runtime cannot run here.
    """
    _check_choice("backend", backend, ("auto", *RUNTIMES))
    _check_choice("device", device, (None, *DEVICES))
    _check_choice("precision", precision, (None, "auto", *PRECISIONS))
    if type(cpu_threads) is not int or not 1 <= cpu_threads <= THREADS:
        raise InputError(f"cpu_threads is {cpu_threads!r}; it must be a whole number from 1 to {THREADS}.")
    precision = precision or export.precision
    if backend == "auto" and tensorrt:
        backend = "onnxruntime" if _installed("onnxruntime-gpu") and not _has_paddle_gpu() else "paddle"
    elif backend == "auto" and enable_mkldnn is not None:
        backend = "paddle"
    if device is None:
        # Without TensorRT, these precisions run only on the CPU.
        is_free = tensorrt or precision not in ("auto", "bf16", "int8")
        device = default_device(backend) if is_free else "cpu"
    if tensorrt and (backend == "openvino" or device != "gpu"):
        raise InputError("TensorRT (--use_trt) is for backend paddle or onnxruntime on device gpu.")
    if not tensorrt and (precision == "fp16" or (precision == "int8" and device == "gpu")):
        raise InputError(
            f"precision {precision} needs TensorRT: use `bisenetv1 infer --use_trt True`, on a GPU"
            f"{'; or choose device cpu' * (precision == 'int8')}."
        )
    if precision in ("bf16", "auto") and device == "gpu":
        raise InputError(
            f"precision {precision} is for device cpu; on the GPU there are fp32 and, with TensorRT, fp16."
        )
    if precision == "auto":
        if backend != "auto":
            raise InputError("precision auto chooses the runtime as well: omit backend and enable_mkldnn.")
        if images is None:
            raise InputError("precision auto is chosen by the first images of `bisenetv1 infer`: name fp32 or bf16.")
        return choose_precision(export, cpu_threads, images())
    if backend == "auto":
        return choose_runtime(export, device, cpu_threads, precision)
    make = _runtime_factory(backend, device, cpu_threads, precision, enable_mkldnn is not False)
    if tensorrt:
        make = functools.partial(_with_tensorrt, tensorrt, make, precision)
    return Choice(make(export), _name(backend, precision, device), [], make)


def _with_tensorrt(
    tensorrt: Callable[..., Runtime], make: Callable[..., Runtime], precision: str, export: Export
) -> Runtime:
    return tensorrt(functools.partial(make, export), precision)


def _runtime_factory(
    backend: str, device: str, cpu_threads: int, precision: str, enable_mkldnn: bool = True
) -> Callable[..., Runtime]:
    options = {"enable_mkldnn": enable_mkldnn} if backend == "paddle" else {}
    return functools.partial(RUNTIMES[backend], device=device, cpu_threads=cpu_threads, precision=precision, **options)


def _name(backend: str, precision: str, device: str) -> str:
    return f"{backend} {precision}" + " on the GPU" * (device == "gpu")


def _check_choice(name: str, value: str | None, possible: Sequence[str | None]) -> None:
    if value not in possible:
        raise InputError(f"{name} is {value!r}; choose one of {', '.join(filter(None, possible))}.")


def choose_runtime(
    export: Export, device: str, cpu_threads: int, precision: str = "fp32", order: Sequence[str] | None = None
) -> Choice:
    """Return the first runtime that gives correct masks for this export.

    In fp32, its mask of the probe is compared with the network's, which `bisenetv1 export` stored. An export by
    PaddleSeg has no probe, and runs in Paddle only.

    Args:
        export: what to run.
        device: 'cpu' or 'gpu'.
        cpu_threads: threads on the CPU.
        precision: 'fp32', 'bf16' or 'int8'.
        order: names of `runtimes.RUNTIMES`; default: `ORDER`.

    Raises:
        InputError: no runtime can run the export here.
    """
    skipped = []
    for name in order or ORDER[device]:
        make = _runtime_factory(name, device, cpu_threads, precision)
        try:
            runtime = make(export)
            right = precision != "fp32" or probe.is_right(runtime, export.folder) is not False
        except (InputError, RuntimeError) as error:  # RuntimeError: it loaded the model but cannot run it
            skipped.append(f"{name}: {error}")
            continue
        if not right:
            skipped.append(f"{name}: its mask of the export's probe picture is not the network's.")
            continue
        return Choice(runtime, _name(name, precision, device), skipped, make)
    raise InputError(" ".join(["No runtime runs this export here.", *skipped]))


def choose_precision(export: Export, cpu_threads: int, images: Sequence[np.ndarray]) -> Choice:
    """Return the fastest precision on the CPU with nearly the masks of fp32 for these images.

    Args:
        export: what to run; a quantized one has int8 only.
        cpu_threads: threads on the CPU.
        images: a few prepared images, float32 `[N, C, H, W]`.

    Raises:
        InputError: no runtime can run the export here.
    """
    if export.quantized:
        return choose_runtime(export, "cpu", cpu_threads, "int8")
    exact = choose_runtime(export, "cpu", cpu_threads)
    try:
        reduced = choose_runtime(export, "cpu", cpu_threads, "bf16")
    except InputError as error:
        exact.skipped.append(str(error))
        return exact
    equal = [np.mean(_mask(reduced.runtime, image) == _mask(exact.runtime, image)) for image in images]
    if equal and np.mean(equal) >= AGREEMENT:
        reduced.name += f", {np.mean(equal):.2%} of the pixels of {len(equal)} images equal to fp32's"
        return reduced
    reason = f"bf16 keeps {np.mean(equal):.2%} of the pixels, less than {AGREEMENT:.0%}." if equal else "no images."
    exact.skipped.append(reason)
    return exact


def default_device(backend: str = "auto") -> str:
    """Return 'gpu' if Paddle or ONNX Runtime, whichever may be chosen, finds one, else 'cpu'.

    Each is imported only if its package for GPUs is installed, because importing Paddle takes seconds.
    """
    if backend in ("auto", "paddle") and _has_paddle_gpu():
        return "gpu"
    if backend in ("auto", "onnxruntime") and _installed("onnxruntime-gpu"):
        providers = optional_library("onnxruntime").get_available_providers()
        return "gpu" if "CUDAExecutionProvider" in providers else "cpu"
    return "cpu"


def _has_paddle_gpu() -> bool:
    return _installed("paddlepaddle-gpu") and gpu.can_run(optional_library("paddle", "gpu"))


def _installed(distribution: str) -> bool:
    try:
        importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _mask(runtime: Runtime, image: np.ndarray) -> np.ndarray:
    output = runtime.run(image)
    return output.argmax(axis=1) if output.ndim == 4 else output
