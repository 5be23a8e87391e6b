"""An exported model on images or a video: read, run, write."""

from __future__ import annotations

import re
from collections import deque
from contextlib import closing, contextmanager
from typing import Callable, Iterator, NamedTuple, Protocol, Sequence

import cv2
import numpy as np

from bisenetv1_plugin.errors import InputError, brief
from bisenetv1_plugin.inference.exported import Export
from bisenetv1_plugin.inference.pipeline import Behind, ahead
from bisenetv1_plugin.inference.postprocess import logits_of, of_output
from bisenetv1_plugin.inference.preprocess import Prepared
from bisenetv1_plugin.inference.runtimes.table import Runtime
from bisenetv1_plugin.inference.sources import Source


class Writer(Protocol):
    """Where masks go: `sinks.Writer`, `video_writer.OverlayVideo`, `window.Window`."""

    def write(self, name: str, mask: np.ndarray, pixels: np.ndarray, seconds: float) -> object:
        """Take the mask, uint8 `[H, W]`, of uint8 BGR `[H, W, 3]`, shown after `seconds` if it is a frame."""


# Paddle's words, OpenCV's, and two of OpenVINO's.
_NO_MEMORY = "ResourceExhausted|Insufficient memory|Failed to allocate|bad_alloc"
# Fewer pictures are not worth a runtime's second set-up for many at a time.
_FEW = 4


def infer(
    export: Export,
    runtime: Runtime,
    source: Source,
    writers: Sequence[Writer],
    batch_size: int = 1,
    step: Callable[[], object] = lambda: None,
) -> None:
    """Write the mask of every picture; those that cannot be read or do not fit are in `source.faults` then.

    Reading, computing and writing go on at the same time, in order, a few pictures apart.

    Args:
        export (Export): what `runtime` runs.
        runtime (Runtime): one of `runtimes.RUNTIMES`; without argmax in the export, it is taken here.
        source (Source): the pictures.
        writers (sequence[Writer]): where the masks go.
        batch_size (int): pictures of the same size at a time.
        step (callable): called after every batch; `source.done` says how far it is.
    """

    def write(batch: list[Picture], output: np.ndarray) -> None:
        for picture, found in zip(batch, logits_of(output, export.output_op)):
            mask = of_output(found, picture.prepared.trans_info)
            for writer in writers:
                writer.write(picture.name, mask, picture.pixels, picture.seconds)

    # A camera's frames have to be quick, each of them, and not many.
    live = source.frames is not None and source.frames.live
    few = live or (source.total is not None and source.total <= _FEW)
    with Behind(write, 4) as behind, closing(ahead(batches(source, export, batch_size), 2)) as read:
        for batch, output in _outputs(runtime, read, export.input_shape[0] or 0, few):
            if isinstance(output, InputError):
                source.faults += [f"{picture.name} was left out: {output}" for picture in batch]
            else:
                behind.do(batch, output)
            step()


def _outputs(
    runtime: Runtime, read: Iterator[list[Picture]], fixed: int, few: bool
) -> Iterator[tuple[list[Picture], np.ndarray | InputError]]:
    """What the runtime gives for every batch, in order; where the memory does not suffice, the sentence for it."""

    def images(batch: list[Picture]) -> np.ndarray:
        found = [picture.prepared.image for picture in batch]
        found += found[-1:] * (fixed - len(found))  # a fixed batch is full; `zip` drops these
        return found[0][np.newaxis] if len(found) == 1 else np.stack(found)  # a copy costs as much as the looking up

    begun: deque[list[Picture]] = deque()

    def inputs() -> Iterator[np.ndarray]:
        for batch in read:
            begun.append(batch)
            yield images(batch)

    while True:
        try:
            with naming_memory():
                for output in map(runtime.run, inputs()) if few else runtime.stream(inputs()):
                    yield begun.popleft(), output
            return
        except InputError:  # whichever of those that are under way it was: once more, each alone
            while begun:
                batch = begun.popleft()
                try:
                    with naming_memory():
                        output = runtime.run(images(batch))
                except InputError as error:
                    yield batch, error
                else:
                    yield batch, output


@contextmanager
def naming_memory() -> Iterator[None]:
    """Turn what Paddle, NumPy, OpenCV and OpenVINO say where the memory does not suffice into one sentence.

    And what a runtime says of a model that it has loaded and cannot run.

    Raises:
        InputError: it does not suffice, or the model cannot be run.
    """
    try:
        yield
    except (MemoryError, RuntimeError, cv2.error) as error:
        if isinstance(error, MemoryError) or re.search(_NO_MEMORY, str(error)):
            raise InputError("it needs more memory than there is; make it smaller, or cut it into tiles.") from error
        if not isinstance(error, RuntimeError):
            raise
        raise InputError(f"the runtime cannot run it ({brief(error)}).") from error


class Picture(NamedTuple):
    """One picture: its name, its pixels (uint8 BGR `[H, W, 3]`), what the transforms made of it, when it is shown."""

    name: str
    pixels: np.ndarray
    prepared: Prepared
    seconds: float


def batches(source: Source, export: Export, batch_size: int) -> Iterator[list[Picture]]:
    """Up to `batch_size` pictures that have the same size after the transforms and fit the export, at a time."""
    batch: list[Picture] = []
    for name, pixels in source:
        try:
            with naming_memory():
                prepared = export.prepare(pixels)
        except InputError as error:
            source.faults.append(f"{name} was left out: {error}")
            continue
        picture = Picture(name, pixels, prepared, source.frames.seconds if source.frames else 0.0)
        shape = prepared.image.shape
        misfit = export.misfit((batch_size, *shape))
        if misfit:
            source.faults.append(f"{name} was left out: {misfit}.")
            continue
        if batch and (len(batch) == batch_size or batch[0].prepared.image.shape != shape):
            yield batch
            batch = []
        batch.append(picture)
    if batch:
        yield batch
