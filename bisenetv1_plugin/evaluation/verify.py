"""An export in every runtime at hand against the network in dygraph: logits, pixels, IoU and Acc of every class."""

from __future__ import annotations

import itertools
import os
import tempfile
from dataclasses import dataclass, field
from typing import Any, Callable, Sequence

import numpy as np
import paddle
from paddleseg.core import infer

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.evaluation import parity
from bisenetv1_plugin.export.write import write_export
from bisenetv1_plugin.inference.exported import Export
from bisenetv1_plugin.inference.postprocess import logits_of, of_output
from bisenetv1_plugin.inference.runtimes import RUNTIMES, Runtime
from bisenetv1_plugin.progress import Progress, silent

PARITY, NO_PARITY, NOT_SHOWN = "parity", "no parity", "parity not shown"
_SHOWN = 4


@dataclass
class Verdict:
    """One runtime in one precision against dygraph.

    Attributes:
        name: the runtime's and the precision's.
        comparison: of its answers with dygraph's, at the size that the network sees.
        scores: PaddleSeg's metrics of its masks, as `infer` writes them.
        own_size: the share of the pixels of those masks that are the same as `val`'s.
        verdict: `PARITY`, `NO_PARITY` or `NOT_SHOWN`.
        reason: why it is not the first, a sentence.
    """

    name: str
    comparison: parity.Comparison
    scores: parity.Scores
    own_size: float
    verdict: str
    reason: str | None


@dataclass
class Verification:
    """What `verify` found.

    Attributes:
        images: how many were compared.
        classes: how many classes dygraph predicted anywhere.
        dygraph: PaddleSeg's metrics of dygraph's masks, as `val` has them.
        otherwise: why `infer` writes other masks than `val` sees, if it does: a sentence.
        verdicts: one for each runtime and precision that ran.
        rows: of a few images, what the network sees (`[C, H, W]` float32) and the masks of dygraph and every runtime.
        left_out: a sentence for each runtime that could not run here, and for logits that could not be had.
    """

    images: int
    classes: int
    dygraph: parity.Scores
    otherwise: str | None
    verdicts: list[Verdict]
    rows: list[tuple[np.ndarray, list[np.ndarray]]]
    left_out: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Parity is shown for every runtime that ran."""
        return all(verdict.verdict == PARITY for verdict in self.verdicts)


def verify(
    model: paddle.nn.Layer,
    make_model: Callable[[], paddle.nn.Layer],
    export: Export,
    dataset: Any,
    precisions: Sequence[str] = ("fp32",),
    cpu_threads: int = 1,
    enable_mkldnn: bool = False,
    progress: Progress = silent,
    test_config: dict[str, Any] | None = None,
) -> Verification:
    """Run an export on the images of a validation dataset, in every runtime at hand, and compare.

    An export with argmax or softmax has no logits: those come from another that is made for it, the masks from itself.
    A quantised export has none.

    Args:
        model (paddle.nn.Layer): the trained network, in evaluation mode.
        make_model (callable): makes it once more, for the other export: an export leaves its model converted.
        export (Export): what was exported from that network.
        dataset (paddle.io.Dataset): with `num_classes` and `ignore_index`; gives `img` and `label`.
        precisions (sequence[str]): among 'fp32', 'bf16' and 'int8'.
        cpu_threads (int): threads on the CPU.
        enable_mkldnn (bool): fp32 in Paddle Inference with oneDNN.
        progress: see `progress.Progress`.
        test_config (dict, optional): the configuration's, by which `val` slides a window or averages.

    Raises:
        InputError: no runtime can run here, or an image does not fit the export.
    """
    left_out: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        twin = export
        if export.output_op != "none":
            twin = _logits_export(make_model(), export, folder, left_out)
        contestants = _contestants(export, twin, dataset, precisions, cpu_threads, enable_mkldnn, left_out)
        dygraph = _Dygraph(model, dataset, test_config or {}, export)
        rows = _compare(dygraph, dataset, contestants, export, progress)
    verdicts = [contestant.judge(dygraph.as_infer) for contestant in contestants]
    least = min(verdict.own_size for verdict in verdicts)
    otherwise = dygraph.otherwise() and f"{dygraph.otherwise()} {1 - least:.4%} of the pixels differ."
    scores = dygraph.as_val.scores()
    return Verification(len(dataset), dygraph.as_val.classes, scores, otherwise, verdicts, rows, left_out)


class _Dygraph:
    """The network in dygraph: its logits, and its masks in the pictures' own size, as `val` and as `infer` have them.

    Attributes:
        as_val, as_infer (parity.Tally): of both; the same object where there is no difference.
    """

    def __init__(self, model: paddle.nn.Layer, dataset: Any, test_config: dict[str, Any], export: Export) -> None:
        self._model, self._op = model, export.output_op
        self._augmented = bool(test_config.get("aug_eval"))
        self._slides = bool(test_config.get("is_slide"))
        self._options = {name: value for name, value in test_config.items() if name in _OF_INFERENCE}
        if self._augmented:
            self._options.update({name: value for name, value in test_config.items() if name in _OF_AUGMENTATION})
        self._resizes = False
        self.as_infer = parity.Tally(dataset.num_classes, dataset.ignore_index)
        self.as_val = parity.Tally(dataset.num_classes, dataset.ignore_index)

    def logits(self, image: np.ndarray) -> np.ndarray:
        """`[1, C, H, W]` -> `[classes, H, W]`, of the whole picture."""
        return parity.dygraph_logits(self._model, image)

    def add(self, image: np.ndarray, logits: np.ndarray, trans_info: list[Any], label: np.ndarray) -> np.ndarray:
        """Count the masks of a picture; returns `val`'s, in the picture's own size."""
        mask = of_output(logits.argmax(axis=0) if self._op == "argmax" else logits, trans_info)
        self.as_infer.add(mask, label)
        self._resizes |= any("resize" in str(kind) for kind, _ in trans_info)
        if self._slides or self._augmented or (trans_info and self._op == "argmax"):
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
        if self._slides:
            return "val and predict slide a window (test_config: is_slide), and infer takes the whole picture."
        if self._resizes and self._op == "argmax":
            return (
                "val and predict enlarge the logits to the picture's size. This export ends in argmax, so infer "
                "enlarges the mask; `bisenetv1 export --output_op none` and `infer --with_argmax` give their masks."
            )
        return None


# Keys of a `test_config`, by the function of PaddleSeg's that takes them.
_OF_INFERENCE = ("is_slide", "crop_size", "stride")
_OF_AUGMENTATION = ("scales", "flip_horizontal", "flip_vertical")


@dataclass
class _Contestant:
    """One runtime in one precision, and its answers so far."""

    name: str
    precision: str
    exact: bool  # IoU and Acc of every class must be dygraph's to four decimals
    masks: Runtime  # runs the export
    logits: Runtime | None  # runs the one that gives logits; None if there is none
    tally: parity.Tally
    comparison: parity.Comparison = field(default_factory=parity.Comparison)
    pixels: int = 0
    equal: int = 0

    def add(self, image: np.ndarray, reference_logits: np.ndarray) -> np.ndarray:
        """Run an image `[1, C, H, W]`; returns what the export gives for it."""
        output = self.masks.run(image)[0]
        if self.logits is self.masks:
            logits: np.ndarray | None = output
        else:
            logits = self.logits.run(image)[0] if self.logits else None
        mask = output.argmax(axis=0) if output.ndim == 3 else output
        self.comparison.add(reference_logits, mask, logits)
        return output

    def add_own_size(self, mask: np.ndarray, expected: np.ndarray, label: np.ndarray) -> None:
        """Count a mask as `infer` writes it, and the pixels that are as `val` has them."""
        self.tally.add(mask, label)
        self.pixels += mask.size
        self.equal += int((mask == expected).sum())

    def judge(self, reference: parity.Tally) -> Verdict:
        """Against the `Tally` of dygraph."""
        ours, theirs = self.tally.scores(), reference.scores()
        if self.precision != "fp32":
            fault = self.comparison.reduced_fault(self.precision, theirs, ours)
        else:
            fault = self.comparison.fault() or (parity.figure_fault(theirs, ours) if self.exact else None)
        has_logits = self.comparison.max_difference is not None or self.precision == "int8"
        missing = None if has_logits else "there are no logits to compare."
        missing = missing or parity.too_few(min(reference.classes, self.tally.classes), len(theirs.class_iou))
        verdict = NO_PARITY if fault else NOT_SHOWN if missing else PARITY
        return Verdict(self.name, self.comparison, ours, self.equal / self.pixels, verdict, fault or missing)


def _logits_export(model: paddle.nn.Layer, export: Export, folder: str, left_out: list[str]) -> Export:
    """The same export again, without argmax."""
    # "auto" goes on without the ONNX model and says why: an export leaves its model converted, and fit for no second.
    to = "auto" if export.onnx else "paddle"
    reason = write_export(model, folder, export.transform_list, export.input_shape, "none", to)
    if reason:
        left_out.append(f"no logits but Paddle's: {reason}")
    return Export(os.path.join(folder, "deploy.yaml"))


def _contestants(
    export: Export,
    twin: Export,
    dataset: Any,
    precisions: Sequence[str],
    cpu_threads: int,
    enable_mkldnn: bool,
    left_out: list[str],
) -> list[_Contestant]:
    """The runtimes at hand; `left_out` gets a sentence for those that are not."""
    contestants = []
    for backend, precision in itertools.product(RUNTIMES, precisions):
        options: dict[str, Any] = {"cpu_threads": cpu_threads, "precision": precision}
        if backend == "paddle":
            options["enable_mkldnn"] = enable_mkldnn
        try:
            masks = RUNTIMES[backend](export, **options)
        except InputError as error:
            left_out.append(f"{backend} {precision} is not compared: {error}")
            continue
        if twin is export:
            logits = masks
        elif precision == "int8":
            logits = None  # the twin is not quantised
        else:
            logits = RUNTIMES[backend](twin, **options) if twin.onnx or backend == "paddle" else None
        exact = backend == "paddle" and not enable_mkldnn
        tally = parity.Tally(dataset.num_classes, dataset.ignore_index)
        contestants.append(_Contestant(f"{backend} {precision}", precision, exact, masks, logits, tally))
    if not contestants:
        raise InputError(" ".join([*left_out, "There is no runtime to compare with."]))
    return contestants


def _compare(
    dygraph: _Dygraph,
    dataset: Any,
    contestants: list[_Contestant],
    export: Export,
    progress: Progress,
) -> list[tuple[np.ndarray, list[np.ndarray]]]:
    """Run everything on every image; returns the pictures of a few images."""
    rows: list[tuple[np.ndarray, list[np.ndarray]]] = []
    step = max(1, len(dataset) // _SHOWN)
    for index in progress(range(len(dataset)), desc="verify", unit="image"):
        sample = dataset[index]
        image = np.asarray(sample["img"], dtype="float32")[np.newaxis]
        misfit = export.misfit(image.shape)
        if misfit:
            raise InputError(f"image {index} of the data does not fit: {misfit}.")
        logits = dygraph.logits(image)
        outputs = [contestant.add(image, logits) for contestant in contestants]
        label, trans_info = np.asarray(sample["label"]), sample["trans_info"]
        expected = dygraph.add(image, logits, trans_info, label)
        for contestant, output in zip(contestants, outputs):
            mask = of_output(logits_of(output, export.output_op), trans_info)
            contestant.add_own_size(mask, expected, label)
        if index % step == 0 and len(rows) < _SHOWN:
            rows.append((image[0], [of_output(found, []) for found in (logits, *outputs)]))
    return rows
