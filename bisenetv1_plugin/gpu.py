"""Find out whether a Paddle that is built for NVIDIA's GPUs can run on one here, and what it lacks."""

from __future__ import annotations

import ctypes
import os
import sys
from types import ModuleType
from typing import NamedTuple

# Where Paddle 2 also looks for a library: the environment variable of a folder, and a fixed folder.
_PLACES = {
    "libcuda.so.1": ("", ""),
    "libcublas.so": ("FLAGS_cuda_dir", ""),
    "libcudnn.so": ("FLAGS_cudnn_dir", "/usr/local/cuda/lib64"),
}
# The compute capabilities with kernels in PyPI's newest wheel, by the versions of Paddle and CUDA. They were read from
# its binaries, which have no PTX that a newer GPU could translate. Paddle 3 reports them itself.
_KERNELS: dict[tuple[str, str], tuple[int, ...]] = {("2.6.2", "11.8"): (61, 70, 75, 80, 86)}


class PaddleGpu(NamedTuple):
    """A Paddle for GPUs and its environment.

    Attributes:
        paddle: its version.
        cuda, cudnn: the versions that it was built with.
        missing: the file names of the libraries that it does not find.
        gpu: the name of the GPU that it uses, or None.
        capability: the compute capability of that GPU, such as 86 for 8.6.
        kernels: the compute capabilities that it has kernels for; empty if unknown.
    """

    paddle: str
    cuda: str
    cudnn: str
    missing: tuple[str, ...] = ()
    gpu: str | None = None
    capability: int = 0
    kernels: tuple[int, ...] = ()


def probe(paddle: ModuleType) -> PaddleGpu | None:
    """Examine Paddle; None if it is not built for NVIDIA's GPUs."""
    if not paddle.is_compiled_with_cuda() or paddle.is_compiled_with_rocm():
        return None
    version = paddle.version
    # Paddle 2 opens the file names of NVIDIA's development packages. The wheels of Paddle 3 bring CUDA and cuDNN.
    needed = _PLACES if version.major == "2" else ["libcuda.so.1"]
    missing = tuple(name for name in needed if sys.platform == "linux" and not can_open(name))
    found = PaddleGpu(paddle.__version__, version.cuda(), version.cudnn(), missing)
    if not paddle.device.cuda.device_count():
        return found
    gpu = paddle.device.cuda.get_device_properties(0)
    own = version.cuda_archs() if hasattr(version, "cuda_archs") else []  # such as 90 and 90a
    kernels = [int(str(kernel).rstrip("af")) for kernel in own] or _KERNELS.get((found.paddle, found.cuda), ())
    return found._replace(gpu=gpu.name, capability=10 * gpu.major + gpu.minor, kernels=tuple(kernels))


def can_open(name: str) -> bool:
    """Whether the library of this name is where Paddle 2 looks for it.

    It does not call `paddle.get_cudnn_version()`, which ends the process if it finds cuDNN 8.6 but no libnvrtc.so.
    """
    variable, folder = _PLACES[name]
    for place in ("", os.environ.get(variable, ""), folder):
        try:
            ctypes.CDLL(os.path.join(place, name))
        except OSError:
            continue
        return True
    return False


def obstacle(paddle: ModuleType) -> str | None:
    """A sentence that says why this Paddle for GPUs cannot run on one here; None if it can, or is built for the CPU."""
    found = probe(paddle)
    if found is None:
        return None
    name = f"Paddle {found.paddle} for GPUs"
    if found.missing:
        return f"{name} does not find {_packages(found)}."
    if not found.gpu:
        return (
            f"{name} finds no GPU: there is none, CUDA_VISIBLE_DEVICES hides it, or the driver is older than CUDA "
            f"{found.cuda} needs."
        )
    # Kernels for 8.0 also run on 8.6 and 8.9, but not on 9.0.
    own = found.capability
    if not found.kernels or any(own // 10 == kernel // 10 and own >= kernel for kernel in found.kernels):
        return None
    newer = ", which is newer: see Paddle's installation page for the wheels of Paddle 3" * (own > max(found.kernels))
    kernels = ", ".join(f"sm_{kernel}" for kernel in found.kernels)
    return f"{name} has kernels for {kernels}, and none for this {found.gpu} (sm_{own}){newer}."


def can_run(paddle: ModuleType) -> bool:
    """Whether this Paddle can run on a GPU here."""
    return paddle.is_compiled_with_cuda() and obstacle(paddle) is None


def _packages(found: PaddleGpu) -> str:
    """The missing libraries, with their packages in NVIDIA's repositories for Debian and Ubuntu."""
    cudnn = found.cudnn.split(".")[0]
    packages = {
        "libcuda.so.1": ("NVIDIA's driver", "cuda-drivers"),
        "libcublas.so": (f"CUDA {found.cuda}", f"cuda-libraries-dev-{found.cuda.replace('.', '-')}"),
        "libcudnn.so": (f"cuDNN {cudnn}", f"libcudnn{cudnn}-dev"),
    }
    parts = [
        f"{what} ({name}, of the package {package})"
        for name, (what, package) in packages.items()
        if name in found.missing
    ]
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
