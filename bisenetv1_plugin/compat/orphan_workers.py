"""Paddle's worker processes after a training that was killed.

A worker asks for its next task with `indices_queue.get(MP_STATUS_CHECK_INTERVAL)` and means to look every five seconds
whether the training is still there; but the first argument of `get` is `block`, so that it waits for ever. Each killed
training (SIGKILL, the out-of-memory killer) leaves its workers and their memory behind. Here a thread of each worker
looks.
"""

from __future__ import annotations

import ast
import functools
import inspect
import os
import textwrap
import threading
import time
from typing import Any, Callable

from paddle.io import reader
from paddle.io.dataloader import worker
from paddle.io.multiprocess_utils import MP_STATUS_CHECK_INTERVAL, _cleanup_mmap

DEFECT = "The worker processes of Paddle's DataLoader never end when the process they work for is killed."

_QUEUE = "indices_queue"


def needed() -> bool:
    """Whether the interval stands where `get` takes `block`."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(worker._worker_loop)))
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "get"
        and getattr(node.func.value, "id", None) == _QUEUE
        and len(node.args) == 1
        and not node.keywords
        for node in ast.walk(tree)
    )


def apply() -> None:
    reader._DataLoaderIterMultiProcess = _with_watched_workers(reader._DataLoaderIterMultiProcess)  # type: ignore[misc]


def _with_watched_workers(base: Any) -> Any:
    class Iterator(base):
        def _init_workers(self) -> None:
            self._worker_init_fn: Any = functools.partial(_start_worker, self._worker_init_fn)
            super()._init_workers()

    return Iterator


def _start_worker(init_fn: Callable[[int], None] | None, worker_id: int) -> None:
    """In a worker, forked or spawned, before its first task."""
    threading.Thread(target=_exit_after, args=(os.getppid(),), daemon=True).start()
    if init_fn is not None:
        init_fn(worker_id)


def _exit_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(MP_STATUS_CHECK_INTERVAL)
    # An orderly end would wait until somebody has taken the last batches.
    _cleanup_mmap()
    os._exit(1)
