"""This package reads exports of PaddleSeg's unmodified tools, and they read its exports. See `test_tools.py`."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bisenetv1_plugin.cli import main


@pytest.fixture(scope="module")
def tool(small):
    """Runs a tool of the checkout that PADDLESEG_DIR names."""
    if not os.environ.get("PADDLESEG_DIR"):
        pytest.skip("PADDLESEG_DIR names no PaddleSeg checkout")

    def run(name, *arguments):
        command = [sys.executable, Path(os.environ["PADDLESEG_DIR"]).resolve() / name, *arguments]
        done = subprocess.run([*map(str, command)], cwd=small.folder, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    return run


def masks(folder):
    found = [np.asarray(Image.open(path)) for path in sorted(Path(folder).glob("*.png"))]
    assert len(found) == 3 and len(np.unique(found)) >= 3
    return np.stack(found)


def upstream(tool, small, folder, out):
    flags = ["--image_path", small.images, "--save_dir", out, "--device", "cpu", "--cpu_threads", 1]
    tool("deploy/python/infer.py", "--config", folder / "deploy.yaml", *flags)
    return masks(out)


def ours(small, folder, out):
    flags = ["--image_path", small.images, "--save_dir", out, "--device", "cpu", "--backend", "paddle"]
    assert main([*map(str, ("infer", "--config", folder / "deploy.yaml", *flags))]) == 0
    return masks(out)


def test_upstream_reads_ours(small, export, tool, tmp_path):
    folder = export("with_everything", "--picture_onnx")
    assert (upstream(tool, small, folder, tmp_path / "a") == ours(small, folder, tmp_path / "b")).mean() >= 0.9999


def test_ours_reads_upstreams(small, dynamic, tool, tmp_path):
    flags = ["--config", small.config, "--model_path", small.weights, "--save_dir", tmp_path / "exported"]
    tool("tools/export.py", *flags)
    found, expected = ours(small, tmp_path / "exported", tmp_path / "a"), ours(small, dynamic, tmp_path / "b")
    assert (found == expected).mean() >= 0.9999
