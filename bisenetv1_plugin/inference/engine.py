"""From pictures to masks: prepare, run the network, resize the mask. `infer` also reads and writes files."""

from __future__ import annotations

import re
from collections import deque
from contextlib import closing, contextmanager
from typing import Callable, Iterable, Iterator, List, NamedTuple, Protocol, Sequence, Union

import cv2
import numpy as np

from bisenetv1_plugin.errors import InputError, brief
from bisenetv1_plugin.inference import memory
from bisenetv1_plugin.inference.postprocess import (
    NO_NUMBERS,
    MaskWithConfidence,
    best_class,
    check_classes,
    check_unknown,
    has_nan,
    logits_of,
    mark_unknown,
    mask_from_output,
    restore_logits,
)
from bisenetv1_plugin.inference.preprocess import NetworkInput, Preprocess, Sizes
from bisenetv1_plugin.inference.runtimes import Runtime
from bisenetv1_plugin.inference.sources import Picture, Pictures
from bisenetv1_plugin.inference.threads import BackgroundCalls, prefetch

# The error messages of Paddle, OpenCV and OpenVINO when memory runs out.
_NO_MEMORY = "ResourceExhausted|Insufficient memory|Failed to allocate|bad_alloc"
# Up to this many pictures are run one by one: setting up a runtime for parallel requests takes longer.
FEW = 4


class Network(Protocol):
    """The network that a runtime runs: an `Export` or a `dygraph.Dygraph`."""

    preprocess: Preprocess
    output_op: str
    input_shape: list[int | None]

    def shape_error(self, shape: tuple[int, ...]) -> str | None:
        """Why an array of this shape `[N, C, H, W]` cannot be run, as a sentence; None if it can."""


class SegmentedPicture(NamedTuple):
    """A picture and its mask, in the picture's size.

    Attributes:
        picture: the name, the pixels (uint8 BGR `[H, W, 3]`) and the time of a frame.
        mask: uint8 `[H, W]`, class numbers.
        scores: float32 `[classes, H, W]`, the probabilities; None unless requested.
        confidence: float32 `[H, W]`, the probability of the most likely class; None unless requested.
    """

    picture: Picture
    mask: np.ndarray
    scores: np.ndarray | None = None
    confidence: np.ndarray | None = None


class Fault(NamedTuple):
    """A picture that could not be segmented, and the reason as a sentence."""

    name: str
    reason: str


class PreparedPicture(NamedTuple):
    """A picture and the network's input for it."""

    picture: Picture
    prepared: NetworkInput


# Of a batch: `[N, classes, h, w]`, integer `[N, h, w]`, or a list of outputs for `Engine.finish`.
Outputs = Union[np.ndarray, List[Union[np.ndarray, MaskWithConfidence]]]


class Engine:
    """Segments pictures.

    Args:
        network: the network that `runtime` runs.
        runtime: a runtime of `runtimes`, or dygraph.
        enlarge: resizes logits `[classes, h, w]` to the picture, given its `Sizes`.
        scores: also return the probabilities of all classes. The network must return logits or probabilities.
        confidence: also return the probability of the most likely class, with the same requirement.
        unknown_below: the mask is `postprocess.UNKNOWN` where the confidence is below this. Needs `confidence`.
        shortage: returns why memory does not suffice for a width and height, or None.
    """

    cure = memory.CURE  # what to do when memory runs out

    def __init__(
        self,
        network: Network,
        runtime: Runtime,
        enlarge: Callable[[np.ndarray, Sizes], np.ndarray] = restore_logits,
        scores: bool = False,
        confidence: bool = False,
        unknown_below: float | None = None,
        shortage: Callable[[int, int], str | None] = lambda width, height: None,
    ) -> None:
        self._network, self._runtime, self._enlarge, self._shortage = network, runtime, enlarge, shortage
        self._scores, self._confidence, self._unknown_below = scores, confidence, unknown_below

    def run(self, pictures: Iterable[Picture], many: bool = True) -> Iterator[SegmentedPicture | Fault]:
        """Segment pictures one by one, in order.

        Args:
            pictures: the pictures.
            many: whether there are more than a few. The runtime may then work on several at a time.
        """
        for done in self.outputs(self.batches(pictures, 1), many):
            if isinstance(done, Fault):
                yield done
            else:
                (ready,), output = done
                yield self.finish(ready, output[0])

    def prepare(self, picture: Picture) -> NetworkInput:
        """The network's input for a picture."""
        return self._network.preprocess(picture.pixels)

    def shape(self, prepared: NetworkInput) -> tuple[int, ...]:
        """`(C, H, W)` of the array that the runtime gets."""
        return prepared.image.shape

    def logits(self, output: np.ndarray) -> np.ndarray:
        """The output for a picture as logits `[classes, h, w]`; a mask is returned as it is."""
        return logits_of(output, self._network.output_op)

    def batches(self, pictures: Iterable[Picture], batch_size: int) -> Iterator[list[PreparedPicture] | Fault]:
        """Batches of up to `batch_size` pictures whose prepared arrays have the same shape."""
        batch: list[PreparedPicture] = []
        for picture in pictures:
            height, width = picture.pixels.shape[:2]
            too_large = self._shortage(width, height)
            if too_large:
                yield Fault(picture.name, f"{too_large}: {self.cure}.")
                continue
            try:
                with translate_errors(self.cure):
                    prepared = self.prepare(picture)
            except InputError as error:
                yield Fault(picture.name, str(error))
                continue
            shape = self.shape(prepared)
            shape_error = self._network.shape_error((self._network.input_shape[0] or batch_size, *shape))
            if shape_error:
                yield Fault(picture.name, f"{shape_error}.")
                continue
            if batch and (len(batch) == batch_size or self.shape(batch[0].prepared) != shape):
                yield batch
                batch = []
            batch.append(PreparedPicture(picture, prepared))
        if batch:
            yield batch

    def outputs(
        self, batches: Iterable[list[PreparedPicture] | Fault], many: bool
    ) -> Iterator[tuple[list[PreparedPicture], Outputs] | Fault]:
        """The runtime's output for every batch, and the faults, in order."""
        pending: deque[tuple[list[Fault], list[PreparedPicture]]] = deque()  # each batch with the faults before it
        faults: list[Fault] = []
        batches = iter(batches)
        source_failed = False

        def next_batch() -> list[PreparedPicture] | Fault | None:
            nonlocal source_failed
            try:
                return next(batches, None)
            except Exception:  # raised by the pictures, not by the runtime
                source_failed = True
                raise

        def inputs() -> Iterator[np.ndarray]:
            for batch in iter(next_batch, None):
                if isinstance(batch, Fault):
                    faults.append(batch)
                elif batch:
                    pending.append((faults[:], batch))
                    faults.clear()
                    yield self._stack(batch)

        while True:
            try:
                with translate_errors(self.cure):
                    for output in self._runtime.stream(inputs()) if many else map(self._runtime.run, inputs()):
                        before, batch = pending.popleft()
                        yield from before
                        yield batch, output
                yield from faults
                return
            except InputError:
                if source_failed:
                    raise
                while pending:  # any of these batches may have failed: run each again, alone
                    before, batch = pending.popleft()
                    yield from before
                    yield from self._run_alone(batch)

    def _run_alone(self, batch: list[PreparedPicture]) -> Iterator[tuple[list[PreparedPicture], Outputs] | Fault]:
        try:
            with translate_errors(self.cure):
                output = self._runtime.run(self._stack(batch))
        except InputError as error:
            yield from (Fault(ready.picture.name, str(error)) for ready in batch)
        else:
            yield batch, output

    def _stack(self, batch: list[PreparedPicture]) -> np.ndarray:
        """`[N, C, H, W]`; a fixed N is filled up with copies of the last picture."""
        found = [ready.prepared.image for ready in batch]
        found += found[-1:] * ((self._network.input_shape[0] or 0) - len(found))
        return found[0][np.newaxis] if len(found) == 1 else np.stack(found)  # a copy takes as long as the preparation

    def finish(self, ready: PreparedPicture, output: np.ndarray | MaskWithConfidence) -> SegmentedPicture | Fault:
        """The mask of a picture, in the picture's size.

        Args:
            ready: the picture.
            output: its output: logits `[classes, h, w]`, an integer mask `[h, w]`, or `MaskWithConfidence`.

        Raises:
            InputError: memory runs out, or there are more than 256 classes.
        """
        picture, sizes = ready.picture, ready.prepared.trans_info
        with translate_errors(self.cure):
            logits = None
            if isinstance(output, MaskWithConfidence):
                mask, confidence = output
            else:
                logits = self.logits(output)
                if logits.ndim == 3 and has_nan(logits):
                    return Fault(picture.name, NO_NUMBERS)
                if not (self._scores or self._confidence):
                    return SegmentedPicture(picture, mask_from_output(logits, sizes, self._enlarge))
                self.check_classes(len(logits))
                logits = self._enlarge(logits, sizes)
                mask, confidence = best_class(logits)
            if np.isnan(confidence.max()):
                return Fault(picture.name, NO_NUMBERS)
            if self._unknown_below is not None:
                mask = mark_unknown(mask, confidence, self._unknown_below)
            scores = _softmax(logits) if self._scores and logits is not None else None
            return SegmentedPicture(picture, mask, scores, confidence)

    def check_classes(self, count: int) -> None:
        """Check that a mask can number all classes.

        Raises:
            InputError: there are more classes than numbers in a mask.
        """
        check_classes(count)
        if self._unknown_below is not None:
            check_unknown(count)


class Sink(Protocol):
    """A destination of masks: `mask_files.MaskFiles`, `video_writer.OverlayVideo`, `overlay_window.OverlayWindow`."""

    def write(self, found: SegmentedPicture) -> object:
        """Write or show a picture's mask."""


def infer(
    engine: Engine,
    source: Pictures,
    sinks: Sequence[Sink],
    batch_size: int = 1,
    step: Callable[[], object] = lambda: None,
) -> None:
    """Segment all pictures and pass each result to the sinks. Failures are added to `source.faults`.

    Reading, computing and writing overlap, a few pictures apart; the order is kept.

    Args:
        engine: the engine.
        source: the pictures.
        sinks: get the result of each picture.
        batch_size: up to how many pictures of the same size are run at a time.
        step: called after every batch; `source.done` is the number of pictures read.
    """

    def write(batch: list[PreparedPicture], output: np.ndarray) -> None:
        for ready, found in zip(batch, output):
            done = engine.finish(ready, found)
            if isinstance(done, Fault):
                leave_out(done)
                continue
            for sink in sinks:
                sink.write(done)

    def leave_out(fault: Fault) -> None:
        source.faults.append(f"{fault.name} was left out: {fault.reason}")

    # For a camera, the delay of each frame matters more than frames per second.
    many = not source.live and (source.total is None or source.total > FEW)
    with BackgroundCalls(write, 4) as calls, closing(prefetch(engine.batches(source, batch_size), 2)) as batches:
        for done in engine.outputs(batches, many):
            if isinstance(done, Fault):
                leave_out(done)
            else:
                calls.submit(*done)
            step()


@contextmanager
def translate_errors(cure: str = memory.CURE) -> Iterator[None]:
    """Turn out-of-memory errors of Paddle, NumPy, OpenCV and OpenVINO, and other runtime errors, into an `InputError`.

    Raises:
        InputError: memory runs out, or the runtime cannot run the model.
    """
    try:
        yield
    except (MemoryError, RuntimeError, cv2.error) as error:
        if isinstance(error, MemoryError) or re.search(_NO_MEMORY, str(error)):
            raise InputError(f"it needs more memory than there is: {cure}.") from error
        if not isinstance(error, RuntimeError):
            raise
        raise InputError(f"the runtime cannot run it ({brief(error)}).") from error


def _softmax(logits: np.ndarray) -> np.ndarray:
    """Softmax over the classes of `[classes, H, W]`."""
    powers = np.exp(logits - logits.max(axis=0))
    return powers / powers.sum(axis=0)
