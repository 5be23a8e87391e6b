"""Compare an export in every available runtime with the network in dygraph: logits, pixels, IoU and Acc."""

from __future__ import annotations

import functools
import itertools
import tempfile
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np
import paddle
from paddleseg.core import infer

from bisenetv1_plugin.compat.reader_failure import explanation
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.evaluation import parity
from bisenetv1_plugin.export.write import write_export
from bisenetv1_plugin.inference.engine import Fault, PreparedPicture
from bisenetv1_plugin.inference.exported_model import Export, load_export
from bisenetv1_plugin.inference.postprocess import mask_from_output
from bisenetv1_plugin.inference.preprocess import NetworkInput
from bisenetv1_plugin.inference.remove_argmax import with_logits
from bisenetv1_plugin.inference.runtimes import RUNTIMES, Runtime
from bisenetv1_plugin.inference.runtimes.select import Choice
from bisenetv1_plugin.inference.sliding_window import SlidingEngine, SlidingWindows
from bisenetv1_plugin.inference.sources import Picture
from bisenetv1_plugin.progress import Progress, silent

_EXAMPLES = 4


class ExampleImage(NamedTuple):
    """An image to show.

    Attributes:
        number: index in the dataset.
        image: the network's input, float32 `[C, h, w]`.
        label: `[1, H, W]` or `[H, W]`.
        masks: the masks of dygraph and then of the runtimes, uint8 `[h, w]`.
    """

    number: int
    image: np.ndarray
    label: np.ndarray
    masks: list[np.ndarray]


@dataclass
class Verification:
    """The result of `verify`.

    Attributes:
        images: number of compared images.
        classes: number of classes that dygraph predicted.
        dygraph: PaddleSeg's metrics of dygraph's masks, as in `val`.
        val_difference: why the masks of `infer` differ from those of `val`, a sentence; None if they do not.
        verdicts: one for each runtime and precision.
        shown: a few example images.
        skipped: a sentence for each runtime that cannot run here, and for missing logits.
    """

    images: int
    classes: int
    dygraph: parity.Scores
    val_difference: str | None
    verdicts: list[parity.Verdict]
    shown: list[ExampleImage]
    skipped: list[str]

    @property
    def passed(self) -> bool:
        """Whether every verdict is parity."""
        return all(verdict.verdict == parity.PARITY for verdict in self.verdicts)


def verify(
    model: paddle.nn.Layer,
    export: Export,
    dataset: Any,
    precisions: Sequence[str] = ("fp32",),
    cpu_threads: int = 1,
    enable_mkldnn: bool = False,
    progress: Progress = silent,
    test_config: dict[str, Any] | None = None,
    backends: Sequence[str] = tuple(RUNTIMES),
    make_model: Callable[[], paddle.nn.Layer] | None = None,
    windows: SlidingWindows | None = None,
) -> Verification:
    """Run an export on a validation dataset in every available runtime, and compare it with dygraph.

    An export with argmax or softmax has no logits. They come from a temporary export without these, the masks from
    `export`. Logits of a quantized export are compared only if it returns them.

    Args:
        model: the trained network, in evaluation mode.
        export: an export of this network.
        dataset: a PaddleSeg dataset with `num_classes` and `ignore_index`. Samples have `img`, `label`, `trans_info`.
        precisions: 'fp32', 'bf16' or 'int8'.
        cpu_threads: number of CPU threads.
        enable_mkldnn: use oneDNN for fp32 in Paddle Inference.
        progress: see `progress.Progress`.
        test_config: the `test_config` of the configuration, which controls sliding windows and averaging in `val`.
        backends: keys of `RUNTIMES`.
        make_model: creates the network again, for the temporary export; exporting a network modifies it. By default,
            only the masks are compared if `export` has no logits.
        windows: sliding windows for both sides; dygraph uses PaddleSeg's `slide_inference`. Default: whole images.

    Raises:
        InputError: no runtime is available, or an image cannot be read or does not fit the export.
    """
    with tempfile.TemporaryDirectory() as folder:
        logits_export: Export | None = export
        no_logits = None
        if export.output_op == "softmax" or (export.output_op == "argmax" and not windows):
            logits_export = None
            if make_model:
                logits_export, no_logits = _export_logits(make_model(), export, folder)
        candidates, skipped = _candidates(
            export, logits_export, dataset, precisions, backends, cpu_threads, enable_mkldnn, windows
        )
        skipped = [*filter(None, [no_logits]), *skipped]
        if not candidates:
            raise InputError(" ".join([*skipped, "There is no runtime to compare with."]))
        reference = Reference(model, dataset, export.output_op, test_config or {}, windows)
        shown = compare(reference, dataset, candidates, progress)
    verdicts = [candidate.judge(reference.as_infer, len(dataset)) for candidate in candidates]
    difference = reference.val_difference()
    if difference:
        least = min(verdict.own_size or 0.0 for verdict in verdicts)
        difference = f"{difference} {1 - least:.4%} of the pixels differ."
    scores = reference.as_val.scores()
    return Verification(len(dataset), reference.as_val.classes, scores, difference, verdicts, shown, skipped)


def compare(
    reference: Reference,
    dataset: Any,
    candidates: Sequence[parity.Candidate],
    progress: Progress = silent,
) -> list[ExampleImage]:
    """Compare every candidate with dygraph on all images; return a few example images.

    Raises:
        InputError: an image cannot be read, or does not fit the export.
    """
    shown: list[ExampleImage] = []
    step = max(1, len(dataset) // _EXAMPLES)
    for index in progress(range(len(dataset)), desc="verify", unit="image"):
        try:
            sample = dataset[index]
        except Exception as error:  # a dataset is the user's code
            raise InputError(explanation(dataset, [index], error)) from error
        image = np.asarray(sample["img"], dtype="float32")[np.newaxis]
        answers = [candidate.answer(index, image, sample["trans_info"]) for candidate in candidates]
        logits = reference.logits(image)
        mask = reference.add(image, logits, sample)
        for candidate, answer in zip(candidates, answers):
            if answer:
                candidate.add(answer, reference.output_op, logits, sample, mask)
        outputs = [answer.output for answer in answers if answer]
        if index % step == 0 and len(shown) < _EXAMPLES and len(outputs) == len(candidates):
            masks = [mask_from_output(output, []) for output in (logits, *outputs)]
            shown.append(ExampleImage(index, image[0], np.asarray(sample["label"]), masks))
    return shown


class Reference:
    """The network in dygraph: its logits, and its masks in the images' own size, as in `val` and as in `infer`.

    Args:
        model: the network, in evaluation mode.
        dataset: a PaddleSeg dataset with `num_classes` and `ignore_index`.
        output_op: the `output_op` of the export.
        test_config: the `test_config` of the configuration, which controls sliding windows and averaging in `val`.
        windows: the sliding windows of `infer`.

    Attributes:
        as_val, as_infer: the tallies of both kinds of masks.
    """

    def __init__(
        self,
        model: paddle.nn.Layer,
        dataset: Any,
        output_op: str,
        test_config: dict[str, Any],
        windows: SlidingWindows | None = None,
    ) -> None:
        self._model, self._windows = model, windows
        self.output_op = "none" if windows else output_op  # overlapping windows are averaged, which needs logits
        self._augmented = bool(test_config.get("aug_eval"))
        self._slides = bool(test_config.get("is_slide"))
        self._options = {name: value for name, value in test_config.items() if name in _INFERENCE_KEYS}
        if self._augmented:
            self._options.update({name: value for name, value in test_config.items() if name in _AUGMENTATION_KEYS})
        self._resizes = False
        self.as_infer = parity.Tally(dataset.num_classes, dataset.ignore_index)
        self.as_val = parity.Tally(dataset.num_classes, dataset.ignore_index)

    def logits(self, image: np.ndarray) -> np.ndarray:
        """Return the logits `[classes, H, W]` of an image `[1, C, H, W]`, whole or averaged over windows."""
        with paddle.no_grad():
            if self._windows:
                crop_size, stride = self._windows.crop_size, self._windows.stride
                return infer.slide_inference(self._model, paddle.to_tensor(image), crop_size, stride)[0].numpy()
            return self._model(paddle.to_tensor(image))[0].numpy()[0]

    def add(self, image: np.ndarray, logits: np.ndarray, sample: dict[str, Any]) -> np.ndarray:
        """Count the masks of an image; return that of `val`, in the image's own size."""
        label, trans_info = sample["label"], sample["trans_info"]
        mask = mask_from_output(logits.argmax(axis=0) if self.output_op == "argmax" else logits, trans_info)
        self.as_infer.add(mask, label)
        self._resizes |= any("resize" in str(kind) for kind, _ in trans_info)
        if self._slides or self._augmented or (trans_info and self.output_op == "argmax"):
            run = infer.aug_inference if self._augmented else infer.inference
            with paddle.no_grad():
                found, _ = run(self._model, paddle.to_tensor(image), trans_info=trans_info, **self._options)
            mask = found.numpy()[0, 0].astype("uint8")
        self.as_val.add(mask, label)
        return mask

    def val_difference(self) -> str | None:
        """Return why the masks of `infer` differ from those of `val`, a sentence, or None."""
        if self._augmented:
            return "val averages over scales and flips (test_config: aug_eval); predict and infer do not."
        if self._slides and not self._windows:
            return "val and predict slide a window (test_config: is_slide); infer does so only with --is_slide."
        if self._resizes and self.output_op == "argmax":
            return (
                "val and predict enlarge the logits to the image's size. This export ends in argmax, so infer "
                "enlarges the mask. For equal masks use `bisenetv1 export --output_op none` and `infer --with_argmax`."
            )
        return None


# Keys of `test_config` for PaddleSeg's `inference` and `aug_inference`.
_INFERENCE_KEYS = ("is_slide", "crop_size", "stride")
_AUGMENTATION_KEYS = ("scales", "flip_horizontal", "flip_vertical")


# Runs an export on an image `[1, C, H, W]` and returns the output; raises InputError if the image does not fit.
_Run = Callable[[np.ndarray], np.ndarray]


class _RuntimeCandidate(parity.Candidate):
    """A runtime with an export, and with an export that returns logits."""

    def __init__(self, masks: _Run, logits: _Run | None, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._masks, self._logits = masks, logits

    def answer(self, index: int, image: np.ndarray, trans_info: list[Any]) -> parity.Answer:
        try:
            output = self._masks(image)
        except InputError as error:
            raise InputError(f"image {index} of the dataset does not fit: {error}") from error
        if self._logits is self._masks:
            return parity.Answer(output, output)
        return parity.Answer(output, self._logits(image) if self._logits else None)


def _export_logits(model: paddle.nn.Layer, export: Export, folder: str) -> tuple[Export, str | None]:
    """Export the network again, without argmax. Return a sentence as well if the ONNX model is missing."""
    # "auto" continues without ONNX and returns the reason. Exporting modifies a model, so there is no second attempt.
    to = "auto" if export.onnx else "paddle"
    reason = write_export(model, folder, export.transform_list, export.input_shape, "none", to)
    return load_export(folder), f"logits are compared only for Paddle: {reason}" if reason else None


def _candidates(
    export: Export,
    logits_export: Export | None,
    dataset: Any,
    precisions: Sequence[str],
    backends: Sequence[str],
    cpu_threads: int,
    enable_mkldnn: bool,
    windows: SlidingWindows | None,
) -> tuple[list[_RuntimeCandidate], list[str]]:
    """Return the available runtimes, and a sentence for each of the others."""
    candidates, skipped = [], []
    for backend, precision in itertools.product(backends, precisions):
        name = f"{backend} {precision}"
        options: dict[str, Any] = {"cpu_threads": cpu_threads, "precision": precision}
        if backend == "paddle":
            options["enable_mkldnn"] = enable_mkldnn
        make = functools.partial(RUNTIMES[backend], **options)
        try:
            masks = _run(export, make, name, windows)
        except InputError as error:
            skipped.append(f"{name} is not compared: {error}")
            continue
        logits = None
        if logits_export is export:
            logits = masks
        # The other export is not quantized.
        elif logits_export and precision != "int8" and (logits_export.onnx or backend == "paddle"):
            logits = _run(logits_export, make, name, windows)
        candidates.append(
            _RuntimeCandidate(
                *(masks, logits, name, dataset.num_classes, dataset.ignore_index, precision),
                exact=backend == "paddle" and not enable_mkldnn,
                needs_logits=logits_export is not None and precision != "int8",
            )
        )
    return candidates, skipped


def _run(export: Export, make: Callable[[Export], Runtime], name: str, windows: SlidingWindows | None) -> _Run:
    """Return a function that runs an export on an image, whole or by windows.

    Raises:
        InputError: this runtime cannot run the export.
    """
    runtime = make(export)
    if windows:
        return _by_windows(*with_logits(export, Choice(runtime, name, [], make)), windows)

    def whole(image: np.ndarray) -> np.ndarray:
        shape_error = export.shape_error(image.shape)
        if shape_error:
            raise InputError(f"{shape_error}.")
        return runtime.run(image)[0]

    return whole


def _by_windows(export: Export, runtime: Runtime, windows: SlidingWindows) -> _Run:
    engine = SlidingEngine(export, runtime, windows, scores=True)

    def run(image: np.ndarray) -> np.ndarray:
        """Return the logits `[classes, H, W]` of a preprocessed image `[1, C, H, W]`."""
        prepared = NetworkInput(image[0], [])
        shape_error = export.shape_error((export.input_shape[0] or 1, *engine.shape(prepared)))
        if shape_error:
            raise InputError(f"{shape_error}.")
        (done,) = engine.outputs([[PreparedPicture(Picture("", image[0]), prepared)]], many=False)
        if isinstance(done, Fault):
            raise InputError(done.reason)
        (logits,) = done[1]
        return np.asarray(logits)

    return run
