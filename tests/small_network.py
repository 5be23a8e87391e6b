"""A small network with scenes to run it on, as `train` would leave it; the weights are random.

A plugin of pytest: every test may use its fixtures. The network and its usual exports are made once in a run. Each
file of tests has copies, so that it may change them.
"""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from PIL import Image

from bisenetv1_plugin.cli import main


@pytest.fixture(scope="session")
def network(tmp_path_factory):
    """The folder of the scenes (`data`), `config.yml` and `model.pdparams`, and the model."""
    import paddle

    from bisenetv1_plugin import zoo
    from bisenetv1_plugin.datasets.classes import DEMO_CLASSES
    from bisenetv1_plugin.datasets.synthetic import write_scenes
    from bisenetv1_plugin.training import builder

    folder = tmp_path_factory.mktemp("network")
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
    return SimpleNamespace(folder=folder, model=model)


@pytest.fixture(scope="module")
def small(network, tmp_path_factory):
    """Paths of three scenes of 96x64 (`images`, `list`), of a configuration for them and of `weights`."""
    folder = tmp_path_factory.mktemp("small")
    shutil.copytree(network.folder / "data", folder / "data")
    shutil.copy(network.folder / "model.pdparams", folder)
    config = folder / "config.yml"
    config.write_text((network.folder / "config.yml").read_text().replace(str(network.folder), str(folder)))
    return SimpleNamespace(
        folder=folder,
        config=config,
        weights=folder / "model.pdparams",
        model=network.model,
        images=folder / "data" / "images" / "val",
        list=folder / "data" / "val.txt",
    )


def write_export(out, config, weights, *arguments):
    """Export on the CPU into the folder `out`; return it."""
    if {"onnx", "--picture_onnx"} & set(arguments):
        pytest.importorskip("paddle2onnx")  # Python 3.13 has no wheel of it
    command = ["export", "--config", config, "--model_path", weights, "--save_dir", out, "--device", "cpu"]
    assert main([str(argument) for argument in (*command, *arguments)]) == 0
    return out


@pytest.fixture(scope="module")
def export(small):
    """Exports the network on the CPU into a folder of its own; returns the folder."""

    def run(name, *arguments, weights=small.weights, config=small.config):
        return write_export(small.folder / name, config, weights, *arguments)

    return run


@pytest.fixture(scope="session")
def exported_once(network):
    """Exports the network the first time that a name is asked for; copies that export into a folder."""

    def copy(folder, name, *arguments):
        first = network.folder / name
        if not first.exists():
            write_export(first, network.folder / "config.yml", network.folder / "model.pdparams", *arguments)
        return shutil.copytree(first, folder / name)

    return copy


@pytest.fixture(scope="module")
def dynamic(small, exported_once):
    """An export with argmax for any size, with ONNX."""
    return exported_once(small.folder, "dynamic", "--to", "onnx")


@pytest.fixture(scope="module")
def logits(small, exported_once):
    """An export without argmax for 96x64, with ONNX."""
    flags = ("--to", "onnx", "--output_op", "none", "--input_shape", 1, 3, 64, 96)
    return exported_once(small.folder, "logits", *flags)


@pytest.fixture(scope="module")
def softmax(small, exported_once):
    """An export that ends in softmax for any size, with ONNX."""
    return exported_once(small.folder, "softmax", "--to", "onnx", "--output_op", "softmax")


@pytest.fixture(scope="module")
def pair(small, exported_once):
    """An export with argmax for two pictures of 96x64 at a time, in Paddle alone."""
    return exported_once(small.folder, "pair", "--to", "paddle", "--input_shape", 2, 3, 64, 96)


def run(*words):
    """The exit code of a command."""
    return main([str(word) for word in words])


def infer(export, small, out, *flags):
    return run("infer", "--config", export / "deploy.yaml", "--image_path", small.images, "--save_dir", out, *flags)


def masks(folder):
    """What `infer` has written into a folder, by name."""
    return {path.stem: np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))}
