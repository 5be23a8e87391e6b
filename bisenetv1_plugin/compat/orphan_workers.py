"""Paddle's worker processes keep running after their training was killed.

A worker gets its next task with `indices_queue.get(MP_STATUS_CHECK_INTERVAL)`. This is meant as a timeout of five
seconds, after which it checks that the training still runs. But the first argument of `get` is `block`, so it waits
forever. A training killed by SIGKILL or the out-of-memory killer leaves its workers and their memory behind. With this
guard a thread in each worker checks for the training.
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

DEFECT = "The worker processes of Paddle's DataLoader keep running after their parent process was killed."

_QUEUE = "indices_queue"


def needed() -> bool:
    """Whether the worker passes the interval to `get` as `block`."""
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
    """Runs in a worker, forked or spawned, before its first task."""
    threading.Thread(target=_exit_after, args=(os.getppid(),), daemon=True).start()
    if init_fn is not None:
        init_fn(worker_id)


def _exit_after(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(MP_STATUS_CHECK_INTERVAL)
    # A normal exit would wait until the last batches are read.
    _cleanup_mmap()
    os._exit(1)
