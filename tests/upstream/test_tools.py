"""The installed stack of the matrix as tests: both published networks in PaddleSeg's unmodified tools.

Needs PADDLESEG_DIR, an unpacked PaddleSeg, and CAMVID_DIR. The `paddleseg` package is the installed one; put the
checkout on PYTHONPATH to use the checkout's:

    PADDLESEG_DIR=~/PaddleSeg PYTHONPATH=~/PaddleSeg CAMVID_DIR=~/camvid pytest tests/upstream
"""

import os
from pathlib import Path

import paddleseg  # noqa: F401 - this import applies the corrections
import pytest
from upstream import matrix

from bisenetv1_plugin import compat


@pytest.fixture(scope="session")
def checkout():
    if not os.environ.get("PADDLESEG_DIR"):
        pytest.skip("PADDLESEG_DIR names no PaddleSeg checkout")
    return Path(os.environ["PADDLESEG_DIR"]).resolve()


@pytest.fixture(scope="module", params=[name for name in matrix.COLUMNS if name.startswith("plugin")])
def cells(request, checkout, camvid, tmp_path_factory):
    return matrix.run_column(request.param, checkout, camvid.resolve(), tmp_path_factory.mktemp("column"))


@pytest.mark.parametrize("step", matrix.STEPS)
def test_step(cells, step):
    assert cells[step] == "ok"


def test_training_without_evaluation_needs_its_correction(checkout, camvid, tmp_path, monkeypatch):
    """Only PaddleSeg 2.9.1 has the defect."""
    if not compat.entry("train_without_eval").needed():
        pytest.skip("this PaddleSeg trains without evaluation")
    project = matrix.Project(tmp_path, "plugin", checkout, camvid.resolve())
    assert "corrects train()" not in project.train("evaluated", "--do_eval"), "a call that works is left alone"
    assert "corrects train()" in project.train("plain")
    project.environment["BISENETV1_PLUGIN_COMPAT"] = "-train_without_eval"
    with pytest.raises(matrix.Failed, match="mean_iou"):
        matrix.train(project)
