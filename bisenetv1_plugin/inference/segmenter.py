"""Segment pictures from Python: `from bisenetv1_plugin import Segmenter`."""

from __future__ import annotations

import functools
import io
import os
import threading
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Iterator, Sequence, overload

import numpy as np
from PIL import Image

from bisenetv1_plugin import files, machine
from bisenetv1_plugin.drawing.painter import Painter, palette
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.engine import FEW, Engine, Fault, Segmented
from bisenetv1_plugin.inference.exported import load_export
from bisenetv1_plugin.inference.pixels import pictures_of
from bisenetv1_plugin.inference.regions import TOLERANCE, Region, find
from bisenetv1_plugin.inference.runtimes.select import select
from bisenetv1_plugin.inference.scores import with_logits
from bisenetv1_plugin.inference.sources import VIDEOS, Picture, Source
from bisenetv1_plugin.inference.windows import SlidingEngine, windows_of
from bisenetv1_plugin.libraries import needs_paddle

# A mask of 8 bits holds no more; an export that names no classes does not say how many it has.
_MOST = 256


@dataclass(repr=False, eq=False)  # arrays compare by element
class Segmentation:
    """What is where in one picture.

    Attributes:
        mask (numpy.ndarray): uint8 `[H, W]`, the number of the class of every pixel, in the picture's own size.
        classes (list[str]): the names of the classes, by number.
        colors (numpy.ndarray): their colors, uint8 RGB `[classes, 3]`.
        image (numpy.ndarray): the picture, uint8 RGB `[H, W, 3]`, upright where EXIF turns it.
        scores (numpy.ndarray, optional): float32 `[classes, H, W]`, the probability of every class, 0..1; only where
            `scores=True` was said.
    """

    mask: np.ndarray
    classes: list[str]
    colors: np.ndarray
    image: np.ndarray
    scores: np.ndarray | None = None

    @property
    def shares(self) -> dict[str, float]:
        """The share of the pixels that each class has, 0..1, by its name: every class, in order."""
        shares = dict.fromkeys(self.classes, 0.0)
        for name, count in zip(self.classes, np.bincount(self.mask.ravel(), minlength=len(self.classes))):
            shares[name] += float(count) / self.mask.size  # two classes may have one name
        return shares

    def regions(self, min_area: int = 1, tolerance: float = TOLERANCE) -> list[Region]:
        """The connected pieces of the mask with their classes, outlines, boxes and areas, the largest first.

        `bisenetv1_plugin.inference.regions.draw(found, height, width)` is the mask of such pieces.

        Args:
            min_area (int): pixels; smaller pieces are left out.
            tolerance (float): by how many pixels an outline may be simplified, see `regions.find`; 0: not at all.

        Returns:
            list[Region]: with a `confidence` each where there are `scores`.

        Raises:
            InputError: min_area or tolerance is below 0 or no number, or scores are none.
        """
        return find(self.mask, self.classes, self.scores, min_area, tolerance)

    def overlay(self, opacity: float = 0.5, legend: bool = True) -> np.ndarray:
        """The picture with the classes' colors over it.

        To save it: `PIL.Image.fromarray(result.overlay()).save("overlay.png")`.

        Args:
            opacity (float): of the colors, 0 (the picture alone) to 1 (the colors alone).
            legend (bool): the names and colors of the classes that are in the picture, on a white strip below it.

        Returns:
            numpy.ndarray: uint8 RGB `[H, W, 3]`; with the legend it is higher than the picture.

        Raises:
            InputError: the opacity is not between 0 and 1.
        """
        if not 0 <= opacity <= 1:
            raise InputError(f"opacity is {opacity}; it must be from 0 to 1.")
        painter = Painter(self.classes, self.colors)
        picture = painter.overlay(self.mask, self.image[..., ::-1], opacity)
        return np.ascontiguousarray((painter.with_legend(picture, self.mask) if legend else picture)[..., ::-1])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the mask as a gray PNG of the class numbers, as `bisenetv1 infer` does. For a picture: see `overlay`.

        Raises:
            InputError: the path does not end with .png: other formats change the numbers.
            OSError: the file cannot be written; it is not there then.
        """
        if not os.fspath(path).lower().endswith(".png"):
            raise InputError(
                f"{os.fspath(path)}: a mask is saved as .png, which keeps the class numbers. For a picture to look at: "
                "PIL.Image.fromarray(result.overlay()).save(path)."
            )
        files.write(path, _png(self.mask))

    def __repr__(self) -> str:
        height, width = self.mask.shape
        shares = sorted(self.shares.items(), key=lambda item: -item[1])
        return f"<{width}x{height}: {', '.join(f'{name} {share:.1%}' for name, share in shares if share)}>"

    def _repr_png_(self) -> bytes:
        """What a notebook shows."""
        return _png(self.overlay())


class Segmenter:
    """Segments pictures with an exported model, in the runtime that `bisenetv1 infer` would take.

        segmenter = Segmenter("output/inference_model")
        result = segmenter("street.jpg")
        print(result.shares)
        Image.fromarray(result.overlay()).save("overlay.png")

    One object may be used from several threads at a time.

    Args:
        exported (str or path): the folder of `bisenetv1 export` or PaddleSeg's tools/export.py, or its deploy.yaml.
        backend (str): 'paddle', 'onnxruntime' or 'openvino'; 'auto': the quickest at hand that runs the export rightly.
        device (str, optional): 'cpu' or 'gpu'; default: the GPU where a runtime that may be chosen finds one.
        precision (str, optional): 'fp32', 'bf16' or 'int8'; default: int8 for a quantized export, else fp32.
        cpu_threads (int, optional): threads on the CPU; default: as many as this process may use cores.
        crop_size, stride (sequence[int], optional): width and height of a sliding window and of its step, in pixels of
            the prepared picture; default: the whole picture at once. Where windows overlap, the mean of their logits
            counts, as in `bisenetv1 predict --is_slide`. For pictures that are larger than the memory.

    Attributes:
        classes (list[str]): the names of the classes, by number: '0', '1', ... where the export names none (up to
            '255', for it does not say how many they are either).
        colors (numpy.ndarray): their colors, uint8 RGB `[classes, 3]`.
        name (str): the runtime and its precision, such as 'openvino fp32'.

    Raises:
        InputError: a `ValueError`: there is no export, or nothing here can run it as was asked.
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
    ) -> None:
        export = load_export(exported)
        windows = windows_of(crop_size, stride)
        threads = machine.cores() if cpu_threads is None else cpu_threads
        choice = select(export, backend, device, precision, threads)
        logits = functools.lru_cache(1)(lambda: with_logits(export, choice))

        def make(scores: bool) -> Engine:
            if windows:
                return SlidingEngine(*logits(), windows, keeps_logits=scores)
            return Engine(*logits()) if scores else Engine(export, choice.runtime)

        self._set(choice.name, make, export.classes, export.colors)

    @classmethod
    def from_weights(
        cls, config: str | os.PathLike[str], weights: str | os.PathLike[str], device: str | None = None
    ) -> Segmenter:
        """A segmenter that needs no export: the network in dygraph, with the masks of `bisenetv1 predict`.

        Args:
            config (str or path): PaddleSeg's YAML configuration, with a `val_dataset`, whose transforms are used.
            weights (str or path): the trained weights, a .pdparams file.
            device (str, optional): 'cpu' or 'gpu', for all of Paddle in this process; default: the GPU if there is one.

        Raises:
            InputError: one of them cannot be used, or they do not fit one another; Paddle or PaddleSeg is missing.
        """
        with needs_paddle():
            from bisenetv1_plugin.training.dygraph import trained_engine

        segmenter = cls.__new__(cls)
        engine, classes, colors = trained_engine(os.fspath(config), os.fspath(weights), device)
        segmenter._set("dygraph fp32", lambda scores: engine, classes, colors)
        return segmenter

    def _set(self, name: str, make: Callable[[bool], Engine], classes: Any, colors: Any) -> None:
        """`make` makes an engine, that gives scores or not."""
        self._engine, self._make = make(False), make
        self._scoring: Engine | None = None
        self._lock = threading.Lock()
        self.name = name
        self.classes: list[str] = list(classes or map(str, range(_MOST)))
        self.colors: np.ndarray = palette(len(self.classes), colors)[: len(self.classes)]

    @overload
    def __call__(
        self, image: list[Any] | tuple[Any, ...], scores: bool = False, order: str | None = None
    ) -> list[Segmentation]: ...

    @overload
    def __call__(self, image: Any, scores: bool = False, order: str | None = None) -> Segmentation: ...

    def __call__(self, image: Any, scores: bool = False, order: str | None = None) -> Any:
        """Segment a picture, or several.

        Args:
            image: a path; the bytes of an image file; a NumPy array, uint8 `[H, W, 3]` or, gray, `[H, W]`; a PIL
                image; or a list or tuple of these. Files and PIL images are turned upright by their EXIF orientation,
                lose their transparency, and keep the upper eight of 16 bits, as in `bisenetv1 infer`.
            scores (bool): also keep the probability of every class. An export that ends in argmax has them only where
                OpenVINO or ONNX Runtime runs its ONNX model; others need `bisenetv1 export --output_op softmax`.
            order (str, optional): 'RGB' (Pillow, Matplotlib) or 'BGR' (OpenCV): what an array `[H, W, 3]` holds.

        Returns:
            Segmentation: or a list of them, in order, for a list or tuple.

        Raises:
            InputError: a picture cannot be read or does not fit the export; the message says which, why, and what
                would do.
        """
        several = image if isinstance(image, (list, tuple)) else [image]
        results = list(self._results(pictures_of(several, order), scores, len(several) > FEW))
        return results if several is image else results[0]

    def __reduce__(self) -> str:
        raise TypeError("a Segmenter cannot be pickled or copied: make one in each process.")

    def video(self, path: str | os.PathLike[str], scores: bool = False) -> Iterator[Segmentation]:
        """Segment the frames of a video, one after the other as they are asked for.

        Args:
            path (str or path): a file that ends with .avi, .mkv, .mov, .mp4 or .webm.
            scores (bool): see `__call__`.

        Raises:
            InputError: it cannot be read, at once; it ends before its last frame, after the last that can be read.
        """
        if not os.fspath(path).lower().endswith(VIDEOS):
            raise InputError(f"{os.fspath(path)} is no video; a video ends with {', '.join(VIDEOS)}.")
        return self._frames(Source(os.fspath(path)), scores)

    def _frames(self, source: Source, scores: bool) -> Iterator[Segmentation]:
        yield from self._results(source, scores, many=True)
        if source.faults:
            raise InputError(" ".join(source.faults))

    def _results(self, pictures: Iterable[Picture], scores: bool, many: bool) -> Iterator[Segmentation]:
        engine = self._engine_with_scores() if scores else self._engine
        for done in engine.run(pictures, scores, many):
            if isinstance(done, Fault):
                raise InputError(f"{done.name} does not fit: {done.reason}")
            yield self._result(done)

    def _engine_with_scores(self) -> Engine:
        with self._lock:
            if self._scoring is None:
                self._scoring = self._make(True)
            return self._scoring

    def _result(self, done: Segmented) -> Segmentation:
        image = np.ascontiguousarray(done.picture.pixels[..., ::-1])
        return Segmentation(done.mask, self.classes, self.colors, image, done.scores)


def _png(picture: np.ndarray) -> bytes:
    encoded = io.BytesIO()
    Image.fromarray(picture).save(encoded, "PNG")
    return encoded.getvalue()
