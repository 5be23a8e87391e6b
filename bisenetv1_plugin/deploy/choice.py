"""Which runtime: the quickest at hand whose answer is right for this export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence

import numpy as np
import paddle

from bisenetv1_plugin.deploy import probe
from bisenetv1_plugin.deploy.exported import Export
from bisenetv1_plugin.deploy.runtimes import RUNTIMES, Runtime
from bisenetv1_plugin.errors import InputError

# The quickest first, as `bisenetv1 benchmark` has it on the CPU.
_ORDER = ("openvino", "onnxruntime", "paddle")
# Of `precision='auto'`: the least share of pixels equal to fp32's.
AGREEMENT = 0.99


@dataclass
class Choice:
    """A runtime, and why.

    Attributes:
        runtime: ready to run.
        name: the runtime's and the precision's, such as 'openvino fp32'.
        passed_over: a sentence for each quicker one that cannot run here or runs wrongly.
    """

    runtime: Runtime
    name: str
    passed_over: list[str]


def choose(
    export: Export, device: str, cpu_threads: int, precision: str = "fp32", order: Sequence[str] = _ORDER
) -> Choice:
    """The first runtime of the order that runs this export rightly.

    In fp32 its answer is compared with the network's own, which `export` has kept; an export without it, one of
    PaddleSeg's, has Paddle's files only.

    Args:
        export (Export): what to run.
        device (str): 'cpu' or 'gpu'; on the GPU it is Paddle.
        cpu_threads (int): threads on the CPU.
        precision (str): 'fp32', 'bf16' or 'int8'.
        order (sequence[str]): names of `runtimes.RUNTIMES`.

    Raises:
        InputError: none can run it here.
    """
    passed_over = []
    for name in order if device == "cpu" else ["paddle"]:
        options: dict[str, Any] = {"enable_mkldnn": True} if name == "paddle" and device == "cpu" else {}
        try:
            runtime = RUNTIMES[name](export, device, cpu_threads, precision, **options)
        except InputError as error:
            passed_over.append(f"{name}: {error}")
            continue
        if precision == "fp32" and probe.is_right(runtime, export.folder) is False:
            passed_over.append(f"{name}: its answer to the export's probe is not the network's.")
            continue
        return Choice(runtime, f"{name} {precision}", passed_over)
    raise InputError(" ".join(["No runtime runs this export here.", *passed_over]))


def quickest(export: Export, cpu_threads: int, images: Sequence[np.ndarray]) -> Choice:
    """The quickest precision on the CPU whose masks are nearly those of fp32 on these images.

    Args:
        export (Export): what to run; a quantised one has int8 only.
        cpu_threads (int): threads.
        images (sequence[numpy.ndarray]): a few, `[N, C, H, W]` float32, transformed.

    Raises:
        InputError: nothing can run it here.
    """
    if export.quantised:
        return choose(export, "cpu", cpu_threads, "int8")
    exact = choose(export, "cpu", cpu_threads)
    try:
        reduced = choose(export, "cpu", cpu_threads, "bf16")
    except InputError as error:
        return Choice(exact.runtime, exact.name, [*exact.passed_over, str(error)])
    equal = [np.mean(_mask(reduced.runtime, image) == _mask(exact.runtime, image)) for image in images]
    if equal and np.mean(equal) >= AGREEMENT:
        name = f"{reduced.name}, {np.mean(equal):.2%} of the pixels of {len(equal)} images equal to fp32's"
        return Choice(reduced.runtime, name, reduced.passed_over)
    reason = f"bf16 keeps {np.mean(equal):.2%} of the pixels, less than {AGREEMENT:.0%}." if equal else "no images."
    return Choice(exact.runtime, exact.name, [*exact.passed_over, reason])


def default_device() -> str:
    """'gpu' where Paddle has one."""
    return "gpu" if paddle.device.cuda.device_count() else "cpu"


def _mask(runtime: Runtime, image: np.ndarray) -> np.ndarray:
    output = runtime.run(image)
    return output.argmax(axis=1) if output.ndim == 4 else output
