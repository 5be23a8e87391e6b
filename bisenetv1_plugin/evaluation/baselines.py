"""What classifiers that see no shape reach, for a mIoU to be read against."""

from __future__ import annotations

from typing import Any, Iterator

import cv2
import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression

from bisenetv1_plugin.evaluation import parity

_LARGE = 1 << 20  # pixels of an image, above which only every other row and column is classified, or fewer
_VOTES = 1 << 27  # places times classes that are counted, at most


def baselines(train_dataset: Any, val_dataset: Any, num_classes: int) -> dict[str, float]:
    """mIoU of two such classifiers: the commonest class of every place, and a linear one of color.

    One image is in memory at a time.

    Args:
        train_dataset, val_dataset (paddleseg.datasets.Dataset): with a `file_list` of images and labels.
        num_classes (int): number of classes.

    Returns:
        dict[str, float]: by name, 0..1; without the first where the images have several sizes, or are huge, and
            without the second where the images that train have one class only.
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
    """Every image uint8 BGR `[H, W, 3]` and its label `[H, W]`, thinned out alike where they are large."""
    for image, label in dataset.file_list:
        pixels, label = cv2.imread(image), np.asarray(Image.open(label))
        step = int(np.ceil(np.sqrt(label.size / _LARGE)))
        yield pixels[::step, ::step], label[::step, ::step]
