"""PaddleSeg's `train` asks a Paddle for GPUs for the GPU memory in use, even if it runs on the CPU (since 2.9)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Iterator

import paddle

from bisenetv1_plugin import compat
from bisenetv1_plugin.compat import core_train

DEFECT = (
    "PaddleSeg's train.py since 2.9 asks a Paddle for GPUs for the GPU memory in use, which raises without a driver: "
    "the training ends at its first log line."
)

_FUNCTIONS = ("max_memory_reserved", "max_memory_allocated")


def needed() -> bool:
    in_use = set(_FUNCTIONS) <= core_train.names()
    return in_use and paddle.is_compiled_with_cuda() and not paddle.device.cuda.device_count()


def apply() -> None:
    core_train.add_guard(_report_no_memory)


@contextmanager
def _report_no_memory(_: core_train.Call) -> Iterator[None]:
    names = vars(core_train.module())
    view, outer = core_train.ModuleView, names["paddle"]
    cuda = view(outer.device.cuda, **dict.fromkeys(_FUNCTIONS, _zero))
    with core_train.patch(names, "paddle", view(outer, device=view(outer.device, cuda=cuda))):
        yield


def _zero() -> int:
    compat.log_once("bisenetv1-plugin reports 0 bytes of GPU memory to train() of this PaddleSeg: there is no GPU.")
    return 0
