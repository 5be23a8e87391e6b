"""The one way from pictures to masks: prepare, run, back to their own size. `infer` reads and writes as well."""

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

# Paddle's words, OpenCV's, and two of OpenVINO's.
_NO_MEMORY = "ResourceExhausted|Insufficient memory|Failed to allocate|bad_alloc"
# Fewer pictures are not worth a runtime's second set-up for many at a time.
FEW = 4


class Network(Protocol):
    """What an engine knows of the network that its runtime runs: an `exported.Export`, or a `dygraph.Dygraph`."""

    preprocess: Preprocess
    output_op: str
    input_shape: list[int | None]

    def shape_error(self, shape: tuple[int, ...]) -> str | None:
        """Why an array of this `[N, C, H, W]` cannot be run, in a sentence; None if it can."""


class SegmentedPicture(NamedTuple):
    """A picture and what was found in it, in its own size.

    Attributes:
        picture: its name, its pixels (uint8 BGR `[H, W, 3]`), when it is shown.
        mask: uint8 `[H, W]`, the numbers of the classes.
        scores: float32 `[classes, H, W]`, their probabilities; None where they were not asked for.
        confidence: float32 `[H, W]`, the probability of the likeliest class; None where it was not asked for.
    """

    picture: Picture
    mask: np.ndarray
    scores: np.ndarray | None = None
    confidence: np.ndarray | None = None


class Fault(NamedTuple):
    """A picture that could not be segmented, and why, a sentence."""

    name: str
    reason: str


class PreparedPicture(NamedTuple):
    """A picture, and what the network takes of it."""

    picture: Picture
    prepared: NetworkInput


# Of a batch: `[N, classes, h, w]`, integer `[N, h, w]`, or a list of what `Engine.finish` takes.
Outputs = Union[np.ndarray, List[Union[np.ndarray, MaskWithConfidence]]]


class Engine:
    """Segments pictures.

    Args:
        network: what `runtime` runs.
        runtime: one of `runtimes`, or dygraph.
        enlarge: gives logits `[classes, h, w]` the picture's size, by its `Sizes`.
        scores: with the probabilities of all classes; of a network that gives more than masks.
        confidence: with that of the likeliest class; the same holds.
        unknown_below: the mask is `postprocess.UNKNOWN` where the confidence, which has to be asked
            for, is below this.
        shortage: why there is too little memory for a picture of a width and height, or None.
    """

    cure = memory.CURE  # where the memory does not suffice

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
        """The pictures one after the other, in order.

        Args:
            pictures: of `Picture`.
            many: more than a few: a runtime that can works on several at a time.
        """
        for done in self.outputs(self.batches(pictures, 1), many):
            if isinstance(done, Fault):
                yield done
            else:
                (ready,), output = done
                yield self.finish(ready, output[0])

    def prepare(self, picture: Picture) -> NetworkInput:
        """What the network takes of a picture."""
        return self._network.preprocess(picture.pixels)

    def shape(self, prepared: NetworkInput) -> tuple[int, ...]:
        """`(C, H, W)` of what is run at a time."""
        return prepared.image.shape

    def logits(self, output: np.ndarray) -> np.ndarray:
        """What the runtime gave for a picture, as logits `[classes, h, w]`, unless it is a mask."""
        return logits_of(output, self._network.output_op)

    def batches(self, pictures: Iterable[Picture], batch_size: int) -> Iterator[list[PreparedPicture] | Fault]:
        """Up to `batch_size` pictures that have the same size when they are prepared, at a time."""
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
        """What the runtime gives for every batch, in order, and the faults among them."""
        begun: deque[tuple[list[Fault], list[PreparedPicture]]] = deque()  # a batch, and the faults before it
        faults: list[Fault] = []
        batches = iter(batches)
        broken = False

        def next_batch() -> list[PreparedPicture] | Fault | None:
            nonlocal broken
            try:
                return next(batches, None)
            except Exception:  # of the pictures, not of the runtime that asks for them
                broken = True
                raise

        def inputs() -> Iterator[np.ndarray]:
            for batch in iter(next_batch, None):
                if isinstance(batch, Fault):
                    faults.append(batch)
                elif batch:
                    begun.append((faults[:], batch))
                    faults.clear()
                    yield self._images(batch)

        while True:
            try:
                with translate_errors(self.cure):
                    for output in self._runtime.stream(inputs()) if many else map(self._runtime.run, inputs()):
                        before, batch = begun.popleft()
                        yield from before
                        yield batch, output
                yield from faults
                return
            except InputError:
                if broken:
                    raise
                while begun:  # whichever of those that are under way it was: once more, each alone
                    before, batch = begun.popleft()
                    yield from before
                    yield from self._alone(batch)

    def _alone(self, batch: list[PreparedPicture]) -> Iterator[tuple[list[PreparedPicture], Outputs] | Fault]:
        try:
            with translate_errors(self.cure):
                output = self._runtime.run(self._images(batch))
        except InputError as error:
            yield from (Fault(ready.picture.name, str(error)) for ready in batch)
        else:
            yield batch, output

    def _images(self, batch: list[PreparedPicture]) -> np.ndarray:
        """`[N, C, H, W]`; a fixed N is filled up with the last."""
        found = [ready.prepared.image for ready in batch]
        found += found[-1:] * ((self._network.input_shape[0] or 0) - len(found))
        return found[0][np.newaxis] if len(found) == 1 else np.stack(found)  # a copy costs as much as the looking up

    def finish(self, ready: PreparedPicture, output: np.ndarray | MaskWithConfidence) -> SegmentedPicture | Fault:
        """The mask of a picture, in the picture's size.

        Args:
            ready: the picture.
            output: its output: logits `[classes, h, w]`, an integer mask `[h, w]`, or `MaskWithConfidence`.

        Raises:
            InputError: the memory does not suffice, or a mask has no number for so many classes.
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
        """Refuse a network of too many classes.

        Raises:
            InputError: a mask has no number for so many classes.
        """
        check_classes(count)
        if self._unknown_below is not None:
            check_unknown(count)


class Sink(Protocol):
    """Where masks go: `mask_files.MaskFiles`, `video_writer.OverlayVideo`, `overlay_window.OverlayWindow`."""

    def write(self, found: SegmentedPicture) -> object:
        """Take what was found in a picture."""


def infer(
    engine: Engine,
    source: Pictures,
    sinks: Sequence[Sink],
    batch_size: int = 1,
    step: Callable[[], object] = lambda: None,
) -> None:
    """Give the mask of every picture to the sinks; `source.faults` has those that could not be segmented then.

    Reading, computing and writing go on at the same time, in order, a few pictures apart.

    Args:
        engine: segments.
        source: the pictures.
        sinks: where the masks go.
        batch_size: pictures of the same size at a time.
        step: called after every batch; `source.done` says how far it is.
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

    # A camera's frames have to be quick, each of them, and not many.
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
    """Turn what Paddle, NumPy, OpenCV and OpenVINO say where the memory does not suffice into one sentence.

    And what a runtime says of a model that it has loaded and cannot run.

    Raises:
        InputError: it does not suffice, or the model cannot be run.
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
    """Of `[classes, H, W]`."""
    powers = np.exp(logits - logits.max(axis=0))
    return powers / powers.sum(axis=0)
