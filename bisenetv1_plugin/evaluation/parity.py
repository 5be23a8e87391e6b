"""Decide on parity: whether an export gives the same results as the network in dygraph, by pixel and by class.

`bisenetv1 verify`, `bisenetv1 demo` and TIPC use it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Iterable, NamedTuple, Sequence

import numpy as np
import paddle
from paddleseg.utils import metrics

from bisenetv1_plugin.evaluation import text_table
from bisenetv1_plugin.inference.postprocess import logit_tolerance, logits_of, mask_from_output

PARITY, NO_PARITY, NOT_SHOWN = "parity", "no parity", "parity not shown"

AGREEMENT = 0.9999  # share of the pixels; the others must have close best classes, see `logit_tolerance`
# IoU and Acc of a class must be equal to four decimals. The difference is checked, because rounding would separate
# 0.37046 and 0.37044.
CLASS_TOLERANCE = 5e-5
# For reduced precisions: the minimum agreement and the maximum change of the mIoU. bf16 has 8 bits of mantissa, so its
# logits differ in the second decimal. In int8, a network of 100 iterations (mIoU 0.149) kept 88 % of the pixels.
REDUCED_LIMITS = {"bf16": (0.95, 0.003), "fp16": (0.95, 0.003), "int8": (0.8, 0.01)}


@dataclass
class Scores:
    """mIoU, pixel accuracy, and IoU and accuracy of every class (precision, as in PaddleSeg's log), 0..1."""

    miou: float
    acc: float
    class_iou: np.ndarray
    class_acc: np.ndarray

    def rounded(self) -> list[list[float]]:
        """Return IoU and accuracy of every class, rounded to four decimals."""
        return [[round(float(value), 4) for value in values] for values in (self.class_iou, self.class_acc)]

    def figures(self) -> dict[str, Any]:
        """Return all figures under their names in JSON files."""
        class_iou, class_acc = self.rounded()
        return {"miou": self.miou, "acc": self.acc, "class_iou": class_iou, "class_acc": class_acc}


class Tally:
    """PaddleSeg's metrics over all added masks."""

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        self._num_classes, self._ignore_index = num_classes, ignore_index
        self._areas: list[Any] = [0, 0, 0]
        self._predicted = np.zeros(num_classes, bool)

    def add(self, mask: np.ndarray, label: np.ndarray) -> None:
        """Add a mask `[H, W]` and its label, `[1, H, W]` or `[H, W]`."""
        self._predicted[np.unique(mask)] = True
        areas = metrics.calculate_area(
            paddle.to_tensor(mask.astype("int64")[np.newaxis]),
            paddle.to_tensor(np.asarray(label).astype("int64").reshape(1, *mask.shape)),
            self._num_classes,
            self._ignore_index,
        )
        self._areas = [total + area for total, area in zip(self._areas, areas)]

    @property
    def classes(self) -> int:
        """Number of predicted classes."""
        return int(self._predicted.sum())

    def scores(self) -> Scores:
        class_iou, miou = metrics.mean_iou(*self._areas)
        acc, class_precision, _ = metrics.class_measurement(*self._areas)
        return Scores(float(miou), float(acc), np.asarray(class_iou), np.asarray(class_precision))


@dataclass
class Comparison:
    """Differences between a runtime and dygraph, over all added images.

    Attributes:
        agreement: share of equal pixels, 0..1.
        widest_margin: largest gap between dygraph's two best logits among the pixels that differ; 0 if none differ.
        max_difference, mean_difference: differences of the logits; NaN if a logit is NaN, None without logits.
    """

    widest_margin: float = 0.0
    max_difference: float | None = None
    _pixels: int = field(default=0, repr=False)
    _different: int = field(default=0, repr=False)
    _logits: int = field(default=0, repr=False)
    _difference: float = field(default=0.0, repr=False)
    # Of the image that is nearest to its own limit, `logit_tolerance`, or most beyond it: the share of the limit, the
    # value and the limit. A limit for all images would let one with huge logits excuse the others.
    _worst_margin: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0), repr=False)
    _worst_difference: tuple[float, float, float] = field(default=(0.0, 0.0, 0.0), repr=False)

    def add(self, logits: np.ndarray, mask: np.ndarray, runtime_logits: np.ndarray | None = None) -> None:
        """Add dygraph's logits `[classes, H, W]`, and the runtime's mask `[H, W]` and logits if it has them."""
        limit = logit_tolerance(logits)
        differs = logits.argmax(axis=0) != mask
        self._pixels += mask.size
        self._different += int(differs.sum())
        if differs.any() and len(logits) > 1:
            second, first = np.sort(logits[:, differs], axis=0)[-2:]
            margin = float((first - second).max())
            self.widest_margin = max(self.widest_margin, margin)
            self._worst_margin = max(self._worst_margin, (margin / limit, margin, limit))
        if runtime_logits is not None:
            difference = np.abs(logits.astype("float64") - runtime_logits)
            largest = float(difference.max())
            self.max_difference = float(np.maximum(self.max_difference or 0.0, largest))  # keeps NaN
            self._worst_difference = max(self._worst_difference, (largest / limit, largest, limit))
            self._logits += difference.size
            self._difference += float(difference.sum())

    @property
    def agreement(self) -> float:
        return 1 - self._different / self._pixels

    @property
    def mean_difference(self) -> float | None:
        return self._difference / self._logits if self._logits else None

    def fault(self) -> str | None:
        """Return why this is not parity in fp32, a sentence, or None."""
        if self.agreement < AGREEMENT:
            return f"prediction and inference agree on only {self.agreement:.4%} of the pixels."
        share, margin, limit = self._worst_margin
        if share >= 1:
            return f"they differ on a pixel whose two best classes are {margin:.1e} apart (limit {limit:.2g})."
        if np.isnan(self.max_difference or 0.0):
            return "some logits are NaN: check the weights."
        share, difference, limit = self._worst_difference
        if share >= 1:
            return f"their logits differ by up to {difference:.1e} (limit {limit:.2g})."
        return None

    def reduced_fault(self, precision: str, prediction: Scores, inference: Scores) -> str | None:
        """Return why this is not parity in bf16, fp16 or int8, a sentence, or None. Logits are not compared."""
        agreement, allowed = REDUCED_LIMITS[precision]
        if self.agreement < agreement:
            return f"prediction and inference agree on only {self.agreement:.2%} of the pixels."
        difference = abs(prediction.miou - inference.miou)
        if difference > allowed:
            return f"mIoU differs by {difference:.4f}, more than {allowed} for {precision}."
        return None


def class_fault(prediction: Scores, inference: Scores) -> str | None:
    """Return a sentence on the first class with different IoU or Acc (to four decimals), or None."""
    for name, ours, theirs in (
        ("IoU", prediction.class_iou, inference.class_iou),
        ("Acc", prediction.class_acc, inference.class_acc),
    ):
        for number, (a, b) in enumerate(zip(ours, theirs)):
            if not abs(a - b) < CLASS_TOLERANCE:
                return f"{name} of class {number} is {a:.5f} in prediction and {b:.5f} in inference."
    return None


def too_few_classes(classes: int, num_classes: int) -> str | None:
    """Return why this number of predicted classes is too small to show parity, a sentence, or None."""
    if classes < min(3, num_classes):
        found = "1 class was" if classes == 1 else f"{classes} classes were"
        return f"only {found} predicted, and uniform masks always agree."
    return None


@dataclass
class Verdict:
    """The verdict on one runtime in one precision, compared with dygraph.

    Attributes:
        name: runtime and precision, or the name of a TIPC run.
        comparison: comparison with dygraph at the network's input size.
        scores: PaddleSeg's metrics of the masks that `infer` writes; None if masks are missing.
        own_size: share of the pixels of these masks that are equal in `val`'s; None if masks are missing.
        verdict: `PARITY`, `NO_PARITY` or `NOT_SHOWN`.
        reason: why the verdict is not `PARITY`, a sentence.
    """

    name: str
    comparison: Comparison
    scores: Scores | None
    own_size: float | None
    verdict: str
    reason: str | None

    def figures(self) -> dict[str, Any]:
        """Return all figures under their names in JSON files; None or empty if masks are missing."""
        compared = {
            "max_difference": self.comparison.max_difference,
            "mean_difference": self.comparison.mean_difference,
            "agreement": self.comparison.agreement if self.scores else None,
            "widest_margin": self.comparison.widest_margin,
        }
        scores = self.scores.figures() if self.scores else {"miou": None, "acc": None, "class_iou": [], "class_acc": []}
        words = {"name": self.name, "verdict": self.verdict, "reason": self.reason, "own_size": self.own_size}
        return {**words, **compared, **scores}


class Answer(NamedTuple):
    """The result of a runtime for an image.

    Attributes:
        output: the output of the export: logits `[classes, h, w]`, or the mask, integer `[h, w]`.
        logits: `[classes, h, w]`; None if they are not available.
    """

    output: np.ndarray
    logits: np.ndarray | None


class Candidate:
    """One runtime in one precision, which is compared with dygraph. Subclasses implement `answer`.

    Args:
        name: name of the verdict.
        num_classes, ignore_index: as in the labels.
        precision: 'fp32' must be equal except for rounding; other precisions have the limits of `REDUCED_LIMITS`.
        exact: in fp32, require the IoU and Acc of every class to equal dygraph's to four decimals.
        needs_logits: do not show parity without logits to compare.

    Attributes:
        missing: names of the images without an answer.
    """

    def __init__(
        self,
        name: str,
        num_classes: int,
        ignore_index: int = 255,
        precision: str = "fp32",
        exact: bool = True,
        needs_logits: bool = True,
    ) -> None:
        self.name = name
        self.missing: list[str] = []
        self._precision, self._exact, self._needs_logits = precision, exact, needs_logits
        self._tally = Tally(num_classes, ignore_index)
        self._comparison = Comparison()
        self._pixels = self._equal = 0

    def answer(self, index: int, image: np.ndarray, trans_info: list[Any]) -> Answer | None:
        """Return the answer for an image `[1, C, H, W]`. Without one, add the name to `missing` and return None."""
        raise NotImplementedError

    def add(self, answer: Answer, output_op: str, logits: np.ndarray, sample: dict[str, Any], mask: np.ndarray) -> None:
        """Compare an answer with dygraph's logits `[classes, h, w]` and `val`'s mask `[H, W]`, in the image's size.

        `output_op` is that of the export; `sample` has the `label` and `trans_info` of the image.
        """
        output = answer.output
        self._comparison.add(logits, output.argmax(axis=0) if output.ndim == 3 else output, answer.logits)
        written = mask_from_output(logits_of(output, output_op), sample["trans_info"])
        self._tally.add(written, sample["label"])
        self._pixels += written.size
        self._equal += int((written == mask).sum())

    def judge(self, reference: Tally, images: int) -> Verdict:
        """Return the verdict. `reference` is the tally of dygraph, `images` the number of images."""
        if self.missing:
            names = ", ".join(self.missing[:3])
            reason = f"{len(self.missing)} of {images} images have no usable mask: {names} ..."
            return Verdict(self.name, self._comparison, None, None, NO_PARITY, reason)
        ours, theirs = self._tally.scores(), reference.scores()
        if self._precision != "fp32":
            fault = self._comparison.reduced_fault(self._precision, theirs, ours)
        else:
            fault = self._comparison.fault() or (class_fault(theirs, ours) if self._exact else None)
        without_logits = self._needs_logits and self._comparison.max_difference is None
        unshown = "there are no logits to compare." if without_logits else None
        unshown = unshown or too_few_classes(min(reference.classes, self._tally.classes), len(theirs.class_iou))
        verdict = NO_PARITY if fault else NOT_SHOWN if unshown else PARITY
        return Verdict(self.name, self._comparison, ours, self._equal / self._pixels, verdict, fault or unshown)


def table(names: Sequence[str], prediction: Scores, inference: Scores | None) -> str:
    """Format IoU and Acc of every class, and the mIoU, of dygraph and, if given, of one runtime."""
    both = {"predict": prediction, **({"infer": inference} if inference else {})}
    columns = {
        f"{title} {source}": scores.rounded()[part]
        for part, title in enumerate(("IoU", "Acc"))
        for source, scores in both.items()
    }
    miou = ", ".join(f"{source} {scores.miou:.4f}" for source, scores in both.items())
    return f"{text_table.class_table(names, columns)}\nmIoU {miou}"


def scores(masks: Iterable[np.ndarray], labels: Iterable[np.ndarray], num_classes: int) -> Scores:
    """Compute PaddleSeg's metrics of masks `[H, W]` and labels, `[1, H, W]` or `[H, W]`, over all images."""
    tally = Tally(num_classes)
    for mask, label in zip(masks, labels):
        tally.add(mask, label)
    return tally.scores()
