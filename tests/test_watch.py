"""The metrics and callbacks of PaddleSeg's evaluation and training."""

import numpy as np
import paddle
import pytest

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.training import watch


class Pixels(paddle.io.Dataset):
    """One image with one row of pixels: their scores of class 1, and their labels."""

    num_classes, ignore_index = 2, 255

    def __init__(self, scores, labels):
        self.image = np.stack([-np.array(scores, "float32"), scores]).astype("float32")[:, None]
        self.label = np.array(labels, "int64")[None, None]

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return {"img": self.image, "label": self.label, "trans_info": []}


class Shown(paddle.nn.Layer):
    def forward(self, image):
        return [image]


class TestAreaUnderTheCurve:
    """It is the fraction of pairs of pixels of class 1 and 0 in which class 1 has the higher score."""

    @pytest.mark.parametrize("scores, labels", [([1, 4, 3, 2], [0, 0, 1, 1]), ([9, 1, 4, 3, 2], [255, 0, 0, 1, 1])])
    def test_ignored_pixels_are_skipped(self, scores, labels):
        done = watch.evaluate(Shown(), Pixels(scores, labels), auc_roc=True)
        assert done.auc_roc == 2 / 4 and done.acc == 2 / 4

    def test_labels_of_different_sizes_are_refused(self):
        images = paddle.io.ConcatDataset([Pixels([1, 2], [0, 1]), Pixels([1, 2, 3], [0, 1, 1])])
        images.num_classes, images.ignore_index = Pixels.num_classes, Pixels.ignore_index
        with pytest.raises(InputError, match="needs labels of one size: omit --auc_roc"):
            watch.evaluate(Shown(), images, auc_roc=True)

    @pytest.mark.parametrize("labels", [[0, 0, 0], [0, 0, 255]])
    def test_single_class_gives_nan(self, labels, monkeypatch):
        """PaddleSeg would count ignored pixels as the other class. The other metrics are computed."""
        said = []
        monkeypatch.setattr(watch.logger, "warning", said.append)
        done = watch.evaluate(Shown(), Pixels([-1, -2, 3], labels), auc_roc=True)
        assert len(said) == 1 and said[0].startswith("the area under the ROC curve is undefined")
        assert np.isnan(done.auc_roc) and done.acc == (2 / 3 if labels[2] == 0 else 1)
