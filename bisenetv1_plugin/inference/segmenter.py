"""Segment pictures from Python: `from bisenetv1_plugin import Segmenter`."""

from __future__ import annotations

import functools
import os
import threading
from typing import Any, Callable, Iterable, Iterator, Sequence, overload

import numpy as np

from bisenetv1_plugin import machine
from bisenetv1_plugin.drawing.painter import palette
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference import memory
from bisenetv1_plugin.inference.engine import FEW, Engine, Fault, SegmentedPicture
from bisenetv1_plugin.inference.exported_model import load_export
from bisenetv1_plugin.inference.image_arguments import to_pictures, to_pixels
from bisenetv1_plugin.inference.postprocess import UNKNOWN, check_probability, check_unknown
from bisenetv1_plugin.inference.remove_argmax import with_logits
from bisenetv1_plugin.inference.runtimes.select import select
from bisenetv1_plugin.inference.segmentation import Segmentation
from bisenetv1_plugin.inference.sliding_window import SlidingEngine, parse_windows
from bisenetv1_plugin.inference.sources import VIDEOS, Picture, Source
from bisenetv1_plugin.libraries import needs_paddle

# The most that a mask of 8 bits can number; an export without class names does not tell the number of classes.
_MOST = 256


class Segmenter:
    """Segments pictures with an exported model, in the same runtime as `bisenetv1 infer`.

        segmenter = Segmenter("output/inference_model")
        result = segmenter("street.jpg")
        print(result.shares)
        Image.fromarray(result.overlay()).save("overlay.png")

    One object may be used from several threads at a time.

    Args:
        exported: the folder of `bisenetv1 export` or PaddleSeg's tools/export.py, or its deploy.yaml.
        backend: 'paddle', 'onnxruntime' or 'openvino'; 'auto': the fastest installed one with correct masks.
        device: 'cpu' or 'gpu'; default: the GPU if a runtime that may be chosen finds one.
        precision: 'fp32', 'bf16' or 'int8'; default: int8 for a quantized export, else fp32.
        cpu_threads: threads on the CPU; default: one per core that this process may use.
        crop_size, stride: width and height of a sliding window and of its step, in pixels of
            the prepared picture; default: the whole picture at once. Where windows overlap, their logits are averaged,
            as in `bisenetv1 predict --is_slide`. Useful if a picture does not fit into memory.
        unknown_below: pixels whose class has a probability below this, 0..1, are 255 in the mask. The export must give
            probabilities, see `scores` of `__call__`.

    Attributes:
        classes (list[str]): the names of the classes, by number: '0', '1', ... if the export has no names (up to
            '255', or '254' with unknown_below, because the number of classes is then unknown).
        colors (numpy.ndarray): their colors, uint8 RGB `[classes, 3]`.
        name (str): the runtime and its precision, such as 'openvino fp32'.

    Raises:
        InputError: a `ValueError`: there is no export, or no installed runtime can run it with these arguments.
    """

    def __init__(
        self,
        exported: str | os.PathLike[str],
        backend: str = "auto",
        device: str | None = None,
        precision: str | None = None,
        cpu_threads: int | None = None,
        crop_size: Sequence[int] | None = None,
        stride: Sequence[int] | None = None,
        unknown_below: float | None = None,
    ) -> None:
        _check_unknown_below(unknown_below)
        export = load_export(exported)
        windows = parse_windows(crop_size, stride)
        threads = machine.cores() if cpu_threads is None else cpu_threads
        choice = select(export, backend, device, precision, threads)
        logits = functools.lru_cache(1)(lambda: with_logits(export, choice))

        def make(**wanted: Any) -> Engine:
            if windows:
                return SlidingEngine(*logits(), windows, **wanted)
            network = logits() if wanted["confidence"] else (export, choice.runtime)
            return Engine(*network, **wanted, shortage=functools.partial(memory.shortage, export, choice.name))

        self._configure(choice.name, make, export.classes, export.colors, unknown_below)

    @classmethod
    def from_weights(
        cls,
        config: str | os.PathLike[str],
        weights: str | os.PathLike[str],
        device: str | None = None,
        unknown_below: float | None = None,
    ) -> Segmenter:
        """A segmenter without an export: it runs the network in dygraph and gives the masks of `bisenetv1 predict`.

        Args:
            config: a YAML configuration of PaddleSeg; the transforms of its `val_dataset` are used.
            weights: the trained weights, a .pdparams file.
            device: 'cpu' or 'gpu'; it is set for all of Paddle in this process. Default: the GPU if there is one.
            unknown_below: see `Segmenter`.

        Raises:
            InputError: a file cannot be used, the two do not match, or Paddle or PaddleSeg is not installed.
        """
        _check_unknown_below(unknown_below)
        with needs_paddle():
            from bisenetv1_plugin.training.dygraph import load_engine_factory

        segmenter = cls.__new__(cls)
        make, classes, colors = load_engine_factory(os.fspath(config), os.fspath(weights), device)
        segmenter._configure("dygraph fp32", make, classes, colors, unknown_below)
        return segmenter

    def _configure(
        self, name: str, make: Callable[..., Engine], classes: Any, colors: Any, unknown_below: float | None
    ) -> None:
        """`make` creates an engine from keyword arguments: scores, confidence and unknown_below."""
        if unknown_below is not None:
            check_unknown(len(classes))
        self._make, self._unknown_below = make, unknown_below
        self._engines: dict[tuple[bool, bool], Engine] = {}
        self._lock = threading.Lock()
        self._engine(False, False)  # raises errors at once
        self.name = name
        self.classes: list[str] = list(classes or map(str, range(_MOST if unknown_below is None else UNKNOWN)))
        self.colors: np.ndarray = palette(len(self.classes), colors)[: len(self.classes)]

    @overload
    def __call__(
        self,
        image: list[Any] | tuple[Any, ...],
        scores: bool = False,
        order: str | None = None,
        confidence: bool = False,
    ) -> list[Segmentation]: ...

    @overload
    def __call__(
        self, image: Any, scores: bool = False, order: str | None = None, confidence: bool = False
    ) -> Segmentation: ...

    def __call__(self, image: Any, scores: bool = False, order: str | None = None, confidence: bool = False) -> Any:
        """Segment a picture, or several.

        Args:
            image: a path; the bytes of an image file; a NumPy array, uint8 `[H, W, 3]` or, gray, `[H, W]`; a PIL
                image; or a list or tuple of these. Files and PIL images are turned upright by their EXIF orientation,
                lose their transparency, and keep the upper 8 of 16 bits, as in `bisenetv1 infer`.
            scores: also return the probability of every class. If the export ends in argmax, this needs its ONNX model
                in OpenVINO or ONNX Runtime. Otherwise export with `bisenetv1 export --output_op softmax`.
            order: 'RGB' (Pillow, Matplotlib) or 'BGR' (OpenCV): the channel order of an array `[H, W, 3]`.
            confidence: also return the probability of the most likely class. It has the requirements of `scores`, but
                needs less memory.

        Returns:
            a Segmentation, or a list of them in order if `image` is a list or tuple.

        Raises:
            InputError: a picture cannot be read or does not fit the export, or the network returns NaN; the message
                says which picture, why, and what to do.
        """
        several = image if isinstance(image, (list, tuple)) else [image]
        engine = self._engine(scores, confidence)
        results = list(self._results(engine, to_pictures(several, order), len(several) > FEW))
        return results if several is image else results[0]

    def __reduce__(self) -> str:
        raise TypeError("a Segmenter cannot be pickled or copied: make one in each process.")

    def video(
        self, path: str | os.PathLike[str], scores: bool = False, confidence: bool = False
    ) -> Iterator[Segmentation]:
        """Segment the frames of a video lazily, one by one.

        Args:
            path: a file that ends with .avi, .mkv, .mov, .mp4 or .webm.
            scores, confidence: see `__call__`.

        Raises:
            InputError: the video cannot be opened. Or, after the last readable frame: it is cut off.
        """
        if not os.fspath(path).lower().endswith(VIDEOS):
            raise InputError(f"{os.fspath(path)} is not a video; a video ends with {', '.join(VIDEOS)}.")
        return self._frames(self._engine(scores, confidence), Source(os.fspath(path)))

    def _frames(self, engine: Engine, source: Source) -> Iterator[Segmentation]:
        yield from self._results(engine, source, many=True)
        if source.faults:
            raise InputError(" ".join(source.faults))

    def stream(
        self, arrays: Iterable[np.ndarray], order: str | None = None, confidence: bool = False, many: bool = True
    ) -> Iterator[Segmentation | InputError]:
        """Segment pictures lazily, in order. For a picture that fails, yield its InputError instead.

        Args:
            arrays, order, confidence: see `__call__`.
            many: let the runtime work on several at a time. It then reads further pictures before it yields the
                first result.

        Raises:
            InputError: an array is not a picture, or the export gives no confidence.
        """
        pictures = (Picture("the picture", to_pixels(array, order)) for array in arrays)
        return self._segment_each(self._engine(False, confidence), pictures, many)

    def _results(self, engine: Engine, pictures: Iterable[Picture], many: bool) -> Iterator[Segmentation]:
        for result in self._segment_each(engine, pictures, many):
            if isinstance(result, InputError):
                raise result
            yield result

    def _segment_each(
        self, engine: Engine, pictures: Iterable[Picture], many: bool
    ) -> Iterator[Segmentation | InputError]:
        for done in engine.run(pictures, many):
            if isinstance(done, Fault):
                yield InputError(f"{done.name} cannot be segmented: {done.reason}")
            else:
                yield self._result(done)

    def _engine(self, scores: bool, confidence: bool) -> Engine:
        kind = scores, confidence or scores or self._unknown_below is not None
        with self._lock:
            if kind not in self._engines:
                wanted = {"scores": kind[0], "confidence": kind[1], "unknown_below": self._unknown_below}
                self._engines[kind] = self._make(**wanted)
            return self._engines[kind]

    def _result(self, done: SegmentedPicture) -> Segmentation:
        image = np.ascontiguousarray(done.picture.pixels[..., ::-1])
        optional = (done.scores, done.confidence, self._unknown_below)
        return Segmentation(done.mask, self.classes, self.colors, image, *optional)


def _check_unknown_below(value: float | None) -> None:
    if value is not None:
        check_probability("unknown_below", value)
