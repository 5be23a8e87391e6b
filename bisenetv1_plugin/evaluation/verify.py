"""An export in every runtime at hand against the network in dygraph: logits, pixels, IoU and Acc of every class."""

from __future__ import annotations

import functools
import itertools
import tempfile
from dataclasses import dataclass
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np
import paddle
from paddleseg.core import infer

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
    """One of the few images that are shown.

    Attributes:
        number: its place in the data.
        image: what the network sees, float32 `[C, h, w]`.
        label: `[1, H, W]` or `[H, W]`.
        masks: dygraph's, then those of the runtimes, uint8 `[h, w]`.
    """

    number: int
    image: np.ndarray
    label: np.ndarray
    masks: list[np.ndarray]


@dataclass
class Verification:
    """What `verify` found.

    Attributes:
        images: how many were compared.
        classes: how many classes dygraph predicted anywhere.
        dygraph: PaddleSeg's metrics of dygraph's masks, as `val` has them.
        otherwise: why `infer` writes other masks than `val` sees, if it does: a sentence.
        verdicts: one for each runtime and precision that ran.
        shown: a few images.
        left_out: a sentence for each runtime that could not run here, and for logits that could not be had.
    """

    images: int
    classes: int
    dygraph: parity.Scores
    otherwise: str | None
    verdicts: list[parity.Verdict]
    shown: list[ExampleImage]
    left_out: list[str]

    @property
    def passed(self) -> bool:
        """Parity is shown for every runtime that ran."""
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
    """Run an export on the images of a validation dataset, in every runtime at hand, and compare.

    An export with argmax or softmax has no logits: those come from another that is made for it, the masks from itself.
    A quantized export has none.

    Args:
        model (paddle.nn.Layer): the trained network, in evaluation mode.
        export (Export): what was exported from that network.
        dataset (paddle.io.Dataset): with `num_classes` and `ignore_index`; gives `img`, `label` and `trans_info`.
        precisions (sequence[str]): among 'fp32', 'bf16' and 'int8'.
        cpu_threads (int): threads on the CPU.
        enable_mkldnn (bool): fp32 in Paddle Inference with oneDNN.
        progress: see `progress.Progress`.
        test_config (dict, optional): the configuration's, by which `val` slides a window or averages.
        backends (sequence[str]): the runtimes, of `RUNTIMES`.
        make_model (callable, optional): makes the network once more, for that other export, which leaves it converted.
            Without, the masks alone are compared of an export that has no logits.
        windows (SlidingWindows, optional): both sides slide a window, dygraph with PaddleSeg's `slide_inference`;
            default: whole images.

    Raises:
        InputError: no runtime can run here, or an image does not fit the export.
    """
    with tempfile.TemporaryDirectory() as folder:
        twin: Export | None = export
        no_logits = None
        if export.output_op == "softmax" or (export.output_op == "argmax" and not windows):
            twin = None
            if make_model:
                twin, no_logits = _logits_export(make_model(), export, folder)
        candidates, left_out = _candidates(
            export, twin, dataset, precisions, backends, cpu_threads, enable_mkldnn, windows
        )
        left_out = [*filter(None, [no_logits]), *left_out]
        if not candidates:
            raise InputError(" ".join([*left_out, "There is no runtime to compare with."]))
        reference = Reference(model, dataset, export.output_op, test_config or {}, windows)
        shown = compare(reference, dataset, candidates, progress)
    verdicts = [candidate.judge(reference.as_infer, len(dataset)) for candidate in candidates]
    otherwise = reference.otherwise()
    if otherwise:
        least = min(verdict.own_size or 0.0 for verdict in verdicts)
        otherwise = f"{otherwise} {1 - least:.4%} of the pixels differ."
    scores = reference.as_val.scores()
    return Verification(len(dataset), reference.as_val.classes, scores, otherwise, verdicts, shown, left_out)


def compare(
    reference: Reference,
    dataset: Any,
    candidates: Sequence[parity.Candidate],
    progress: Progress = silent,
) -> list[ExampleImage]:
    """Hold every candidate's answers against dygraph's, image by image; returns a few images for a picture.

    Raises:
        InputError: an image does not fit the export.
    """
    shown: list[ExampleImage] = []
    step = max(1, len(dataset) // _EXAMPLES)
    for index in progress(range(len(dataset)), desc="verify", unit="image"):
        sample = dataset[index]
        image = np.asarray(sample["img"], dtype="float32")[np.newaxis]
        answers = [candidate.answer(index, image, sample["trans_info"]) for candidate in candidates]
        logits = reference.logits(image)
        mask = reference.add(image, logits, sample)
        for candidate, answer in zip(candidates, answers):
            if answer:
                candidate.add(answer, reference.output_op, logits, sample, mask)
        given = [answer.output for answer in answers if answer]
        if index % step == 0 and len(shown) < _EXAMPLES and len(given) == len(candidates):
            masks = [mask_from_output(output, []) for output in (logits, *given)]
            shown.append(ExampleImage(index, image[0], np.asarray(sample["label"]), masks))
    return shown


class Reference:
    """The network in dygraph: its logits, and its masks in the pictures' own size, as `val` and as `infer` have them.

    Args:
        model (paddle.nn.Layer): in evaluation mode.
        dataset (paddle.io.Dataset): with `num_classes` and `ignore_index`.
        output_op (str): the export's.
        test_config (dict): the configuration's, by which `val` slides a window or averages.
        windows (SlidingWindows, optional): by which `infer` slides a window.

    Attributes:
        as_val, as_infer (parity.Tally): of both.
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
        self.output_op = "none" if windows else output_op  # what is averaged where windows overlap are logits
        self._augmented = bool(test_config.get("aug_eval"))
        self._slides = bool(test_config.get("is_slide"))
        self._options = {name: value for name, value in test_config.items() if name in _INFERENCE_KEYS}
        if self._augmented:
            self._options.update({name: value for name, value in test_config.items() if name in _AUGMENTATION_KEYS})
        self._resizes = False
        self.as_infer = parity.Tally(dataset.num_classes, dataset.ignore_index)
        self.as_val = parity.Tally(dataset.num_classes, dataset.ignore_index)

    def logits(self, image: np.ndarray) -> np.ndarray:
        """`[1, C, H, W]` -> `[classes, H, W]`, of the whole picture, or averaged over its windows."""
        with paddle.no_grad():
            if self._windows:
                crop_size, stride = self._windows.crop_size, self._windows.stride
                return infer.slide_inference(self._model, paddle.to_tensor(image), crop_size, stride)[0].numpy()
            return self._model(paddle.to_tensor(image))[0].numpy()[0]

    def add(self, image: np.ndarray, logits: np.ndarray, sample: dict[str, Any]) -> np.ndarray:
        """Count the masks of a picture; returns `val`'s, in the picture's own size."""
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

    def otherwise(self) -> str | None:
        """Why `infer` cannot write what `val` sees, a sentence; None if it can."""
        if self._augmented:
            return "val averages over scales and flips (test_config: aug_eval), and predict and infer do not."
        if self._slides and not self._windows:
            return "val and predict slide a window (test_config: is_slide), and infer does so with --is_slide alone."
        if self._resizes and self.output_op == "argmax":
            return (
                "val and predict enlarge the logits to the picture's size. This export ends in argmax, so infer "
                "enlarges the mask; `bisenetv1 export --output_op none` and `infer --with_argmax` give their masks."
            )
        return None


# Keys of a `test_config`, by the function of PaddleSeg's that takes them.
_INFERENCE_KEYS = ("is_slide", "crop_size", "stride")
_AUGMENTATION_KEYS = ("scales", "flip_horizontal", "flip_vertical")


# `[1, C, H, W]` -> what an export gives for it; InputError where it does not fit.
_Run = Callable[[np.ndarray], np.ndarray]


class _RuntimeCandidate(parity.Candidate):
    """What a runtime gives for an export, and for the one that gives logits."""

    def __init__(self, masks: _Run, logits: _Run | None, *judged: Any, **as_what: Any) -> None:
        super().__init__(*judged, **as_what)
        self._masks, self._logits = masks, logits

    def answer(self, index: int, image: np.ndarray, trans_info: list[Any]) -> parity.Answer:
        try:
            output = self._masks(image)
        except InputError as error:
            raise InputError(f"image {index} of the data does not fit: {error}") from error
        if self._logits is self._masks:
            return parity.Answer(output, output)
        return parity.Answer(output, self._logits(image) if self._logits else None)


def _logits_export(model: paddle.nn.Layer, export: Export, folder: str) -> tuple[Export, str | None]:
    """The same export again, without argmax; and a sentence where it has no ONNX model and should."""
    # "auto" goes on without the ONNX model and says why: an export leaves its model converted, and fit for no second.
    to = "auto" if export.onnx else "paddle"
    reason = write_export(model, folder, export.transform_list, export.input_shape, "none", to)
    return load_export(folder), f"no logits but Paddle's: {reason}" if reason else None


def _candidates(
    export: Export,
    twin: Export | None,
    dataset: Any,
    precisions: Sequence[str],
    backends: Sequence[str],
    cpu_threads: int,
    enable_mkldnn: bool,
    windows: SlidingWindows | None,
) -> tuple[list[_RuntimeCandidate], list[str]]:
    """The runtimes at hand, and a sentence for each of those that are not; `twin` gives logits."""
    candidates, left_out = [], []
    for backend, precision in itertools.product(backends, precisions):
        name = f"{backend} {precision}"
        options: dict[str, Any] = {"cpu_threads": cpu_threads, "precision": precision}
        if backend == "paddle":
            options["enable_mkldnn"] = enable_mkldnn
        make = functools.partial(RUNTIMES[backend], **options)
        try:
            masks = _run(export, make, name, windows)
        except InputError as error:
            left_out.append(f"{name} is not compared: {error}")
            continue
        logits = None
        if twin is export:
            logits = masks
        elif twin and precision != "int8" and (twin.onnx or backend == "paddle"):  # the twin is not quantized
            logits = _run(twin, make, name, windows)
        candidates.append(
            _RuntimeCandidate(
                *(masks, logits, name, dataset.num_classes, dataset.ignore_index, precision),
                exact=backend == "paddle" and not enable_mkldnn,
                needs_logits=twin is not None and precision != "int8",
            )
        )
    return candidates, left_out


def _run(export: Export, make: Callable[[Export], Runtime], name: str, windows: SlidingWindows | None) -> _Run:
    """What runs an export on an image, whole or by windows.

    Raises:
        InputError: this runtime cannot.
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
        """`[1, C, H, W]`, prepared already -> logits, `[classes, H, W]`."""
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
