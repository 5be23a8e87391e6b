"""PaddleSeg's `train` writes checkpoints in place, so a kill or a full disk leaves partial files.

It may leave a partial `model.pdparams`, or overwrite a complete `best_model` with a partial one. With this guard each
file is written under a temporary name and then renamed. The folder iter_N is still filled file by file: a checkpoint is
complete when it has both `model.pdparams` and `model.pdopt`.
"""

from __future__ import annotations

import functools
import os
from contextlib import contextmanager
from typing import Any, Callable, Iterator

from bisenetv1_plugin.compat import core_train
from bisenetv1_plugin.files import whole_file

DEFECT = (
    "PaddleSeg's train writes checkpoints in place: a killed training or a full disk leaves a partial file under the "
    "final name."
)


def needed() -> bool:
    return {"paddle", "save"} <= core_train.names()


def apply() -> None:
    core_train.add_guard(_write_whole_files)


@contextmanager
def _write_whole_files(_: core_train.Call) -> Iterator[None]:
    # Nothing to log: the files have the same content.
    names = vars(core_train.module())
    paddle = names["paddle"]
    with core_train.patch(names, "paddle", core_train.ModuleView(paddle, save=_wrap_save(paddle.save))):
        yield


def _wrap_save(save: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(save)
    def whole_save(obj: object, path: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(path, (str, os.PathLike)):  # a buffer in memory
            return save(obj, path, *args, **kwargs)
        with whole_file(path) as temporary:
            save(obj, temporary, *args, **kwargs)

    return whole_save
