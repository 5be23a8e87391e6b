"""Do the network in dygraph and its export in another runtime say the same? Pixel by pixel, class by class."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Iterable

import numpy as np
import paddle
from paddleseg.utils import metrics

from bisenetv1_plugin.inference.runtimes import Runtime

# A pixel may differ where the two best classes are this close: the two runtimes sum in another order.
MARGIN = 1e-3
AGREEMENT = 0.9999
# IoU and Acc of a class are equal to four decimals: half of the fourth. Not by rounding both, which would tell
# 0.37051 from 0.37049, one pixel of a million.
FIGURE = 5e-5
# Of a reduced precision: the least agreement, and what the mIoU may change by. bf16 has 8 bits of mantissa: its logits
# differ in the second decimal. In int8, a network of 100 iterations (mIoU 0.149) kept 88 % of the pixels.
REDUCED = {"bf16": (0.95, 0.003), "fp16": (0.95, 0.003), "int8": (0.8, 0.01)}


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
        max_difference, mean_difference: of the logits; None where the runtime gave masks only.
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
            self.max_difference = max(self.max_difference or 0.0, float(difference.max()))
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
        if (self.max_difference or 0.0) >= MARGIN:
            return f"their logits differ by up to {self.max_difference:.1e}."
        return None

    def reduced_fault(self, precision: str, prediction: Scores, inference: Scores) -> str | None:
        """The same for bf16, fp16 or int8, by the `Scores` of the two; logits are not asked."""
        agreement, allowed = REDUCED[precision]
        if self.agreement < agreement:
            return f"prediction and inference agree on {self.agreement:.2%} of the pixels only."
        difference = abs(prediction.miou - inference.miou)
        if difference > allowed:
            return f"mIoU differs by {difference:.4f}, more than {allowed} for {precision}."
        return None


def figure_fault(prediction: Scores, inference: Scores) -> str | None:
    """The first class whose IoU or Acc the two `Scores` do not share to four decimals, in a sentence; None if none."""
    for name, ours, theirs in (
        ("IoU", prediction.class_iou, inference.class_iou),
        ("Acc", prediction.class_acc, inference.class_acc),
    ):
        for number, (a, b) in enumerate(zip(ours, theirs)):
            if not abs(a - b) < FIGURE:
                return f"{name} of class {number} is {a:.5f} in prediction and {b:.5f} in inference."
    return None


def too_few(classes: int, num_classes: int) -> str | None:
    """Why this many predicted classes show nothing, in a sentence; None if they are enough."""
    if classes < min(3, num_classes):
        return f"parity is not shown: only {classes} classes were predicted, and empty answers always agree."
    return None


@dataclass
class Parity:
    """How prediction and an exported model compare.

    Attributes:
        predicted, inferred: the masks of each, uint8 `[H, W]`, in the order of the samples.
        prediction, inference: `Scores` of each against the labels.
        comparison: `Comparison` of the two.
    """

    predicted: list[np.ndarray]
    inferred: list[np.ndarray]
    prediction: Scores
    inference: Scores
    comparison: Comparison

    def fault(self) -> str | None:
        """What speaks against parity, in a sentence; None if nothing does."""
        classes = len(np.unique(np.concatenate([mask.ravel() for mask in self.predicted])))
        return (
            self.comparison.fault()
            or figure_fault(self.prediction, self.inference)
            or too_few(classes, len(self.prediction.class_iou))
        )


def compare(
    model: paddle.nn.Layer,
    runtime: Runtime,
    samples: Iterable[dict[str, Any]],
    num_classes: int,
    ignore_index: int = 255,
) -> Parity:
    """Run both on the samples of a validation dataset.

    Args:
        model (paddle.nn.Layer): in evaluation mode.
        runtime (Runtime): runs its export, with `output_op` argmax.
        samples (iterable): dicts with `img` `[3, H, W]` float32 and `label` `[1, H, W]`, transformed without a resize.
        num_classes (int): number of classes.
        ignore_index (int): label of the pixels that do not count.
    """
    predicted: list[np.ndarray] = []
    inferred: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    comparison = Comparison()
    for sample in samples:
        image = np.asarray(sample["img"], dtype="float32")[np.newaxis]
        logits = dygraph_logits(model, image)
        predicted.append(logits.argmax(axis=0).astype("uint8"))
        inferred.append(runtime.run(image)[0].astype("uint8"))
        labels.append(np.asarray(sample["label"]))
        comparison.add(logits, inferred[-1])
    return Parity(
        predicted,
        inferred,
        scores(predicted, labels, num_classes, ignore_index),
        scores(inferred, labels, num_classes, ignore_index),
        comparison,
    )


def dygraph_logits(model: paddle.nn.Layer, image: np.ndarray) -> np.ndarray:
    """The logits `[classes, H, W]` of an image `[1, C, H, W]`."""
    with paddle.no_grad():
        return model(paddle.to_tensor(image))[0].numpy()[0]


def scores(
    masks: Iterable[np.ndarray], labels: Iterable[np.ndarray], num_classes: int, ignore_index: int = 255
) -> Scores:
    """PaddleSeg's metrics of masks `[H, W]` against labels `[1, H, W]` or `[H, W]`, over all of them together."""
    tally = Tally(num_classes, ignore_index)
    for mask, label in zip(masks, labels):
        tally.add(mask, label)
    return tally.scores()
