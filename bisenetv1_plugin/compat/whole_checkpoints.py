"""PaddleSeg's checkpoints under a kill or on a full disk: `train` writes each file in place.

Stopped meanwhile, it leaves half a `model.pdparams` under the final name, or half a `best_model` where a whole one was.
Here each file is written beside and then renamed. `train` makes the folder iter_N itself and fills it file by file, so
that a checkpoint can be resumed from when `model.pdparams` and `model.pdopt` are both there.
"""

from __future__ import annotations

import functools
import os
from contextlib import contextmanager
from typing import Any, Callable, Iterator

from bisenetv1_plugin.compat import core_train
from bisenetv1_plugin.files import whole_file

DEFECT = (
    "PaddleSeg's train writes checkpoints in place: a training that is killed, or a disk that is full, leaves half a "
    "file under the name of a whole one."
)


def needed() -> bool:
    return {"paddle", "save"} <= core_train.names()


def apply() -> None:
    core_train.add_guard(_write_whole_files)


@contextmanager
def _write_whole_files(_: core_train.Call) -> Iterator[None]:
    # Nothing to log: the files are the same.
    names = vars(core_train.module())
    paddle = names["paddle"]
    with core_train.patch(names, "paddle", core_train.ModuleView(paddle, save=_wrap_save(paddle.save))):
        yield


def _wrap_save(save: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(save)
    def whole_save(obj: object, path: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(path, (str, os.PathLike)):  # a buffer in memory
            return save(obj, path, *args, **kwargs)
        with whole_file(path) as beside:
            save(obj, beside, *args, **kwargs)

    return whole_save
