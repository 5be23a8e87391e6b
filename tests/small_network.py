"""A small network with scenes to run it on, as `train` would leave it; the weights are random."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest
import yaml
from PIL import Image

from bisenetv1_plugin import zoo
from bisenetv1_plugin.cli import main
from bisenetv1_plugin.datasets.scenes import DEMO_CLASSES
from bisenetv1_plugin.datasets.synthetic import write_scenes
from bisenetv1_plugin.training import builder


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Paths of three scenes of 96x64 (`images`, `list`), of a configuration for them and of `weights`."""
    folder = tmp_path_factory.mktemp("small")
    write_scenes(folder / "data", train=1, val=3, size=(96, 64), classes=DEMO_CLASSES)
    values = yaml.safe_load(zoo.path_of("bisenetv1_demo_256x128").read_text(encoding="utf-8"))
    for part, name in (("train_dataset", "train"), ("val_dataset", "val")):
        root = str(folder / "data")
        values[part].update({"dataset_root": root, f"{name}_path": str(folder / "data" / f"{name}.txt")})
    config = folder / "config.yml"
    config.write_text(yaml.safe_dump(values))
    paddle.seed(1)
    model = builder.Builder(builder.load_config(str(config))).model
    paddle.save(model.state_dict(), str(folder / "model.pdparams"))
    return SimpleNamespace(
        folder=folder,
        config=config,
        weights=folder / "model.pdparams",
        model=model,
        images=folder / "data" / "images" / "val",
        list=folder / "data" / "val.txt",
    )


@pytest.fixture(scope="module")
def export(small):
    """Exports the network on the CPU into a folder of its own; returns the folder."""

    def run(name, *arguments, weights=small.weights, config=small.config):
        if {"onnx", "--picture_onnx"} & set(arguments):
            pytest.importorskip("paddle2onnx")  # Python 3.13 has no wheel of it
        out = small.folder / name
        command = ["export", "--config", config, "--model_path", weights, "--save_dir", out, "--device", "cpu"]
        assert main([str(argument) for argument in (*command, *arguments)]) == 0
        return out

    return run


@pytest.fixture(scope="module")
def dynamic(export):
    """An export with argmax for any size, with ONNX."""
    return export("dynamic", "--to", "onnx")


@pytest.fixture(scope="module")
def logits(export):
    """An export without argmax for 96x64, with ONNX."""
    return export("logits", "--to", "onnx", "--output_op", "none", "--input_shape", 1, 3, 64, 96)


def run(*words):
    """The exit code of a command."""
    return main([str(word) for word in words])


def infer(export, small, out, *flags):
    return run("infer", "--config", export / "deploy.yaml", "--image_path", small.images, "--save_dir", out, *flags)


def masks(folder):
    """What `infer` has written into a folder, by name."""
    return {path.stem: np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))}
