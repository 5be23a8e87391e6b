"""The `deploy.yaml` of an export, and its readers."""

import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from bisenetv1_plugin.cli import main

# Keys that upstream's tools/export.py writes too, and that its deploy/python/infer.py reads.
UPSTREAM = {"input_shape": [None, 3, None, None], "output_op": "argmax", "output_dtype": "int32"}


def test_deploy_yaml_is_complete(dynamic):
    deploy = yaml.safe_load((dynamic / "deploy.yaml").read_text())["Deploy"]
    assert deploy["transforms"] == [{"type": "Normalize", "mean": [0.5] * 3, "std": [0.5] * 3}]
    assert deploy["input"] == {"color": "RGB", "layout": "NCHW", "dtype": "float32"}
    assert UPSTREAM.items() <= deploy.items() and "picture" not in deploy
    assert all((dynamic / deploy[key]).is_file() for key in ("model", "params", "onnx"))


def infer(folder, small, out):
    argv = ["infer", "--config", folder / "deploy.yaml", "--image_path", small.images, "--save_dir", out]
    assert main([*map(str, argv), "--device", "cpu"]) == 0
    return [np.asarray(Image.open(path)) for path in sorted(out.glob("*.png"))]


def test_older_export_gives_the_same_masks(small, dynamic, tmp_path):
    older = tmp_path / "older"
    shutil.copytree(dynamic, older)
    content = yaml.safe_load((older / "deploy.yaml").read_text())
    content["Deploy"].pop("input")
    content["Deploy"]["transforms"] = [{"type": "Normalize"}]
    (older / "deploy.yaml").write_text(yaml.safe_dump(content))
    found, expected = infer(older, small, tmp_path / "a"), infer(dynamic, small, tmp_path / "b")
    assert len(found) == 3 and all((a == b).all() for a, b in zip(found, expected))


@pytest.mark.parametrize("input_spec", [{"color": "BGR"}, {"layout": "NHWC"}, {"dtype": "uint8"}, "RGB", {"range": 1}])
def test_unsupported_input_is_refused(small, dynamic, tmp_path, capsys, input_spec):
    shutil.copytree(dynamic, tmp_path / "ex")
    content = yaml.safe_load((tmp_path / "ex" / "deploy.yaml").read_text())
    content["Deploy"]["input"] = input_spec
    (tmp_path / "ex" / "deploy.yaml").write_text(yaml.safe_dump(content))
    argv = ["infer", "--config", tmp_path / "ex" / "deploy.yaml", "--image_path", small.images, "--device", "cpu"]
    assert main([*map(str, argv), "--save_dir", str(tmp_path / "out")]) == 2
    assert "input is " in capsys.readouterr().err
