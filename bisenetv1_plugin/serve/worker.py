"""The thread that segments the pictures of all requests; those that wait go through the network together."""

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

# Larger pictures run alone, because each picture in the network takes memory of its own.
_MAX_SHARED_PIXELS = 1 << 21


class _Job(NamedTuple):
    pixels: np.ndarray
    confidence: bool
    future: Future[Segmentation]

    @property
    def runs_alone(self) -> bool:
        """Whether it cannot share the network with other jobs."""
        return self.confidence or self.pixels.shape[0] * self.pixels.shape[1] > _MAX_SHARED_PIXELS


class Worker:
    """Segments pictures in the order of `submit`.

    A single picture uses all threads. So do a large one, and one with confidence. If more pictures are waiting, the
    runtime computes several at a time until none is left.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        self._segmenter = segmenter
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._postponed: _Job | None = None  # runs alone, after the jobs that have started
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread.is_alive()

    def submit(self, pixels: np.ndarray, confidence: bool = False) -> Future[Segmentation]:
        """Queue a picture; the future raises an InputError if the picture does not fit the export.

        Args:
            pixels: the picture, uint8 BGR `[H, W, 3]`.
            confidence: whether to compute the confidence as well, which takes more time and memory.
        """
        job = _Job(pixels, confidence, Future())
        self._jobs.put(job)
        return job.future

    def _work(self) -> None:
        while True:
            job, self._postponed = self._postponed or self._jobs.get(), None
            self._run(job)

    def _run(self, job: _Job) -> None:
        """Run a job, together with waiting jobs that can share the network."""
        if not job.future.set_running_or_notify_cancel():  # the request was canceled
            return
        started = deque([job])
        many = not job.runs_alone and not self._jobs.empty()
        try:
            for result in self._segmenter.stream(self._pixels(job, started, many), "BGR", job.confidence, many):
                future = started.popleft().future
                if isinstance(result, InputError):
                    future.set_exception(result)
                else:
                    future.set_result(result)
        except Exception as error:  # noqa: BLE001 - raised by the futures
            for failed in started:
                failed.future.set_exception(error)

    def _pixels(self, first: _Job, started: deque[_Job], many: bool) -> Iterator[np.ndarray]:
        yield first.pixels
        while many:
            job = self._next()
            if job is None:
                return
            if job.future.set_running_or_notify_cancel():
                started.append(job)
                yield job.pixels

    def _next(self) -> _Job | None:
        try:
            job = self._jobs.get_nowait()
        except queue.Empty:
            return None
        if job.runs_alone:
            self._postponed = job
            return None
        return job
