"""Do the network in dygraph and its export in Paddle Inference say the same? Pixel by pixel, class by class."""

from dataclasses import dataclass
from typing import List

import numpy as np
import paddle
from paddleseg.utils import metrics

# A pixel may differ where the two best classes are this close: the two runtimes sum in another order.
MARGIN = 1e-3
AGREEMENT = 0.9999


@dataclass
class Scores:
    """mIoU, pixel accuracy, and IoU and accuracy (precision, as PaddleSeg's log has it) of every class, 0..1."""

    miou: float
    acc: float
    class_iou: np.ndarray
    class_acc: np.ndarray

    def rounded(self):
        """The per-class figures to four decimals, as they are compared."""
        return [[round(float(value), 4) for value in values] for values in (self.class_iou, self.class_acc)]


@dataclass
class Parity:
    """How prediction and inference compare.

    Attributes:
        predicted, inferred: the masks of each, uint8 `[H, W]`, in the order of the samples.
        prediction, inference: `Scores` of each against the labels.
        agreement: share of equal pixels, 0..1.
        widest_margin: the largest gap between the two best logits among the pixels that differ; 0 if none does.
    """

    predicted: List[np.ndarray]
    inferred: List[np.ndarray]
    prediction: Scores
    inference: Scores
    agreement: float
    widest_margin: float

    def fault(self):
        """What speaks against parity, in a sentence; None if nothing does."""
        if self.agreement < AGREEMENT:
            return f"prediction and inference agree on {self.agreement:.4%} of the pixels only."
        if self.widest_margin >= MARGIN:
            return f"they differ on a pixel whose two best classes are {self.widest_margin:.1e} apart."
        if self.prediction.rounded() != self.inference.rounded():
            return "their per-class figures differ in the fourth decimal."
        classes = len(np.unique(np.concatenate([mask.ravel() for mask in self.predicted])))
        if classes < min(3, len(self.prediction.class_iou)):
            return f"parity is not shown: only {classes} classes were predicted, and empty answers always agree."
        return None


def compare(model, predictor, samples, num_classes, ignore_index=255):
    """Run both on the samples of a validation dataset.

    Args:
        model (paddle.nn.Layer): in evaluation mode.
        predictor (Predictor): its export, with `output_op` argmax.
        samples (iterable): dicts with `img` `[3, H, W]` float32 and `label` `[1, H, W]`, transformed without a resize.
        num_classes (int): number of classes.
        ignore_index (int): label of the pixels that do not count.

    Returns:
        Parity
    """
    predicted, inferred, labels, margins, equal = [], [], [], [0.0], []
    for sample in samples:
        image = np.asarray(sample["img"], dtype="float32")[np.newaxis]
        with paddle.no_grad():
            logits = model(paddle.to_tensor(image))[0].numpy()[0]
        predicted.append(logits.argmax(axis=0).astype("uint8"))
        inferred.append(predictor.run(image)[0].astype("uint8"))
        labels.append(np.asarray(sample["label"]))
        differs = predicted[-1] != inferred[-1]
        equal.append(1 - differs.mean())
        if differs.any():
            second, first = np.sort(logits[:, differs], axis=0)[-2:]
            margins.append(float((first - second).max()))
    return Parity(
        predicted,
        inferred,
        scores(predicted, labels, num_classes, ignore_index),
        scores(inferred, labels, num_classes, ignore_index),
        float(np.mean(equal)),
        max(margins),
    )


def scores(masks, labels, num_classes, ignore_index=255):
    """PaddleSeg's metrics of masks `[H, W]` against labels `[1, H, W]` or `[H, W]`, over all of them together."""
    areas = [
        metrics.calculate_area(
            paddle.to_tensor(mask.astype("int64")[np.newaxis]),
            paddle.to_tensor(np.asarray(label).astype("int64").reshape(1, *mask.shape)),
            num_classes,
            ignore_index,
        )
        for mask, label in zip(masks, labels)
    ]
    total = [sum(parts) for parts in zip(*areas)]
    class_iou, miou = metrics.mean_iou(*total)
    acc, class_precision, _ = metrics.class_measurement(*total)
    return Scores(float(miou), float(acc), np.asarray(class_iou), np.asarray(class_precision))
