"""The ONNX models of an export."""

import os
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import paddle
import pytest
import yaml
from paddleseg.deploy.infer import DeployConfig
from PIL import Image

from bisenetv1_plugin.cli import main
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.export import onnx_model


def test_onnx_model_is_in_the_export(dynamic):
    import onnxruntime

    deploy = yaml.safe_load((dynamic / "deploy.yaml").read_text())["Deploy"]
    assert deploy["onnx"] == "model.onnx" and (dynamic / deploy["model"]).is_file()
    session = onnxruntime.InferenceSession(str(dynamic / "model.onnx"), providers=["CPUExecutionProvider"])
    channels = session.get_inputs()[0].shape[1]
    sizes = [size for i, size in enumerate(session.get_inputs()[0].shape) if i != 1]
    assert channels == 3 and not [size for size in sizes if isinstance(size, int) and size > 0]
    assert not [path for path in dynamic.iterdir() if path.name.startswith(".")]


def refuse(*_, **__):
    raise SystemExit(-1)  # as paddle2onnx 2.1.0 does


@pytest.mark.parametrize("fault", [refuse, lambda *_, **__: b""])
@pytest.mark.slow
def test_nothing_is_written_if_the_converter_fails(small, tmp_path, capsys, monkeypatch, fault):
    import paddle2onnx

    monkeypatch.setattr(paddle2onnx, "export", fault)
    flags = ["--config", small.config, "--model_path", small.weights, "--save_dir", tmp_path / "ex", "--device", "cpu"]
    assert main([str(argument) for argument in ("export", *flags, "--to", "onnx")]) == 2
    assert "cannot convert this network" in capsys.readouterr().err
    assert not (tmp_path / "ex").exists() or not list((tmp_path / "ex").iterdir())


def test_the_output_of_the_converter_is_its_reason(tmp_path, capfd, monkeypatch):
    onnx = pytest.importorskip("onnx")
    made = onnx.helper.make_model(onnx.helper.make_graph([], "graph", [], [])).SerializeToString()
    answer = [made]

    def export(*_, **__):
        os.write(1, "".join(f"[Paddle2ONNX] line {i}\n" for i in range(9)).encode())  # as C++ does
        print("\x1b[1;31mno Sort for opset 13.\x1b[0m")
        return answer[0] or refuse()

    monkeypatch.setitem(sys.modules, "paddle2onnx", SimpleNamespace(export=export, __version__="9.9"))
    onnx_model.convert(str(tmp_path / "model.json"), "")
    os.write(1, b"after it\n")
    assert capfd.readouterr() == ("after it\n", "")
    answer[0] = b""
    reason = r"network: \[Paddle2ONNX\] line 7 \[Paddle2ONNX\] line 8 no Sort for opset 13\. For Paddle"
    with pytest.raises(InputError, match=reason):
        onnx_model.convert(str(tmp_path / "model.json"), "")
    os.write(1, b"after that\n")
    assert capfd.readouterr() == ("after that\n", "") and not list(tmp_path.iterdir())


@pytest.mark.slow
def test_missing_converter(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "paddle2onnx", None)
    flags = ["--config", small.config, "--model_path", small.weights, "--save_dir", tmp_path, "--device", "cpu"]
    assert main([str(argument) for argument in ("export", *flags, "--to", "onnx")]) == 2
    assert f"For Paddle {paddle.__version__}: pip install" in capsys.readouterr().err


_SESSION = """
import sys, onnxruntime
onnxruntime.set_default_logger_severity(2)  # warnings
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
"""


@pytest.mark.parametrize("name", ["model.onnx", "picture.onnx"])
def test_onnx_runtime_does_not_warn(with_picture, python, name):
    done = python("-c", _SESSION, with_picture / name)
    assert done.returncode == 0 and done.stderr == "" and done.stdout == ""


def test_remove_unused():
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    sizes = {"used": 3, "unused": 2, "of_unused": 1}
    constants = [helper.make_tensor(name, TensorProto.FLOAT, [size], [1.0] * size) for name, size in sizes.items()]
    nodes = [
        helper.make_node("Relu", ["of_unused"], ["a"]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Split", ["x"], ["left", "right"], axis=0),
        helper.make_node("Add", ["right", "used"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [size]) for name, size in (("x", 6), ("y", 3))]
    graph = helper.make_graph(nodes, "graph", values[:1], values[1:], constants)
    onnx_model.remove_unused(graph)
    assert [node.op_type for node in graph.node] == ["Split", "Add"]
    assert [constant.name for constant in graph.initializer] == ["used"]


# ImageNet's values. They differ by channel, and give other results in float32 than in float64.
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@pytest.fixture(scope="module")
def with_picture(export):
    return export("with_picture", "--picture_onnx")


@pytest.fixture(scope="module")
def imagenet(small, export):
    """An export with ImageNet's values, BGR, a fixed size, and logits as output."""
    config = small.folder / "imagenet.yml"
    values = yaml.safe_load(small.config.read_text())
    values["val_dataset"]["transforms"] = [{"type": "Normalize", "mean": MEAN, "std": STD}]
    config.write_text(yaml.safe_dump(values))
    flags = ["--picture_onnx", "bgr", "--output_op", "none", "--input_shape", -1, 3, 64, 96]
    return export("imagenet", *flags, config=config)


def onnxruntime_of(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda array: session.run(None, {session.get_inputs()[0].name: array})[0]


def openvino_of(path):
    compiled = (
        pytest.importorskip("openvino").Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    )
    return lambda array: compiled(array)[0].copy()


@pytest.mark.parametrize("runtime", [onnxruntime_of, openvino_of])
@pytest.mark.parametrize("kind", ["with_picture", "imagenet"])
def test_picture_onnx_equals_model_onnx(small, request, kind, runtime):
    """Results are identical to `model.onnx` after PaddleSeg's transforms."""
    folder = request.getfixturevalue(kind)
    deploy = yaml.safe_load((folder / "deploy.yaml").read_text())["Deploy"]
    color = "BGR" if kind == "imagenet" else "RGB"
    assert deploy["picture"] == {"onnx": "picture.onnx", "dtype": "uint8", "layout": "NHWC", "color": color}
    pictures = np.stack([cv2.imread(str(path)) for path in sorted(small.images.iterdir())[:2]])
    pictures[0, :8, :96] = np.arange(256).repeat(9).reshape(8, 96, 3)  # every value
    prepare = DeployConfig(str(folder / "deploy.yaml")).transforms
    prepared = np.stack([prepare({"img": picture.astype("float32")})["img"] for picture in pictures])
    inputs = pictures if color == "BGR" else np.ascontiguousarray(pictures[..., ::-1])
    found, expected = runtime(folder / "picture.onnx")(inputs), runtime(folder / "model.onnx")(prepared)
    assert len(np.unique(expected)) > 2 and found.dtype == expected.dtype and np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("transforms", "flags", "sentence"),
    [
        ([{"type": "Resize"}, {"type": "Normalize"}], [], "the val_dataset also has Resize"),
        ([{"type": "Normalize"}], ["--to", "paddle"], "--to paddle writes none"),
    ],
)
def test_other_transforms_than_normalize_are_refused(small, tmp_path, capsys, transforms, flags, sentence):
    values = yaml.safe_load(small.config.read_text())
    values["val_dataset"]["transforms"] = transforms
    (tmp_path / "config.yml").write_text(yaml.safe_dump(values))
    argv = ["export", "--config", tmp_path / "config.yml", "--model_path", small.weights, "--save_dir", tmp_path / "ex"]
    assert main([*map(str, argv), "--device", "cpu", "--picture_onnx", *flags]) == 2
    assert sentence in capsys.readouterr().err and not (tmp_path / "ex" / "deploy.yaml").exists()


def test_other_number_of_channels_is_refused():
    with pytest.raises(InputError, match="the network takes 4 channels"):
        onnx_model.check_only_normalization([{"type": "Normalize"}], 4)


def test_program_in_documentation(small, with_picture, tmp_path, monkeypatch):
    """Run it unchanged, on an export `exported` and an image `street.png`."""
    text = (Path(__file__).parents[2] / "docs/deployment.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "exported").symlink_to(with_picture)
    path = sorted(small.images.iterdir())[0]
    shutil.copy(path, tmp_path / "street.png")
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(code, names)
    argv = ["infer", "--config", "exported/deploy.yaml", "--image_path", "street.png", "--backend", "onnxruntime"]
    assert main([*argv, "--save_dir", "masks", "--device", "cpu"]) == 0
    assert (names["mask"] == np.asarray(Image.open("masks/street.png"))).all() and names["mask"].dtype == "int32"
