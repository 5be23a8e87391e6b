"""What a Paddle that is built for NVIDIA's GPUs needs to run on one, and what of it is missing here."""

from __future__ import annotations

import ctypes
import os
import sys
from types import ModuleType
from typing import NamedTuple

# Where Paddle 2 looks for a library besides the folders of the dynamic linker: the variable of a folder, and a folder.
_PLACES = {
    "libcuda.so.1": ("", ""),
    "libcublas.so": ("FLAGS_cuda_dir", ""),
    "libcudnn.so": ("FLAGS_cudnn_dir", "/usr/local/cuda/lib64"),
}
# The compute capabilities that PyPI's newest wheel has kernels for, by the versions of Paddle and CUDA: so its fat
# binaries say, which have no PTX that a newer GPU could translate. Paddle 3 says it itself.
_KERNELS: dict[tuple[str, str], tuple[int, ...]] = {("2.6.2", "11.8"): (61, 70, 75, 80, 86)}


class PaddleGpu(NamedTuple):
    """What a Paddle for GPUs has here.

    Attributes:
        paddle, cuda, cudnn (str): its version, and those that it was built with.
        missing (sequence[str]): the libraries that it does not find, by the names of their files.
        gpu (str, optional): the name of the GPU that it takes.
        capability (int): the compute capability of that GPU, such as 86 for 8.6.
        kernels (sequence[int]): the compute capabilities that it has kernels for; empty where that is not known.
    """

    paddle: str
    cuda: str
    cudnn: str
    missing: tuple[str, ...] = ()
    gpu: str | None = None
    capability: int = 0
    kernels: tuple[int, ...] = ()


def probe(paddle: ModuleType) -> PaddleGpu | None:
    """Look; None for a Paddle that is not built for NVIDIA's GPUs."""
    if not paddle.is_compiled_with_cuda() or paddle.is_compiled_with_rocm():
        return None
    version = paddle.version
    # Paddle 2 asks for the names that NVIDIA's development packages have; the wheels of Paddle 3 bring CUDA and cuDNN.
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

    Paddle itself is not asked: `paddle.get_cudnn_version()` ends the process where cuDNN 8.6 is found and libnvrtc.so,
    which later ones do without, is not.
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
    """Why this Paddle for GPUs cannot run on one here: a sentence. None where it can, or is built for the CPU."""
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
    # Kernels for 8.0 also run on 8.6 and 8.9, and on no 9.0.
    own = found.capability
    if not found.kernels or any(own // 10 == kernel // 10 and own >= kernel for kernel in found.kernels):
        return None
    newer = ", which is newer: Paddle's installation page names the wheels of Paddle 3" * (own > max(found.kernels))
    kernels = ", ".join(f"sm_{kernel}" for kernel in found.kernels)
    return f"{name} has kernels for {kernels}, and none for this {found.gpu} (sm_{own}){newer}."


def can_run(paddle: ModuleType) -> bool:
    """Whether this Paddle can run on a GPU here."""
    return paddle.is_compiled_with_cuda() and obstacle(paddle) is None


def _packages(found: PaddleGpu) -> str:
    """What is missing, by the names of its files and of the packages in NVIDIA's repositories for Debian and Ubuntu."""
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
