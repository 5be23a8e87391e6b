"""PaddleSeg's `get_sys_env` fails if Paddle finds no cuDNN: it divides the version, which is None."""

from __future__ import annotations

import paddle
from paddleseg.utils.env import sys_env

from bisenetv1_plugin import compat, gpu
from bisenetv1_plugin.compat.core_train import ModuleView

DEFECT = (
    "PaddleSeg's get_sys_env divides paddle.get_cudnn_version(), which is None where a Paddle for GPUs finds no cuDNN: "
    "nothing trains, predicts or exports there, on the CPU either."
)


def needed() -> bool:
    return paddle.is_compiled_with_cuda() and not gpu.can_open("libcudnn.so")


def apply() -> None:
    sys_env.paddle = ModuleView(paddle, get_cudnn_version=_cudnn_version)  # type: ignore[attr-defined]


def _cudnn_version() -> int:
    """Paddle's version of cuDNN, or 0 if there is none. Paddle returns None at the first call, then -1."""
    version = paddle.get_cudnn_version()
    if version is not None and version >= 0:
        return version
    compat.log_once("bisenetv1-plugin reports cuDNN 0.0 to get_sys_env of this PaddleSeg: Paddle found no cuDNN.")
    return 0
