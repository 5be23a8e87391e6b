"""Measure the speed of runtimes, precisions, sizes and batches, or of losses.

Each case has its own process. The cases take turns (A B A B), so a temporary slowdown of the machine affects them all.
"""

from __future__ import annotations

import ctypes
import io
import multiprocessing
import statistics
import sys
import time
from collections import deque
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Protocol, Sequence

import numpy as np

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.exported_model import Export
from bisenetv1_plugin.inference.runtimes import RUNTIMES
from bisenetv1_plugin.machine import process_memory
from bisenetv1_plugin.progress import Progress, silent

# Idle OpenMP threads spin for 200 ms after a run; the next case waits for them.
_PAUSE = 0.25
_STREAM_LENGTH = 4  # number of inputs


class Work(Protocol):
    """A case that is ready to run, in its own process."""

    def run(self) -> object:
        """Run once."""

    def stream(self) -> int:
        """Run a stream of inputs; return the number of images, or 0 if the case has no streams."""

    def bytes(self) -> int:
        """Return the peak memory in bytes (Linux only)."""


class Case(Protocol):
    """A case to measure. It is pickled and sent to its own process."""

    def begin(self) -> Work:
        """Prepare the case in its process and run it once."""


@dataclass(frozen=True)
class RuntimeCase:
    """An export in a runtime.

    Attributes:
        name: title of its table row.
        export: path of the `deploy.yaml`.
        backend: a key of `runtimes.RUNTIMES`.
        shape: shape of the input, `(N, C, H, W)`.
        options: keyword arguments of the runtime, such as `cpu_threads` and `precision`.
    """

    name: str
    export: str
    backend: str
    shape: tuple[int, int, int, int]
    options: dict[str, Any] = field(default_factory=dict)

    def begin(self) -> Work:
        return _ExportWork(self)


@dataclass(frozen=True)
class LossCase:
    """The forward and backward pass of a loss: `what` is one of `LOSS_CASES`, `loss` one of `LOSSES`."""

    what: str
    loss: str

    def begin(self) -> Work:
        return _LossWork(self)


@dataclass
class Measurement:
    """The results of one case.

    Attributes:
        case: the measured case.
        milliseconds: time of each run except the first.
        stream_rates: images per second of each turn, with a stream of inputs as in `infer` on a folder.
        start: seconds from the start of the case to the end of its first run.
        memory: bytes (Linux only). For an export, the peak of its process; for a loss or a training step, the
            additional memory that it needs.
        fault: why the case could not run; all other results are empty then.
    """

    case: Any
    milliseconds: list[float] = field(default_factory=list)
    stream_rates: list[float] = field(default_factory=list)
    start: float = 0.0
    memory: int = 0
    fault: str | None = None

    @property
    def median(self) -> float:
        """Median time of a run in milliseconds."""
        return statistics.median(self.milliseconds)

    @property
    def throughput(self) -> float:
        """Median number of images per second."""
        return statistics.median(self.stream_rates)

    @property
    def spread(self) -> float:
        """Half of the interquartile range, as a share of the median."""
        low, _, high = statistics.quantiles(self.milliseconds, n=4)
        return (high - low) / 2 / self.median


def measure(
    cases: Sequence[Case],
    turns: int = 3,
    runs: int = 2,
    progress: Progress = silent,
    desc: str = "measure",
) -> list[Measurement]:
    """Run the cases in turns.

    Args:
        cases: the cases, all of which stay in memory.
        turns: number of turns of each case.
        runs: number of runs per turn.
        progress, desc: see `progress.Progress`.
    """
    processes = [_Process(case) for case in cases]
    for process in processes:
        process.start()
    for _ in progress(range(turns), desc=desc, unit="turn"):
        for process in processes:
            process.turn(runs)
    return [process.end() for process in processes]


class _Process:
    """A case in its own process."""

    def __init__(self, case: Case) -> None:
        context = multiprocessing.get_context("spawn")
        self._measurement = Measurement(case)
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, case), daemon=True)
        self._process.start()
        theirs.close()

    def start(self) -> None:
        self._measurement.start, self._measurement.fault = self._answer((0.0, "its process ended"))

    def turn(self, runs: int) -> None:
        if not self._measurement.fault:
            time.sleep(_PAUSE)
            milliseconds, stream_rates = self._ask(runs, ([], []))
            self._measurement.milliseconds += milliseconds
            self._measurement.stream_rates += stream_rates

    def end(self) -> Measurement:
        if not self._measurement.fault:
            self._measurement.memory = self._ask(0, 0)
        self._process.join()  # Paddle does not handle termination well
        return self._measurement

    def _ask(self, runs: int, otherwise: Any) -> Any:
        with suppress(BrokenPipeError):  # `_answer` finds that the process has ended
            self._pipe.send(runs)
        return self._answer(otherwise)

    def _answer(self, otherwise: Any) -> Any:
        try:
            return self._pipe.recv()
        except (EOFError, ConnectionResetError):  # killed, perhaps because it used too much memory
            self._measurement.fault = "its process ended"
            return otherwise


def _serve(pipe: Any, case: Case) -> None:
    """Run in the other process: prepare the case, then run it as often as the pipe requests; 0 ends the loop."""
    sys.stdout = io.StringIO()  # results are sent through the pipe
    started = time.perf_counter()
    try:
        with redirect_stderr(io.StringIO()):  # Paddle's warnings when it is imported
            work = case.begin()
        start = time.perf_counter() - started
        work.stream()  # some runtimes need another setup for streams
    except InputError as error:
        pipe.send((0.0, str(error)))
        return
    pipe.send((start, None))
    while True:
        runs = pipe.recv()
        if not runs:
            break
        milliseconds = [_seconds(work.run)[0] * 1000 for _ in range(runs)]
        seconds, images = _seconds(work.stream)
        pipe.send((milliseconds, [images / seconds] if images else []))
    pipe.send(work.bytes())


def _seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    found = work()
    return time.perf_counter() - began, found


class _ExportWork:
    """An export that runs on noise."""

    def __init__(self, case: RuntimeCase) -> None:
        self._image = np.random.RandomState(0).uniform(-1, 1, case.shape).astype("float32")
        self._runtime = RUNTIMES[case.backend](Export(case.export), **case.options)
        self.run()

    def run(self) -> object:
        return self._runtime.run(self._image)

    def stream(self) -> int:
        deque(self._runtime.stream([self._image] * _STREAM_LENGTH), maxlen=0)
        return _STREAM_LENGTH * len(self._image)

    def bytes(self) -> int:
        return process_memory("VmHWM")


# At the start of a training nearly every pixel is hard; later only a few are.
_SHARES = {"every pixel hard": 1.0, "2 % of the pixels hard": 0.02}
_STEP = "step of the authors' ResNet-18, 2x3x256x512"
LOSS_CASES = (*_SHARES, _STEP)  # the loss alone, on logits of 4x19x512x1024; and a whole training step
LOSSES = ("plain cross-entropy", "BiSeNetV1Loss")


class _LossWork:
    """A loss on logits, or a training step with it."""

    def __init__(self, case: LossCase) -> None:
        import paddle.nn.functional as F

        from bisenetv1_plugin.losses.ohem import BiSeNetV1Loss

        if case.loss == LOSSES[1]:
            loss: Callable[[Any, Any], Any] = BiSeNetV1Loss()
        else:
            loss = lambda x, y: F.cross_entropy(x, y.unsqueeze(1), axis=1)  # noqa: E731
        self.run = _training_step(loss) if case.what == _STEP else _backward(loss, _SHARES[case.what])
        ctypes.CDLL(None).malloc_trim(0)  # return freed memory; a step that reuses it would appear to need none
        before = process_memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # reset the peak
        self.run()
        self._bytes = process_memory("VmHWM") - before

    def stream(self) -> int:
        return 0

    def bytes(self) -> int:
        return self._bytes


def _backward(loss: Callable[[Any, Any], Any], share: float) -> Callable[[], None]:
    """Return a function that runs a loss forward and backward on logits; `share` of the pixels are hard."""
    import paddle

    random = np.random.RandomState(0)
    shape = (4, 19, 512, 1024)
    right = random.randint(0, shape[1], (shape[0], *shape[2:]))
    # One class has a high score: the correct one, except in hard pixels.
    clear = np.where(random.rand(*right.shape) < share, (right + 1) % shape[1], right)
    scores = random.randn(*shape).astype("float32")
    scores += 9 * (np.arange(shape[1])[:, None, None] == clear[:, None])
    logits = paddle.to_tensor(scores, stop_gradient=False)
    label = paddle.to_tensor(right)
    (logits * 1.0).sum().backward()  # allocates the gradient and starts Paddle's threads
    logits.clear_gradient()

    def work() -> None:
        loss(logits, label).backward()
        logits.clear_gradient()

    return work


def _training_step(loss: Callable[[Any, Any], Any]) -> Callable[[], None]:
    """Return a function that runs a training step: forward, the loss of three heads, backward, optimizer."""
    import paddle

    from bisenetv1_plugin.backbones.resnet import ResNet18_v1b
    from bisenetv1_plugin.models.bisenetv1 import BiSeNetV1

    paddle.seed(0)
    model = BiSeNetV1(19, ResNet18_v1b())
    optimizer = paddle.optimizer.Momentum(0.01, parameters=model.parameters(), weight_decay=5e-4)
    image = paddle.uniform([2, 3, 256, 512], min=-1, max=1)
    label = paddle.randint(0, 19, [2, 256, 512])

    def work() -> None:
        sum(loss(logits, label) for logits in model(image)).backward()
        optimizer.step()
        optimizer.clear_grad()

    return work
