"""Background threads that read ahead and write behind, in order and with bounded memory."""

from __future__ import annotations

import queue
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Generator, Iterable, TypeVar

T = TypeVar("T")


def prefetch(items: Iterable[T], count: int) -> Generator[T, None, None]:
    """The same items in their order, made in a thread of their own, up to `count` before they are asked for.

    What making one raises is raised here, in its place. A generator that is closed early ends the thread.
    """
    made: queue.Queue[tuple[bool, Any]] = queue.Queue(count)
    closed = threading.Event()

    def put(well: bool, item: Any) -> bool:
        while not closed.is_set():
            try:
                made.put((well, item), timeout=0.1)
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
        except BaseException as error:  # noqa: BLE001 - carried over to the thread that asked
            put(False, error)

    thread = threading.Thread(target=make, daemon=True)
    thread.start()
    try:
        while True:
            well, item = made.get()
            if well:
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
        self._open: deque[Future[object]] = deque()

    def submit(self, *arguments: Any) -> None:
        """Have the function called with these arguments; waits where too much is open."""
        while len(self._open) >= self._count:
            self._open.popleft().result()
        self._open.append(self._pool.submit(self._function, *arguments))

    def __enter__(self) -> BackgroundCalls:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for future in self._open:
                future.cancel()
        self._pool.shutdown()
        if kind is None:
            for future in self._open:
                future.result()
