"""Cityscapes' class table and choices among its classes; needs neither paddle nor paddleseg."""

import numpy as np
import pytest

from bisenetv1_plugin.datasets import classes
from bisenetv1_plugin.datasets.classes import CLASS_NAMES, class_colors, class_groups, remap


def test_class_table():
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == 19
    assert CLASS_NAMES[classes.TRAFFIC_LIGHT] == "traffic light"
    assert CLASS_NAMES[classes.SKY] == "sky"
    assert CLASS_NAMES[classes.BICYCLE] == "bicycle"
    assert len(set(class_colors())) == 19


def test_remap():
    label = np.array([[0, 13, 14], [255, 11, 18]], np.uint8)
    choice = ["car", ("human", (11, 12)), "road"]
    out = remap(label, choice)
    assert out.dtype == np.uint8
    assert out.tolist() == [[2, 0, 255], [255, 1, 255]]
    assert (remap(label, CLASS_NAMES) == label).all()
    assert class_groups(choice) == (("car", (13,)), ("human", (11, 12)), ("road", (0,)))
    assert class_colors(choice) == [(0, 0, 142), (220, 20, 60), (128, 64, 128)]


@pytest.mark.parametrize(
    "choice, message",
    [
        (["raod"], "'raod' is no Cityscapes class"),
        ([("thing", (0, 19))], "19 is no train id"),
        (["road", ("ground", (0, 1))], "'road' .* chosen 2 times"),
        ([], "empty"),
    ],
)
def test_bad_classes_are_refused(choice, message):
    with pytest.raises(ValueError, match=message):
        remap(np.zeros((2, 2), np.uint8), choice)
