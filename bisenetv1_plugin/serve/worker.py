"""The thread that segments for all requests: what waits goes through the network together, as in `infer`."""

from __future__ import annotations

import queue
import threading
from collections import deque
from concurrent.futures import Future
from typing import Iterator, NamedTuple

import numpy as np

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.segmentation import Segmentation
from bisenetv1_plugin.inference.segmenter import Segmenter

# Pixels of a picture that goes through the network with others: each takes its own memory there.
_MOST_TOGETHER = 1 << 21


class _Job(NamedTuple):
    pixels: np.ndarray
    confidence: bool
    future: Future[Segmentation]

    @property
    def alone(self) -> bool:
        """Whether no other may be with it."""
        return self.confidence or self.pixels.shape[0] * self.pixels.shape[1] > _MOST_TOGETHER


class Worker:
    """Segments in the order in which it is asked.

    One picture alone has all threads to itself, and so have a large one and one whose confidence is asked for. Where
    more are waiting, the runtime works on several at a time, until none is left.

    Args:
        segmenter (Segmenter): what segments.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._held: _Job | None = None  # which is to be alone, behind those that are under way
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def lives(self) -> bool:
        """Whether it still segments."""
        return self._thread.is_alive()

    def submit(self, pixels: np.ndarray, confidence: bool = False) -> Future[Segmentation]:
        """The segmentation of uint8 BGR `[H, W, 3]`, later; an InputError where it does not fit the export.

        Args:
            pixels (numpy.ndarray): the picture.
            confidence (bool): with it, which takes more time and memory.
        """
        job = _Job(pixels, confidence, Future())
        self._jobs.put(job)
        return job.future

    def _work(self) -> None:
        while True:
            job, self._held = self._held or self._jobs.get(), None
            self._run(job)

    def _run(self, job: _Job) -> None:
        """A job, and those that wait behind it and may go with it."""
        if not job.future.set_running_or_notify_cancel():  # nobody waits for it any more
            return
        begun = deque([job])
        many = not job.alone and not self._jobs.empty()
        try:
            for result in self._segmenter.stream(self._pixels(job, begun, many), "BGR", job.confidence, many):
                future = begun.popleft().future
                if isinstance(result, InputError):
                    future.set_exception(result)
                else:
                    future.set_result(result)
        except Exception as error:  # noqa: BLE001 - carried over to those that asked
            for failed in begun:
                failed.future.set_exception(error)

    def _pixels(self, first: _Job, begun: deque[_Job], many: bool) -> Iterator[np.ndarray]:
        yield first.pixels
        while many:
            job = self._next()
            if job is None:
                return
            if job.future.set_running_or_notify_cancel():
                begun.append(job)
                yield job.pixels

    def _next(self) -> _Job | None:
        try:
            job = self._jobs.get_nowait()
        except queue.Empty:
            return None
        if job.alone:
            self._held = job
            return None
        return job
