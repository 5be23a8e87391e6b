"""Sliding-window inference, as PaddleSeg's `slide_inference`, in memory proportional to the picture's width."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterable, Iterator, Sequence

import numpy as np

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.engine import Engine, Fault, Network, Outputs, PreparedPicture, translate_errors
from bisenetv1_plugin.inference.postprocess import NO_NUMBERS, MaskWithConfidence, best_class, has_nan, logits_of
from bisenetv1_plugin.inference.preprocess import NetworkInput
from bisenetv1_plugin.inference.runtimes import Runtime
from bisenetv1_plugin.inference.sources import Picture
from bisenetv1_plugin.progress import Progress, silent

# Pixels: up to this size, a runtime may work on several windows at a time. A larger window keeps all cores busy, and
# takes hundreds of megabytes.
_SMALL = 512 * 512
_ROWS = 64  # processed at a time, because NumPy makes temporary copies
EXPORT_LOGITS = "export with `bisenetv1 export --output_op none`"


@dataclass(frozen=True)
class SlidingWindows:
    """The size and the step of a sliding window, each a width and a height in pixels.

    Raises:
        InputError: a value is not a whole number above 0, or a step is longer than the window.
    """

    crop_size: tuple[int, int]
    stride: tuple[int, int]

    def __post_init__(self) -> None:
        for size, step in zip(self.crop_size, self.stride):
            if type(size) is not int or type(step) is not int or not 0 < step <= size:
                raise InputError(
                    f"crop_size is {self.crop_size}, stride {self.stride}: give whole numbers above 0, a width and a "
                    "height each, and no stride longer than the window, which would leave pixels out."
                )

    def rows(self, height: int) -> list[tuple[int, int]]:
        """The begin and end of each window, from top to bottom. The last one ends at the picture's edge."""
        return _spans(height, self.crop_size[1], self.stride[1])

    def columns(self, width: int) -> list[tuple[int, int]]:
        """The begin and end of each window, from left to right."""
        return _spans(width, self.crop_size[0], self.stride[0])


def parse_windows(crop_size: Sequence[int] | None, stride: Sequence[int] | None) -> SlidingWindows | None:
    """Windows from a width and a height each; None if both arguments are None.

    Raises:
        InputError: only one argument is None, or see `SlidingWindows`.
    """
    if crop_size is None and stride is None:
        return None
    for name, sizes in (("crop_size", crop_size), ("stride", stride)):
        if not isinstance(sizes, (list, tuple)) or len(sizes) != 2:
            raise InputError(f"{name} is {sizes!r}: give crop_size and stride, a width and a height each.")
    numbers: list[Any] = [*crop_size, *stride]  # type: ignore[misc]
    width, height, right, down = (int(size) if isinstance(size, np.integer) else size for size in numbers)
    return SlidingWindows((width, height), (right, down))


def _spans(length: int, window: int, stride: int) -> list[tuple[int, int]]:
    last = max(length - window, 0)
    return [(begin, begin + min(window, length)) for begin in (*range(0, last, stride), last)]


class SlidingEngine(Engine):
    """Segments pictures window by window. Where windows overlap, their logits are averaged.

    Args:
        network: the network that `runtime` runs; it must return logits or probabilities.
        runtime: a runtime of `runtimes`.
        windows: the size and step of the windows.
        progress: wraps the loop over the windows of a picture.
        scores: see `Engine`. The logits of the whole picture are then in memory.
        confidence, unknown_below: see `Engine`.
    """

    cure = "make it smaller, or give a smaller window"

    def __init__(
        self,
        network: Network,
        runtime: Runtime,
        windows: SlidingWindows,
        progress: Progress = silent,
        scores: bool = False,
        confidence: bool = False,
        unknown_below: float | None = None,
    ) -> None:
        super().__init__(network, runtime, scores=scores, confidence=confidence, unknown_below=unknown_below)
        self._windows, self._progress = windows, progress

    def prepare(self, picture: Picture) -> NetworkInput:
        return self._network.preprocess.lazy_input(picture.pixels)

    def shape(self, prepared: NetworkInput) -> tuple[int, ...]:
        channels, height, width = prepared.image.shape
        return (channels, min(height, self._windows.crop_size[1]), min(width, self._windows.crop_size[0]))

    def batches(self, pictures: Iterable[Picture], batch_size: int) -> Iterator[list[PreparedPicture] | Fault]:
        """Batches of one picture, because its windows are run one by one."""
        return super().batches(pictures, 1)

    def outputs(
        self, batches: Iterable[list[PreparedPicture] | Fault], many: bool
    ) -> Iterator[tuple[list[PreparedPicture], Outputs] | Fault]:
        """The output for one picture at a time, in a list; see `finish`."""
        for batch in batches:
            if isinstance(batch, Fault):
                yield batch
                continue
            (ready,) = batch
            try:
                with translate_errors(self.cure):
                    output = self._slide(ready)
            except InputError as error:
                yield Fault(ready.picture.name, str(error))
            else:
                yield batch, [output]

    def logits(self, output: np.ndarray) -> np.ndarray:
        return output

    def _slide(self, ready: PreparedPicture) -> np.ndarray | MaskWithConfidence:
        image, sizes = ready.prepared
        _, height, width = image.shape
        rows, columns = self._windows.rows(height), self._windows.columns(width)
        places = [(row, column) for row in rows for column in columns]
        windows = (self._repeat(image[:, slice(*row), slice(*column)]) for row, column in places)
        is_small = self._windows.crop_size[0] * self._windows.crop_size[1] <= _SMALL
        runs = self._runtime.stream(windows) if is_small else map(self._runtime.run, windows)
        # If the transforms resized the picture, logits are resized back before the best class is taken.
        mean = _LogitMean(rows, columns, self._scores or bool(sizes), self._confidence)
        named = self._progress(places, desc=ready.picture.name, unit="window")
        for (row, column), output in zip(named, runs):
            mean.add(row, column, self._check_logits(output))
        return mean.finish()

    def _repeat(self, window: np.ndarray) -> np.ndarray:
        """`[N, C, h, w]`: the window, repeated if the network has a fixed N."""
        return np.repeat(window[np.newaxis], self._network.input_shape[0] or 1, axis=0)

    def _check_logits(self, output: np.ndarray) -> np.ndarray:
        if output.ndim != 4:
            raise InputError(f"a sliding window needs logits, and the network gives masks: {EXPORT_LOGITS}.")
        self.check_classes(output.shape[1])
        logits = logits_of(output[0], self._network.output_op)
        if has_nan(logits):
            raise InputError(NO_NUMBERS)
        return logits


class _LogitMean:
    """Averages the logits of windows. Only rows that later windows touch are kept, unless all logits are requested.

    Args:
        rows, columns: the begin and end of the windows.
        keeps_logits: return logits instead of a mask.
        confidence: return a mask with its confidence.
    """

    def __init__(
        self, rows: list[tuple[int, int]], columns: list[tuple[int, int]], keeps_logits: bool, confidence: bool
    ) -> None:
        self._height, self._width = rows[-1][1], columns[-1][1]
        self._rows, self._columns = _counts(rows), _counts(columns)
        self._band_height = rows[0][1]
        self._keeps_logits, self._confidence = keeps_logits, confidence
        self._top = 0  # the first row of the band, in the picture

    def add(self, row: tuple[int, int], column: tuple[int, int], logits: np.ndarray) -> None:
        """Add the logits of a window, `[classes, h, w]`. Windows must come from top to bottom."""
        if not self._top and not row[0] and not column[0]:
            self._begin(len(logits))
        if row[0] > self._top:
            self._finish_rows(row[0])
        self._band[:, :, slice(*column)] += logits

    def finish(self) -> np.ndarray | MaskWithConfidence:
        """The mask, uint8 `[H, W]`, the mask and its confidence, or the logits, float32 `[classes, H, W]`."""
        self._finish_rows(self._height)
        return self._whole

    def _begin(self, classes: int) -> None:
        self._band = np.zeros((classes, self._band_height, self._width), "float32")
        size = (self._height, self._width)
        self._whole: np.ndarray | MaskWithConfidence
        if self._keeps_logits:
            self._whole = np.empty((classes, *size), "float32")
        elif self._confidence:
            self._whole = MaskWithConfidence(np.empty(size, "uint8"), np.empty(size, "float32"))
        else:
            self._whole = np.empty(size, "uint8")

    def _finish_rows(self, bottom: int) -> None:
        """Finish the rows above `bottom`, which no later window touches."""
        for top in range(self._top, bottom, _ROWS):
            rows = slice(top, min(top + _ROWS, bottom))
            windows = np.outer(self._rows[rows], self._columns)  # that contain a pixel
            mean = self._band[:, rows.start - self._top : rows.stop - self._top] / windows
            if isinstance(self._whole, MaskWithConfidence):
                self._whole.mask[rows], self._whole.confidence[rows] = best_class(mean)
            else:
                self._whole[..., rows, :] = mean if self._keeps_logits else mean.argmax(axis=0)
        done, held = bottom - self._top, self._band_height - (bottom - self._top)
        for plane in self._band:  # one at a time, because NumPy makes a copy
            plane[:held] = plane[done:]
            plane[held:] = 0
        self._top = bottom


def _counts(places: list[tuple[int, int]]) -> np.ndarray:
    """How many windows contain each pixel of a line."""
    counts = np.zeros(places[-1][1], "float32")
    for begin, end in places:
        counts[begin:end] += 1
    return counts
