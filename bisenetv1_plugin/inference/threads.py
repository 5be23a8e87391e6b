"""Background threads that read ahead and write behind, in order and with bounded memory."""

from __future__ import annotations

import queue
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Generator, Iterable, TypeVar

T = TypeVar("T")


def prefetch(items: Iterable[T], count: int) -> Generator[T, None, None]:
    """Yield the items in order. A background thread computes up to `count` of them in advance.

    An exception of `items` is raised in its place. Closing the generator ends the thread.
    """
    results: queue.Queue[tuple[bool, Any]] = queue.Queue(count)
    closed = threading.Event()

    def put(is_item: bool, item: Any) -> bool:
        while not closed.is_set():
            try:
                results.put((is_item, item), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not put(True, item):
                    return
            put(False, None)
        except BaseException as error:  # noqa: BLE001 - raised again in the consumer
            put(False, error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            is_item, item = results.get()
            if is_item:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        closed.set()
        thread.join()


class BackgroundCalls:
    """Calls a function in a background thread, in order, with at most `count` calls pending.

    Use it in a `with` block: its end waits for the remaining calls. An exception of the function is raised by a later
    `submit` or at the end of the block.
    """

    def __init__(self, function: Callable[..., object], count: int) -> None:
        self._function, self._count = function, count
        self._pool = ThreadPoolExecutor(1)
        self._pending: deque[Future[object]] = deque()

    def submit(self, *arguments: Any) -> None:
        """Schedule a call with these arguments. Waits while too many calls are pending."""
        while len(self._pending) >= self._count:
            self._pending.popleft().result()
        self._pending.append(self._pool.submit(self._function, *arguments))

    def __enter__(self) -> BackgroundCalls:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for future in self._pending:
                future.cancel()
        self._pool.shutdown()
        if kind is None:
            for future in self._pending:
                future.result()
