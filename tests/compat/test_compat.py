"""Every correction, with the case it corrects, switched on and off."""

import sys

import numpy as np
import paddle
import pytest
from paddleseg.utils import metrics

from bisenetv1_plugin import compat
from bisenetv1_plugin.compat import scalar_areas

IMPORTS = "import paddle, paddleseg; print('imported')"
PADDLE_2 = paddle.__version__.startswith("2.")
SHARED_ZLIB = "zlib" not in sys.builtin_module_names

AREAS = """
import zlib  # the other defect has its own test
import paddle
from paddleseg.utils import metrics
pred = paddle.to_tensor([[[0, 1], [1, 2]]])
label = paddle.to_tensor([[[0, 1], [2, 255]]])
print([area.tolist() for area in metrics.calculate_area(pred, label, 3)])
"""


def upstream_areas_are_broken():
    """As installed, before the correction: it concatenates and does not stack."""
    original = getattr(metrics.calculate_area, "__wrapped__", metrics.calculate_area)
    return "stack" not in original.__code__.co_names


class TestScalarAreas:
    def test_counts(self):
        random = np.random.RandomState(0)
        pred, label = random.randint(0, 4, (2, 3, 8, 9))
        label[random.rand(*label.shape) < 0.2] = 255
        counted = label != 255
        expected = [
            [int(((pred == i) & (label == i)).sum()) for i in range(4)],
            [int(((pred == i) & counted).sum()) for i in range(4)],
            [int((label == i).sum()) for i in range(4)],
        ]
        for axis in (None, 1):
            tensors = [paddle.to_tensor(a if axis is None else a[:, None]) for a in (pred, label)]
            assert [area.tolist() for area in scalar_areas.calculate_area(*tensors, 4)] == expected

    def test_shapes_must_agree(self):
        with pytest.raises(ValueError, match="must have the same shape"):
            scalar_areas.calculate_area(paddle.zeros([1, 2, 2]), paddle.zeros([1, 2, 3]), 2)

    @pytest.mark.skipif(not upstream_areas_are_broken(), reason="this PaddleSeg's calculate_area is right")
    def test_fails_without_the_correction(self, python):
        on = python("-c", AREAS)
        assert "[[1, 1, 0], [1, 2, 0], [1, 1, 1]]" in on.stdout, on.stderr
        assert on.stdout.count("bisenetv1-plugin corrects calculate_area") == 1
        for switch in ("0", "-scalar_areas"):
            off = python("-c", AREAS, BISENETV1_PLUGIN_COMPAT=switch)
            assert off.returncode != 0 and "axis" in off.stderr

    @pytest.mark.skipif(upstream_areas_are_broken(), reason="this PaddleSeg's calculate_area is broken")
    def test_leaves_a_right_one_alone(self):
        assert not scalar_areas.needed()
        assert metrics.calculate_area.__code__ is not scalar_areas.calculate_area.__code__


class TestZlibFirst:
    @pytest.mark.skipif(not (PADDLE_2 and SHARED_ZLIB), reason="needs Paddle 2 and a Python whose zlib is an extension")
    def test_crashes_without_the_correction(self, python):
        assert "imported" in python("-c", IMPORTS).stdout
        for switch in ("0", "-zlib_first"):
            off = python("-c", IMPORTS, BISENETV1_PLUGIN_COMPAT=switch)
            assert off.returncode != 0 and "imported" not in off.stdout

    @pytest.mark.skipif(PADDLE_2, reason="Paddle 3 has no such clash")
    def test_not_applied_where_there_is_no_clash(self, python):
        off = python("-c", IMPORTS, BISENETV1_PLUGIN_COMPAT=0)
        assert "imported" in off.stdout
        done = python("-c", "import paddle; from bisenetv1_plugin.compat import zlib_first as z; print(z.needed())")
        assert done.stdout.strip().endswith("False")


def test_switches(monkeypatch):
    monkeypatch.setenv("BISENETV1_PLUGIN_COMPAT", "-zlib_first,-other")
    assert [compat.is_on(name) for name in compat.ENTRIES] == [name != "zlib_first" for name in compat.ENTRIES]
    monkeypatch.setenv("BISENETV1_PLUGIN_COMPAT", "0")
    assert not any(compat.is_on(name) for name in compat.ENTRIES)
    monkeypatch.delenv("BISENETV1_PLUGIN_COMPAT")
    assert all(compat.is_on(name) for name in compat.ENTRIES)
