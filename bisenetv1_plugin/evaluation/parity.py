"""The judge of parity: does an export say what the network in dygraph says? Pixel by pixel, class by class.

`bisenetv1 verify`, `bisenetv1 demo` and TIPC all ask it, and use its words.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Iterable, NamedTuple, Sequence

import numpy as np
import paddle
from paddleseg.utils import metrics

from bisenetv1_plugin.evaluation import text_table
from bisenetv1_plugin.inference.postprocess import logits_of, mask_from_output

PARITY, NO_PARITY, NOT_SHOWN = "parity", "no parity", "parity not shown"

# A pixel may differ where the two best classes are this close: the two runtimes sum in another order.
MARGIN = 1e-3
AGREEMENT = 0.9999
# IoU and Acc of a class are equal to four decimals: half of the fourth. Not by rounding both, which would tell
# 0.37051 from 0.37049, one pixel of a million.
CLASS_TOLERANCE = 5e-5
# Of a reduced precision: the least agreement, and what the mIoU may change by. bf16 has 8 bits of mantissa: its logits
# differ in the second decimal. In int8, a network of 100 iterations (mIoU 0.149) kept 88 % of the pixels.
REDUCED_LIMITS = {"bf16": (0.95, 0.003), "fp16": (0.95, 0.003), "int8": (0.8, 0.01)}


@dataclass
class Scores:
    """mIoU, pixel accuracy, and IoU and accuracy (precision, as PaddleSeg's log has it) of every class, 0..1."""

    miou: float
    acc: float
    class_iou: np.ndarray
    class_acc: np.ndarray

    def rounded(self) -> list[list[float]]:
        """The per-class figures to four decimals, as they are shown."""
        return [[round(float(value), 4) for value in values] for values in (self.class_iou, self.class_acc)]

    def figures(self) -> dict[str, Any]:
        """All of them, by the names that JSON files have."""
        class_iou, class_acc = self.rounded()
        return {"miou": self.miou, "acc": self.acc, "class_iou": class_iou, "class_acc": class_acc}


class Tally:
    """PaddleSeg's metrics over all the masks that are added."""

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        self._num_classes, self._ignore_index = num_classes, ignore_index
        self._areas: list[Any] = [0, 0, 0]
        self._predicted = np.zeros(num_classes, bool)

    def add(self, mask: np.ndarray, label: np.ndarray) -> None:
        """A mask `[H, W]` and its label `[1, H, W]` or `[H, W]`."""
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
        """How many classes were predicted anywhere."""
        return int(self._predicted.sum())

    def scores(self) -> Scores:
        class_iou, miou = metrics.mean_iou(*self._areas)
        acc, class_precision, _ = metrics.class_measurement(*self._areas)
        return Scores(float(miou), float(acc), np.asarray(class_iou), np.asarray(class_precision))


@dataclass
class Comparison:
    """How a runtime's answers compare with dygraph's, over all images that are added.

    Attributes:
        agreement: share of equal pixels, 0..1.
        widest_margin: the largest gap between dygraph's two best logits among the pixels that differ; 0 if none does.
        max_difference, mean_difference: of the logits, NaN where any is; None where the runtime gave masks only.
    """

    widest_margin: float = 0.0
    max_difference: float | None = None
    _pixels: int = field(default=0, repr=False)
    _different: int = field(default=0, repr=False)
    _logits: int = field(default=0, repr=False)
    _difference: float = field(default=0.0, repr=False)

    def add(self, logits: np.ndarray, mask: np.ndarray, runtime_logits: np.ndarray | None = None) -> None:
        """Dygraph's logits `[classes, H, W]`, the runtime's mask `[H, W]` and, where it has them, its logits."""
        differs = logits.argmax(axis=0) != mask
        self._pixels += mask.size
        self._different += int(differs.sum())
        if differs.any() and len(logits) > 1:
            second, first = np.sort(logits[:, differs], axis=0)[-2:]
            self.widest_margin = max(self.widest_margin, float((first - second).max()))
        if runtime_logits is not None:
            difference = np.abs(logits.astype("float64") - runtime_logits)
            self.max_difference = float(np.maximum(self.max_difference or 0.0, difference.max()))  # keeps NaN
            self._logits += difference.size
            self._difference += float(difference.sum())

    @property
    def agreement(self) -> float:
        return 1 - self._different / self._pixels

    @property
    def mean_difference(self) -> float | None:
        return self._difference / self._logits if self._logits else None

    def fault(self) -> str | None:
        """What speaks against the two being the same network in fp32, in a sentence; None if nothing does."""
        if self.agreement < AGREEMENT:
            return f"prediction and inference agree on {self.agreement:.4%} of the pixels only."
        if self.widest_margin >= MARGIN:
            return f"they differ on a pixel whose two best classes are {self.widest_margin:.1e} apart."
        if np.isnan(self.max_difference or 0.0):
            return "their logits are not all numbers (NaN): see the weights."
        if (self.max_difference or 0.0) >= MARGIN:
            return f"their logits differ by up to {self.max_difference:.1e}."
        return None

    def reduced_fault(self, precision: str, prediction: Scores, inference: Scores) -> str | None:
        """The same for bf16, fp16 or int8, by the `Scores` of the two; logits are not asked."""
        agreement, allowed = REDUCED_LIMITS[precision]
        if self.agreement < agreement:
            return f"prediction and inference agree on {self.agreement:.2%} of the pixels only."
        difference = abs(prediction.miou - inference.miou)
        if difference > allowed:
            return f"mIoU differs by {difference:.4f}, more than {allowed} for {precision}."
        return None


def class_fault(prediction: Scores, inference: Scores) -> str | None:
    """The first class whose IoU or Acc the two `Scores` do not share to four decimals, in a sentence; None if none."""
    for name, ours, theirs in (
        ("IoU", prediction.class_iou, inference.class_iou),
        ("Acc", prediction.class_acc, inference.class_acc),
    ):
        for number, (a, b) in enumerate(zip(ours, theirs)):
            if not abs(a - b) < CLASS_TOLERANCE:
                return f"{name} of class {number} is {a:.5f} in prediction and {b:.5f} in inference."
    return None


def too_few_classes(classes: int, num_classes: int) -> str | None:
    """Why this many predicted classes show nothing, in a sentence; None if they are enough."""
    if classes < min(3, num_classes):
        return f"parity is not shown: only {classes} classes were predicted, and empty answers always agree."
    return None


@dataclass
class Verdict:
    """One runtime in one precision against dygraph.

    Attributes:
        name: the runtime's and the precision's, or what TIPC calls the run.
        comparison: of its answers with dygraph's, at the size that the network sees.
        scores: PaddleSeg's metrics of its masks, as `infer` writes them; None where masks are missing.
        own_size: the share of the pixels of those masks that are the same as `val`'s; None where masks are missing.
        verdict: `PARITY`, `NO_PARITY` or `NOT_SHOWN`.
        reason: why it is not the first, a sentence.
    """

    name: str
    comparison: Comparison
    scores: Scores | None
    own_size: float | None
    verdict: str
    reason: str | None

    def figures(self) -> dict[str, Any]:
        """All of it, by the names that JSON files have; None, and no class, where masks are missing."""
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
    """What a runtime gives for an image.

    Attributes:
        output: what the export gives: logits `[classes, h, w]`, or the mask, integer `[h, w]`.
        logits: `[classes, h, w]`; None where they cannot be had.
    """

    output: np.ndarray
    logits: np.ndarray | None


class Candidate:
    """One runtime in one precision, and its answers so far; a subclass says where they come from.

    Args:
        name (str): of its verdict.
        num_classes, ignore_index (int): of the labels.
        precision (str): 'fp32' must be equal but for rounding; the others have the limits of `REDUCED_LIMITS`.
        exact (bool): IoU and Acc of every class must be dygraph's to four decimals; asked in fp32 only.
        needs_logits (bool): without logits to compare, parity is not shown.

    Attributes:
        missing (list[str]): the names of the images that it has no answer for.
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
        """What it gives for an image `[1, C, H, W]`; None, and the image's name in `missing`, where it has nothing."""
        raise NotImplementedError

    def add(self, answer: Answer, output_op: str, logits: np.ndarray, sample: dict[str, Any], mask: np.ndarray) -> None:
        """Hold an answer against dygraph's logits `[classes, h, w]` and `val`'s mask, of the picture's size `[H, W]`.

        `output_op` is the export's; `sample` has the `label` and `trans_info` of the picture.
        """
        output = answer.output
        self._comparison.add(logits, output.argmax(axis=0) if output.ndim == 3 else output, answer.logits)
        written = mask_from_output(logits_of(output, output_op), sample["trans_info"])
        self._tally.add(written, sample["label"])
        self._pixels += written.size
        self._equal += int((written == mask).sum())

    def judge(self, reference: Tally, images: int) -> Verdict:
        """Against the `Tally` of dygraph, of so many images."""
        if self.missing:
            names = ", ".join(self.missing[:3])
            reason = f"no usable mask of {len(self.missing)} of {images} images: {names} ..."
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
    """IoU and Acc of every class, and the mIoU, of dygraph beside one runtime's; of dygraph alone without those."""
    both = {"predict": prediction, **({"infer": inference} if inference else {})}
    columns = {
        f"{title} {whose}": scores.rounded()[part]
        for part, title in enumerate(("IoU", "Acc"))
        for whose, scores in both.items()
    }
    miou = ", ".join(f"{whose} {scores.miou:.4f}" for whose, scores in both.items())
    return f"{text_table.class_table(names, columns)}\nmIoU {miou}"


def scores(
    masks: Iterable[np.ndarray], labels: Iterable[np.ndarray], num_classes: int, ignore_index: int = 255
) -> Scores:
    """PaddleSeg's metrics of masks `[H, W]` against labels `[1, H, W]` or `[H, W]`, over all of them together."""
    tally = Tally(num_classes, ignore_index)
    for mask, label in zip(masks, labels):
        tally.add(mask, label)
    return tally.scores()
