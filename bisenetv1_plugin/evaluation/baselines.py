"""Baselines for a mIoU: the results of simple classifiers that use no shapes."""

from __future__ import annotations

from typing import Any, Iterator

import cv2
import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression

from bisenetv1_plugin.evaluation import parity

_LARGE = 1 << 20  # pixels; rows and columns of larger images are skipped evenly
_VOTES = 1 << 27  # maximum of pixel positions times classes


def baselines(train_dataset: Any, val_dataset: Any, num_classes: int) -> dict[str, float]:
    """Compute the mIoU of two classifiers: the most frequent class at each position, and a linear one of color.

    Only one image is in memory at a time.

    Args:
        train_dataset, val_dataset: PaddleSeg datasets with a `file_list` of images and labels.
        num_classes: number of classes.

    Returns:
        mIoU, 0..1, by name. The first is omitted if the images are huge or differ in size, the second if the training
        images have only one class.
    """
    votes = None
    shapes = set()
    random = np.random.RandomState(0)
    colors, classes = [], []
    for image, label in _pixels(train_dataset):
        shapes.add(label.shape)
        if len(shapes) == 1 and label.size * num_classes <= _VOTES:
            votes = np.zeros((num_classes, *label.shape), "int32") if votes is None else votes
            for number in range(num_classes):
                votes[number] += label == number
        picks = random.randint(0, label.size, 200)
        colors.append(image.reshape(-1, 3)[picks])
        classes.append(label.reshape(-1)[picks])
    shapes |= {label.shape for _, label in _pixels(val_dataset)}

    results = {}
    if len(shapes) == 1 and votes is not None:
        majority = votes.argmax(axis=0)
        masks, truth = (majority for _ in val_dataset.file_list), (label for _, label in _pixels(val_dataset))
        results["commonest class of every place"] = parity.scores(masks, truth, num_classes).miou
    colors, classes = np.concatenate(colors) / 255.0, np.concatenate(classes)
    if len(np.unique(classes[classes != 255])) > 1:
        linear = LogisticRegression(max_iter=300).fit(colors[classes != 255], classes[classes != 255])
        masks = (
            linear.predict(image.reshape(-1, 3) / 255.0).reshape(label.shape) for image, label in _pixels(val_dataset)
        )
        truth = (label for _, label in _pixels(val_dataset))
        results["linear classifier of color"] = parity.scores(masks, truth, num_classes).miou
    return results


def _pixels(dataset: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each image, uint8 BGR `[H, W, 3]`, and its label `[H, W]`; large ones are subsampled."""
    for image, label in dataset.file_list:
        pixels, label = cv2.imread(image), np.asarray(Image.open(label))
        step = int(np.ceil(np.sqrt(label.size / _LARGE)))
        yield pixels[::step, ::step], label[::step, ::step]
