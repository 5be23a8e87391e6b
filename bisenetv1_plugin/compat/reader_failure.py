"""Paddle's DataLoader hangs, or does not name the file, if a sample cannot be read.

Without worker processes a thread reads the data, and nothing catches the exceptions of a dataset. The thread ends, and
the training waits for it forever. With worker processes the training ends with "Blocking queue is killed because the
data reader raises an exception", which does not name the file.

With this guard both end with an `InputError` that names the files. After a failure the guard reads the samples of the
batch again, one by one, to find the bad one. Until then it does nothing.

The guard also ends the workers before Python exits. Otherwise the loader starts a thread during Python's shutdown, to
send a message to a worker without a task, and waits for it forever.

A DataLoader gets its iterators from two names, which are replaced by subclasses.
"""

from __future__ import annotations

import ast
import atexit
import functools
import inspect
import re
import signal
import textwrap
import threading
import weakref
from collections import Counter
from types import FrameType
from typing import Any, Callable, Dict, Iterable, Sequence, Tuple

import numpy as np
from paddle.io import reader
from paddle.io.dataloader import dataloader_iter
from paddle.io.dataloader import worker as worker_module
from paddle.io.dataloader.fetcher import _MapDatasetFetcher

from bisenetv1_plugin.errors import InputError

DEFECT = (
    "Paddle's DataLoader without worker processes waits forever when a sample cannot be read or a batch cannot be put "
    "together; with worker processes it does not name the file."
)

_SINGLE = dataloader_iter._DataLoaderIterSingleProcess
_EVERYTHING = {"Exception", "BaseException"}
_MAX_NAMES = 3  # samples named in a message
_THREAD_TIMEOUT = 10  # seconds for the reading thread to end after its queue was closed
_WORKERS_TIMEOUT = 3  # seconds for the workers to end before they are killed
_BUS_ERROR = "Bus error"

_WITH_WORKERS: weakref.WeakSet[Any] = weakref.WeakSet()
Shapes = Dict[Any, Tuple[int, ...]]  # by key or position in a sample


def needed() -> bool:
    """Whether the reading thread fetches its samples outside a `try` that catches everything."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(_SINGLE._thread_loop)))
    return not any(_fetches(node) and _catches_everything(node) for node in ast.walk(tree) if isinstance(node, ast.Try))


def apply() -> None:
    reader._DataLoaderIterSingleProcess = _without_workers(reader._DataLoaderIterSingleProcess)  # type: ignore[misc]
    reader._DataLoaderIterMultiProcess = _with_workers(reader._DataLoaderIterMultiProcess)  # type: ignore[misc]
    atexit.register(_end_all_workers)


def _fetches(statement: ast.AST) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr == "fetch" for node in ast.walk(statement))


def _catches_everything(statement: ast.Try) -> bool:
    caught = [handler.type for handler in statement.handlers]
    names = {node.id for kind in caught if kind for node in ast.walk(kind) if isinstance(node, ast.Name)}
    return None in caught or bool(names & _EVERYTHING)


class _Fetcher(_MapDatasetFetcher):
    """Reads a batch, in the thread or a worker process. Its exceptions name the sample."""

    def fetch(self, batch_indices: Any, *arguments: Any) -> Any:
        try:
            return super().fetch(batch_indices, *arguments)
        except StopIteration:  # the end of the data for Paddle
            raise
        except Exception as error:
            indices = batch_indices if isinstance(batch_indices, (list, tuple)) else [batch_indices]
            raise InputError(explanation(self.dataset, indices, error)) from error


def _with_reasons(base: Any) -> Any:
    """A subclass of either iterator of the DataLoader, which raises `InputError` if its reading thread fails."""

    class Iterator(base):
        _failure: BaseException | None = None

        def _thread_loop(self, *arguments: Any) -> None:
            """The reading thread. It stores an exception and wakes the training."""
            try:
                super()._thread_loop(*arguments)
            except BaseException as error:  # noqa: BLE001 - the training is waiting, whatever was raised
                self._failure = error
                self._exit_thread_unexpectedly()

        def __next__(self) -> Any:
            """The next batch. If the reading thread failed, raise the reason."""
            try:
                return super().__next__()
            except StopIteration:
                raise
            except Exception:
                if self._thread is not None:  # None after the loader was shut down
                    self._thread.join(_THREAD_TIMEOUT)
                reason = _reason(self)
                if self in _WITH_WORKERS:
                    _end_workers(self)
                if reason is None:
                    raise
                raise InputError(reason) from self._failure

    return Iterator


def _without_workers(base: Any) -> Any:
    """Paddle's `_DataLoaderIterSingleProcess`, guarded."""

    class Iterator(_with_reasons(base)):  # type: ignore[misc]
        def _init_thread(self) -> None:
            if type(self._dataset_fetcher) is _MapDatasetFetcher:
                self._dataset_fetcher.__class__ = _Fetcher
            super()._init_thread()

    return Iterator


def _with_workers(base: Any) -> Any:
    """Paddle's `_DataLoaderIterMultiProcess`, guarded."""

    class Iterator(_with_reasons(base)):  # type: ignore[misc]
        def _init_workers(self) -> None:
            self._worker_init_fn: Any = functools.partial(_start_worker, self._worker_init_fn)
            super()._init_workers()
            _WITH_WORKERS.add(self)
            _handle_deaths()

    return Iterator


def _start_worker(init_fn: Callable[[int], None] | None, worker_id: int) -> None:
    """Runs in a worker, forked or spawned, before its first task."""
    worker_module._MapDatasetFetcher = _Fetcher  # type: ignore[misc]
    if init_fn is not None:
        init_fn(worker_id)


def _end_all_workers() -> None:
    for iterator in list(_WITH_WORKERS):
        _end_workers(iterator)


def _end_workers(iterator: Any) -> None:
    """End all worker processes, so that nothing is left for Python's shutdown."""
    iterator._try_shutdown_all(_WORKERS_TIMEOUT)
    for worker in iterator._workers:
        worker.kill()


def _reason(iterator: Any) -> str | None:
    """A sentence on why the reading thread failed, or None if it did not."""
    failure = iterator._failure
    if failure is not None:
        text = _one_line(failure)
        if "DataLoader worker(" in text:  # a worker's traceback; its last line has the message
            text = str(failure).strip().splitlines()[-1]
        return text.partition(": ")[2] if isinstance(failure, InputError) else f"the data cannot be read ({text})."
    for worker in getattr(iterator, "_workers", ()):
        if worker.exitcode:
            return _explain_death(signal.strsignal(-worker.exitcode) if worker.exitcode < 0 else None)
    return None


class _DeathHandler:
    """Wraps Paddle's handler of SIGCHLD, which raises in the main thread when a worker process dies."""

    def __init__(self, handler: Callable[..., Any]) -> None:
        self._handler = handler

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        try:
            self._handler(signum, frame)
        except SystemError as error:
            killed = re.search(r"killed by signal: ([\w ]+)", str(error))
            raise InputError(_explain_death(killed and killed[1])) from error


def _handle_deaths() -> None:
    handler = signal.getsignal(signal.SIGCHLD)
    is_main = threading.current_thread() is threading.main_thread()  # only this thread may set a handler
    if is_main and callable(handler) and not isinstance(handler, _DeathHandler):
        signal.signal(signal.SIGCHLD, _DeathHandler(handler))


def _explain_death(killed_by: str | None) -> str:
    """A sentence on why a worker process died. `killed_by` is the name of the signal, None if it exited."""
    if killed_by is None:
        return "a process that reads the data has exited; its output above says why."
    if killed_by == _BUS_ERROR:
        return (
            "a process that reads the data was killed (Bus error): the shared memory /dev/shm is full. Make it "
            "larger (docker run --shm-size), or lower num_workers or batch_size."
        )
    return (
        f"a process that reads the data was killed ({killed_by}), probably because the memory ran out: lower "
        "num_workers or batch_size."
    )


def explanation(dataset: Any, indices: Sequence[int], error: Exception) -> str:
    """A sentence on why a batch could not be read, with the names of the bad samples.

    Args:
        dataset: its samples are read again. They are named after its `file_list`, if it has one.
        indices: the samples of the batch.
        error: the exception of the first attempt.
    """
    samples = {}
    for index in indices:
        try:
            samples[index] = dataset[index]
        except Exception as second_error:  # noqa: BLE001 - a dataset is the user's code
            name = name_of(dataset, index)
            return f"{name} cannot be read ({_one_line(second_error)}). `bisenetv1 data check` finds all such files."
    odd = _odd_shapes({index: _shapes(sample) for index, sample in samples.items()})
    if odd:
        which = "; ".join(f"{name_of(dataset, index)} has {what}" for index, what in list(odd.items())[:_MAX_NAMES])
        more = f"; and {len(odd) - _MAX_NAMES} more" if len(odd) > _MAX_NAMES else ""
        return (
            f"samples of different shapes cannot be put into one batch: {which}{more}. Correct these files, or let the "
            "transforms resize all images to the same size."
        )
    # A random transform may fail once and then succeed.
    names = ", ".join(name_of(dataset, index) for index in list(samples)[:_MAX_NAMES])
    others = " and others" * (len(samples) > _MAX_NAMES)
    return f"a batch cannot be read ({_one_line(error)}); its samples are {names}{others}."


def name_of(dataset: Any, index: int) -> str:
    """The files of a sample if the dataset has a `file_list`, as in PaddleSeg; else its index."""
    try:
        files = dataset.file_list[index]
    except (AttributeError, LookupError, TypeError):
        return f"sample {index}"
    files = [file for file in ([files] if isinstance(files, str) else files) if isinstance(file, str)]
    return " with label ".join(files[:2]) or f"sample {index}"


def _shapes(sample: Any) -> Shapes:
    """The shape of every array in a sample, by key or position."""
    if isinstance(sample, dict):
        items: Iterable[tuple[Any, Any]] = sample.items()
    else:
        items = enumerate(sample if isinstance(sample, (list, tuple)) else [sample])
    return {key: tuple(np.shape(value)) for key, value in items if hasattr(value, "shape")}


def _odd_shapes(shapes: dict[int, Shapes]) -> dict[int, str]:
    """A description of each sample with other shapes than most, by index."""
    odd: dict[int, str] = {}
    for key in {key: None for of_sample in shapes.values() for key in of_sample}:
        usual = Counter(of_sample.get(key) for of_sample in shapes.values()).most_common(1)[0][0]
        for index, of_sample in shapes.items():
            if of_sample.get(key) != usual:
                what = f"{key} of shape {_format_shape(of_sample.get(key))} where others have {_format_shape(usual)}"
                odd[index] = f"{odd[index]}, {what}" if index in odd else what
    return odd


def _format_shape(shape: tuple[int, ...] | None) -> str:
    return "none" if shape is None else "x".join(map(str, shape)) or "()"


def _one_line(error: BaseException) -> str:
    """The type and message of an exception, on one line."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
