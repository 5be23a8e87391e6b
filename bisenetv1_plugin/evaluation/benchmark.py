"""How fast: runtimes, precisions, sizes and batches side by side, each in a process of its own, in turns A B A B."""

from __future__ import annotations

import io
import multiprocessing
import statistics
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Sequence

import numpy as np

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.exported import Export
from bisenetv1_plugin.inference.runtimes import RUNTIMES
from bisenetv1_plugin.machine import memory
from bisenetv1_plugin.progress import Progress, silent

# After a run, idle threads of OpenMP spin for 200 ms: the next in turn waits for them.
_PAUSE = 0.25
_MANY = 4  # inputs that are given at a time


@dataclass(frozen=True)
class Case:
    """What is measured.

    Attributes:
        name: of its row.
        export: the `deploy.yaml`.
        backend: of `runtimes.RUNTIMES`.
        shape: of the input, `(N, C, H, W)`.
        options: what the runtime is made with, such as `cpu_threads` and `precision`.
    """

    name: str
    export: str
    backend: str
    shape: tuple[int, int, int, int]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass
class Measured:
    """What one case gave.

    Attributes:
        case: which.
        milliseconds: of every run, the warm-up left out.
        streamed: images a second of every turn, many given at a time, as `infer` gives those of a folder.
        start: seconds from nothing to the end of the first run.
        memory: the most memory its process ever held, in bytes (Linux only).
        fault: why it could not run; the rest is empty then.
    """

    case: Case
    milliseconds: list[float] = field(default_factory=list)
    streamed: list[float] = field(default_factory=list)
    start: float = 0.0
    memory: int = 0
    fault: str | None = None

    @property
    def median(self) -> float:
        """Milliseconds a run."""
        return statistics.median(self.milliseconds)

    @property
    def throughput(self) -> float:
        """Images a second."""
        return statistics.median(self.streamed)

    @property
    def spread(self) -> float:
        """Half of what lies between the quartiles, as a share of the median."""
        low, _, high = statistics.quantiles(self.milliseconds, n=4)
        return (high - low) / 2 / self.median


def measure(
    cases: Sequence[Case],
    turns: int = 3,
    runs: int = 2,
    progress: Progress = silent,
) -> list[Measured]:
    """Run the cases in turns.

    Args:
        cases (sequence[Case]): all are held in memory at a time.
        turns (int): how often each case's turn comes.
        runs (int): of a case in its turn.
        progress: see `progress.Progress`.
    """
    processes = [_Process(case) for case in cases]
    for process in processes:
        process.start()
    for _ in progress(range(turns), desc="measure", unit="turn"):
        for process in processes:
            process.turn(runs)
    return [process.end() for process in processes]


class _Process:
    """A case in a process of its own."""

    def __init__(self, case: Case) -> None:
        context = multiprocessing.get_context("spawn")
        self.measured = Measured(case)
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, case), daemon=True)
        self._process.start()
        theirs.close()

    def start(self) -> None:
        self.measured.start, self.measured.fault = self._answer((0.0, "its process ended"))

    def turn(self, runs: int) -> None:
        if not self.measured.fault:
            time.sleep(_PAUSE)
            self._pipe.send(runs)
            milliseconds, streamed = self._answer(([], []))
            self.measured.milliseconds += milliseconds
            self.measured.streamed += streamed

    def end(self) -> Measured:
        if not self.measured.fault:
            self._pipe.send(0)
            self.measured.memory = self._answer(0)
        self._process.join()
        return self.measured

    def _answer(self, otherwise: Any) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:  # killed, for its memory perhaps
            self.measured.fault = "its process ended"
            return otherwise


def _serve(pipe: Any, case: Case) -> None:
    """In the other process: make the runtime, then run as often as the pipe says; 0 ends it."""
    sys.stdout = io.StringIO()  # what it has to say goes through the pipe
    started = time.perf_counter()
    image = np.random.RandomState(0).uniform(-1, 1, case.shape).astype("float32")
    try:
        runtime = RUNTIMES[case.backend](Export(case.export), **case.options)
        runtime.run(image)
        start = time.perf_counter() - started
        deque(runtime.stream([image]), maxlen=0)  # some are set up once more for many
    except InputError as error:
        pipe.send((0.0, str(error)))
        return
    pipe.send((start, None))
    while True:
        runs = pipe.recv()
        if not runs:
            break
        milliseconds = []
        for _ in range(runs):
            began = time.perf_counter()
            runtime.run(image)
            milliseconds.append((time.perf_counter() - began) * 1000)
        began = time.perf_counter()
        deque(runtime.stream([image] * _MANY), maxlen=0)
        pipe.send((milliseconds, [_MANY * case.shape[0] / (time.perf_counter() - began)]))
    pipe.send(memory("VmHWM"))
