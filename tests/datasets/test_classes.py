"""Cityscapes' class table and choices among its classes; needs neither paddle nor paddleseg."""

import numpy as np
import pytest

from bisenetv1_plugin.datasets import classes
from bisenetv1_plugin.datasets.classes import CLASS_NAMES, class_colors, class_groups, read_classes, remap
from bisenetv1_plugin.errors import InputError


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
        (["raod"], "'raod' is not a Cityscapes class"),
        ([("thing", (0, 19))], "19 is not a train id"),
        (["road", ("ground", (0, 1))], "'road' .* chosen 2 times"),
        ([], "empty"),
    ],
)
def test_bad_classes_are_refused(choice, message):
    with pytest.raises(ValueError, match=message):
        remap(np.zeros((2, 2), np.uint8), choice)


class TestFilesOfNames:
    def test_names(self, tmp_path):
        (tmp_path / "classes.txt").write_text("\ufeffroad way\n\n车辆\n", encoding="utf-8")
        assert read_classes(tmp_path / "classes.txt") == (("road way", "车辆"), ())

    def test_names_and_colors(self, tmp_path):
        (tmp_path / "classes.txt").write_text("road way 1 2 3\ncar 255 0 9\n")
        assert read_classes(tmp_path / "classes.txt") == (("road way", "car"), ((1, 2, 3), (255, 0, 9)))

    @pytest.mark.parametrize("text", ["road 1 2 3\ncar\n", "road 1 2 3\ncar 1 2 256\n", "road 1 2 3\n1 2 3\n"])
    def test_other_words_are_part_of_the_name(self, tmp_path, text):
        (tmp_path / "classes.txt").write_text(text)
        assert read_classes(tmp_path / "classes.txt") == (tuple(text.splitlines()), ())

    def test_refusals(self, tmp_path):
        (tmp_path / "empty.txt").write_text("\n")
        (tmp_path / "latin.txt").write_bytes(b"Stra\xdfe\n")
        for name, sentence in (("empty", "is empty"), ("latin", "is not UTF-8 text"), ("absent", "there is no")):
            with pytest.raises(InputError, match=sentence):
                read_classes(tmp_path / f"{name}.txt")
