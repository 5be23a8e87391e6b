"""What classifiers that see no shape reach, for a mIoU to be read against."""

import cv2
import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression

from bisenetv1_plugin.deploy import parity


def baselines(train_dataset, val_dataset, num_classes):
    """mIoU of two such classifiers: the commonest class of every place, and a linear one of colour.

    Args:
        train_dataset, val_dataset (paddleseg.datasets.Dataset): with a `file_list` of images and labels.
        num_classes (int): number of classes.

    Returns:
        dict[str, float]: by name, 0..1; without the first where the images have several sizes.
    """

    def load(dataset):
        return [(cv2.imread(image), np.asarray(Image.open(label))) for image, label in dataset.file_list]

    train, val = load(train_dataset), load(val_dataset)
    truth = [label for _, label in val]
    results = {}
    if len({label.shape for _, label in train + val}) == 1:
        votes = np.stack([sum((label == i).astype("int32") for _, label in train) for i in range(num_classes)])
        majority = votes.argmax(axis=0)
        results["commonest class of every place"] = parity.scores([majority] * len(val), truth, num_classes).miou
    random = np.random.RandomState(0)
    colours, classes = [], []
    for image, label in train:
        picks = random.randint(0, label.size, 200)
        colours.append(image.reshape(-1, 3)[picks])
        classes.append(label.reshape(-1)[picks])
    colours, classes = np.concatenate(colours) / 255.0, np.concatenate(classes)
    linear = LogisticRegression(max_iter=300).fit(colours[classes != 255], classes[classes != 255])
    masks = [linear.predict(image.reshape(-1, 3) / 255.0).reshape(label.shape) for image, label in val]
    results["linear classifier of colour"] = parity.scores(masks, truth, num_classes).miou
    return results
