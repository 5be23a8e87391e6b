"""Paddle's worker processes after a training that was killed.

A worker asks for its next task with `indices_queue.get(MP_STATUS_CHECK_INTERVAL)` and means to look every five seconds
whether the training is still there; but the first argument of `get` is `block`, so that it waits for ever. Each killed
training (SIGKILL, the out-of-memory killer) leaves its workers and their memory behind.
"""

from __future__ import annotations

import ast
import functools
import inspect
import os
import textwrap
from typing import Any

from paddle.io.dataloader import dataloader_iter
from paddle.io.multiprocess_utils import MP_STATUS_CHECK_INTERVAL, _cleanup_mmap

DEFECT = "The worker processes of Paddle's DataLoader never end when the process they work for is killed."

_QUEUE = "indices_queue"


def needed() -> bool:
    """Whether the interval stands where `get` takes `block`."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(dataloader_iter._worker_loop)))
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
    original = dataloader_iter._worker_loop
    signature = inspect.signature(original)

    @functools.wraps(original)
    def _worker_loop(*args: Any, **kwargs: Any) -> None:
        arguments = signature.bind(*args, **kwargs)
        arguments.arguments[_QUEUE] = _QueueWithTimeout(arguments.arguments[_QUEUE])
        parent = os.getppid()
        original(*arguments.args, **arguments.kwargs)
        if os.getppid() != parent:
            # An orderly end would wait until somebody has taken the last batches.
            _cleanup_mmap()
            os._exit(1)

    dataloader_iter._worker_loop = _worker_loop


class _QueueWithTimeout:
    """A queue whose `get` returns to its caller every few seconds, with `queue.Empty`."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def get(self, _: object) -> Any:
        return self._queue.get(timeout=MP_STATUS_CHECK_INTERVAL)
