"""How fast: runtimes, precisions, sizes and batches side by side, or losses; each in a process of its own, in turns.

The turns are A B A B, so that what slows the machine for a while slows everybody.
"""

from __future__ import annotations

import ctypes
import io
import multiprocessing
import statistics
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Protocol, Sequence

import numpy as np

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.exported_model import Export
from bisenetv1_plugin.inference.runtimes import RUNTIMES
from bisenetv1_plugin.machine import process_memory
from bisenetv1_plugin.progress import Progress, silent

# After a run, idle threads of OpenMP spin for 200 ms: the next in turn waits for them.
_PAUSE = 0.25
_STREAM_LENGTH = 4  # inputs that are given at a time


class Work(Protocol):
    """What is measured, ready to run, in its process."""

    def run(self) -> object:
        """Once."""

    def stream(self) -> int:
        """Several at a time; returns how many images these are, 0 for what is never run so."""

    def bytes(self) -> int:
        """The memory that it takes at the most (Linux only)."""


class Case(Protocol):
    """What is to be measured; it travels to a process of its own."""

    def begin(self) -> Work:
        """Make it ready there: it has run once then."""


@dataclass(frozen=True)
class RuntimeCase:
    """An export in a runtime.

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

    def begin(self) -> Work:
        return _ExportWork(self)


@dataclass(frozen=True)
class LossCase:
    """A loss, forward and backward, beside others: see `LOSS_CASES` and `LOSSES`."""

    what: str
    loss: str

    def begin(self) -> Work:
        return _LossWork(self)


@dataclass
class Measurement:
    """What one case gave.

    Attributes:
        case: which.
        milliseconds: of every run, the first left out.
        stream_rates: images a second of every turn, many given at a time, as `infer` gives those of a folder.
        start: seconds from nothing to the end of the first run.
        memory: in bytes (Linux only): the most that the process of an export ever held; what a loss, or a step of
            training with it, takes beside what stood before.
        fault: why it could not run; the rest is empty then.
    """

    case: Any
    milliseconds: list[float] = field(default_factory=list)
    stream_rates: list[float] = field(default_factory=list)
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
        return statistics.median(self.stream_rates)

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
    desc: str = "measure",
) -> list[Measurement]:
    """Run the cases in turns.

    Args:
        cases (sequence[Case]): all are held in memory at a time.
        turns (int): how often each case's turn comes.
        runs (int): of a case in its turn.
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
    """A case in a process of its own."""

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
            self._pipe.send(runs)
            milliseconds, stream_rates = self._answer(([], []))
            self._measurement.milliseconds += milliseconds
            self._measurement.stream_rates += stream_rates

    def end(self) -> Measurement:
        if not self._measurement.fault:
            self._pipe.send(0)
            self._measurement.memory = self._answer(0)
        self._process.join()  # Paddle does not like to be ended
        return self._measurement

    def _answer(self, otherwise: Any) -> Any:
        try:
            return self._pipe.recv()
        except EOFError:  # killed, for its memory perhaps
            self._measurement.fault = "its process ended"
            return otherwise


def _serve(pipe: Any, case: Case) -> None:
    """In the other process: make the work ready, then run as often as the pipe says; 0 ends it."""
    sys.stdout = io.StringIO()  # results go through the pipe, and nothing else is printed
    started = time.perf_counter()
    try:
        work = case.begin()
        start = time.perf_counter() - started
        work.stream()  # some are set up once more for many
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
    """An export on noise."""

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


# What a training sees: at first nearly every pixel is hard, later few are.
_SHARES = {"every pixel hard": 1.0, "2 % of the pixels hard": 0.02}
_STEP = "step of the authors' ResNet-18, 2x3x256x512"
LOSS_CASES = (*_SHARES, _STEP)  # the loss alone, on logits of 4x19x512x1024; and a whole step of a training
LOSSES = ("plain cross-entropy", "BiSeNetV1Loss")


class _LossWork:
    """A loss on logits, or a step of a training with it."""

    def __init__(self, case: LossCase) -> None:
        import paddle.nn.functional as F

        from bisenetv1_plugin.losses.ohem import BiSeNetV1Loss

        if case.loss == LOSSES[1]:
            loss: Callable[[Any, Any], Any] = BiSeNetV1Loss()
        else:
            loss = lambda x, y: F.cross_entropy(x, y.unsqueeze(1), axis=1)  # noqa: E731
        self.run = _training_step(loss) if case.what == _STEP else _backward(loss, _SHARES[case.what])
        ctypes.CDLL(None).malloc_trim(0)  # what is free, to the system: else a step that finds room takes nothing
        before = process_memory("VmRSS")
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the peak
        self.run()
        self._bytes = process_memory("VmHWM") - before

    def stream(self) -> int:
        return 0

    def bytes(self) -> int:
        return self._bytes


def _backward(
    loss: Callable[[Any, Any], Any], share: float, shape: tuple[int, int, int, int] = (4, 19, 512, 1024)
) -> Callable[[], None]:
    """Forward and backward of a loss on logits of which this share is hard."""
    import paddle

    random = np.random.RandomState(0)
    right = random.randint(0, shape[1], (shape[0], *shape[2:]))
    # One class stands out: the right one in all pixels but the hard ones.
    clear = np.where(random.rand(*right.shape) < share, (right + 1) % shape[1], right)
    scores = random.randn(*shape).astype("float32")
    scores += 9 * (np.arange(shape[1])[:, None, None] == clear[:, None])
    logits = paddle.to_tensor(scores, stop_gradient=False)
    label = paddle.to_tensor(right)
    (logits * 1.0).sum().backward()  # the gradient has its place, and Paddle its threads
    logits.clear_gradient()

    def work() -> None:
        loss(logits, label).backward()
        logits.clear_gradient()

    return work


def _training_step(
    loss: Callable[[Any, Any], Any], shape: tuple[int, int, int, int] = (2, 3, 256, 512), num_classes: int = 19
) -> Callable[[], None]:
    """Forward, the loss of three heads, backward, the optimizer."""
    import paddle

    from bisenetv1_plugin.backbones.resnet import ResNet18_v1b
    from bisenetv1_plugin.models.bisenetv1 import BiSeNetV1

    paddle.seed(0)
    model = BiSeNetV1(num_classes, ResNet18_v1b())
    optimizer = paddle.optimizer.Momentum(0.01, parameters=model.parameters(), weight_decay=5e-4)
    image = paddle.uniform(shape, min=-1, max=1)
    label = paddle.randint(0, num_classes, (shape[0], *shape[2:]))

    def work() -> None:
        sum(loss(logits, label) for logits in model(image)).backward()
        optimizer.step()
        optimizer.clear_grad()

    return work
