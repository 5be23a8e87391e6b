"""An export in every runtime at hand against the network in dygraph: logits, pixels, IoU and Acc of every class."""

from __future__ import annotations

import itertools
import os
import tempfile
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Sequence

import numpy as np
import paddle

from bisenetv1_plugin.deploy import export as exporter
from bisenetv1_plugin.deploy import parity
from bisenetv1_plugin.deploy.exported import Export
from bisenetv1_plugin.deploy.masks import restore
from bisenetv1_plugin.deploy.runtimes import RUNTIMES, Runtime
from bisenetv1_plugin.errors import InputError

PARITY, NO_PARITY, NOT_SHOWN = "parity", "no parity", "parity not shown"
_SHOWN = 4


@dataclass
class Verdict:
    """One runtime in one precision against dygraph.

    Attributes:
        name: the runtime's and the precision's.
        comparison: of its answers with dygraph's.
        scores: PaddleSeg's metrics of its masks.
        verdict: `PARITY`, `NO_PARITY` or `NOT_SHOWN`.
        reason: why it is not the first, a sentence.
    """

    name: str
    comparison: parity.Comparison
    scores: parity.Scores
    verdict: str
    reason: str | None


@dataclass
class Verification:
    """What `verify` found.

    Attributes:
        images: how many were compared.
        classes: how many classes dygraph predicted anywhere.
        dygraph: PaddleSeg's metrics of dygraph's masks.
        verdicts: one for each runtime and precision that ran.
        rows: of a few images, what the network sees (`[C, H, W]` float32) and the masks of dygraph and every runtime.
        left_out: a sentence for each runtime that could not run here, and for logits that could not be had.
    """

    images: int
    classes: int
    dygraph: parity.Scores
    verdicts: list[Verdict]
    rows: list[tuple[np.ndarray, list[np.ndarray]]]
    left_out: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Parity is shown for every runtime that ran."""
        return all(verdict.verdict == PARITY for verdict in self.verdicts)


def verify(
    make_model: Callable[[], paddle.nn.Layer],
    export: Export,
    dataset: Any,
    precisions: Sequence[str] = ("fp32",),
    cpu_threads: int = 1,
    enable_mkldnn: bool = False,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Verification:
    """Run an export on the images of a validation dataset, in every runtime at hand, and compare.

    An export with argmax or softmax has no logits: those come from another that is made for it, the masks from itself.
    A quantised export has none.

    Args:
        make_model (callable): makes the trained network, in evaluation mode. Called twice: an export leaves its model
            converted.
        export (Export): what was exported from that network.
        dataset (paddle.io.Dataset): with `num_classes` and `ignore_index`; gives `img` and `label`.
        precisions (sequence[str]): among 'fp32', 'bf16' and 'int8'.
        cpu_threads (int): threads on the CPU.
        enable_mkldnn (bool): fp32 in Paddle Inference with oneDNN.
        progress (callable, optional): wraps the numbers of the images.

    Raises:
        InputError: no runtime can run here, or an image does not fit the export.
    """
    left_out: list[str] = []
    model = make_model()
    with tempfile.TemporaryDirectory() as folder:
        twin = export
        if export.output_op != "none":
            twin = _logits_export(make_model(), export, folder, left_out)
        contestants = _contestants(export, twin, dataset, precisions, cpu_threads, enable_mkldnn, left_out)
        reference, rows = _compare(model, dataset, contestants, export, progress)
    verdicts = [contestant.judge(reference) for contestant in contestants]
    return Verification(len(dataset), reference.classes, reference.scores(), verdicts, rows, left_out)


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

    def add(self, image: np.ndarray, reference_logits: np.ndarray) -> np.ndarray:
        """Run an image `[1, C, H, W]`; returns the mask, uint8 `[H, W]`."""
        output = self.masks.run(image)[0]
        if self.logits is self.masks:
            logits: np.ndarray | None = output
        else:
            logits = self.logits.run(image)[0] if self.logits else None
        mask = output.argmax(axis=0) if output.ndim == 3 else output
        self.comparison.add(reference_logits, mask, logits)
        return mask.astype("uint8")

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
        return Verdict(self.name, self.comparison, ours, verdict, fault or missing)


def _logits_export(model: paddle.nn.Layer, export: Export, folder: str, left_out: list[str]) -> Export:
    """The same export again, without argmax."""
    # "auto" goes on without the ONNX model and says why: an export leaves its model converted, and fit for no second.
    to = "auto" if export.onnx else "paddle"
    reason = exporter.save(model, folder, export.transform_list, export.input_shape, "none", to)
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
    model: paddle.nn.Layer,
    dataset: Any,
    contestants: list[_Contestant],
    export: Export,
    progress: Callable[[Iterable[int]], Iterable[int]],
) -> tuple[parity.Tally, list[tuple[np.ndarray, list[np.ndarray]]]]:
    """Run everything on every image; returns the `Tally` of dygraph, and the pictures of a few images."""
    reference = parity.Tally(dataset.num_classes, dataset.ignore_index)
    rows: list[tuple[np.ndarray, list[np.ndarray]]] = []
    step = max(1, len(dataset) // _SHOWN)
    for index in progress(range(len(dataset))):
        sample = dataset[index]
        image = np.asarray(sample["img"], dtype="float32")[np.newaxis]
        misfit = export.misfit(image.shape)
        if misfit:
            raise InputError(f"image {index} of the data does not fit: {misfit}.")
        logits = parity.dygraph_logits(model, image)
        masks = [logits.argmax(axis=0).astype("uint8"), *(runtime.add(image, logits) for runtime in contestants)]
        label = np.asarray(sample["label"])
        for tally, mask in zip([reference, *(runtime.tally for runtime in contestants)], masks):
            tally.add(restore(mask, sample["trans_info"]), label)
        if index % step == 0 and len(rows) < _SHOWN:
            rows.append((image[0], masks))
    return reference, rows
