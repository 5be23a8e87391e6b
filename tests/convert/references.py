"""The original PyTorch networks, with random weights and with BatchNorm statistics other than 0 and 1.

MMSegmentation's network and the face-parsing network come from PyPI (mmsegmentation, mmengine, mmcv-lite, hairtone).
The code of the authors and of CoinCheung is not on PyPI: TORCHSEG_DIR and COINCHEUNG_DIR name checkouts of
ycszen/TorchSeg and CoinCheung/BiSeNet.
"""

import importlib.util
import os
import sys
import types
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

# Name -> (function that builds the network, variant, backbone)
NETWORKS = {
    "mmseg-r18": (lambda: _mmseg("ResNet", 18), "mmseg", "ResNet18_v1b"),
    "mmseg-r18-v1c": (lambda: _mmseg("ResNetV1c", 18), "mmseg", "ResNet18_v1c"),
    "mmseg-r50": (lambda: _mmseg("ResNet", 50), "mmseg_wide", "ResNet50_v1b"),
    "mmseg-r101-v1c": (lambda: _mmseg("ResNetV1c", 101), "mmseg_wide", "ResNet101_v1c"),
    "zllrunning": (lambda: _zllrunning(), "zllrunning", "ResNet18_v1b"),
    "coincheung": (lambda: _coincheung(), "coincheung", "ResNet18_v1b"),
    "torchseg-r18": (lambda: _torchseg("R18"), "torchseg", "ResNet18_v1b"),
    "torchseg-r101": (lambda: _torchseg("R101"), "torchseg_r101", "ResNet101_v1s"),
    "torchseg-x39": (lambda: _torchseg("X39"), "torchseg_x39", "Xception39"),
    "torchseg-r18-speed": (lambda: _torchseg("R18.speed"), "torchseg_speed", "ResNet18_v1b"),
    "torchseg-x39-speed": (lambda: _torchseg("X39.speed"), "torchseg_speed", "Xception39"),
}
CLASSES = 19


def build(name):
    """Build a torch.nn.Module with our order of outputs: in training auxiliary 1/16, 1/8, principal."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    module = NETWORKS[name][0]()
    simulate_training(torch, module)
    return module


def images(batch, size, seed=0):
    """Return images `[batch, 3, *size]` float32: noise over blots of color. Their averages differ."""
    random = np.random.RandomState(seed)
    blots = random.normal(size=(batch, 3, 4, 4)) + random.normal(size=(batch, 3, 1, 1))
    blots = np.kron(blots, np.ones((size[0] // 4, size[1] // 4)))
    return (blots + random.normal(0, 0.5, size=blots.shape)).astype("float32")


def simulate_training(torch, module):
    """Set weights that preserve the scale of activations, and BatchNorm statistics near those of the activations."""
    norms = [layer for layer in module.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    residual = [layer for name, layer in module.named_modules() if name.endswith("bn3")]
    for layer in norms:
        # Thirty residuals as large as their shortcuts would amplify the rounding errors of float32.
        low, high = (0.1, 0.4) if layer in residual else (0.5, 1.5)
        torch.nn.init.uniform_(layer.weight, low, high)
        torch.nn.init.normal_(layer.bias, 0, 0.3)
        layer.momentum = 1.0
    module.train()
    with torch.no_grad():
        module(torch.from_numpy(images(8, (128, 160), seed=1)).to(norms[0].weight.dtype))
        for layer in norms:
            layer.momentum = 0.1
            layer.running_mean += layer.running_var.sqrt() * torch.randn_like(layer.running_mean) / 4
            layer.running_var *= torch.empty_like(layer.running_var).uniform_(0.7, 1.4)
            layer.running_var += 1e-3


def wrap(module, forward):
    """Replace a module's forward with `forward(module, image)`; return the module."""
    module.forward = types.MethodType(forward, module)
    return module


def _mmseg(backbone, depth):
    """MMSegmentation's own configuration, without dropout, because its random numbers differ from ours."""
    for package in ("mmcv", "mmengine", "mmseg", "ftfy", "regex"):
        pytest.importorskip(package)
    import torch

    # mmcv-lite has no compiled operators; MMSegmentation imports them for heads that BiSeNetV1 does not have.
    operators = types.ModuleType("mmcv.ops")
    for name in ("point_sample", "sigmoid_focal_loss", "CrissCrossAttention", "PSAMask"):
        setattr(operators, name, torch.nn.Module)
    sys.modules.setdefault("mmcv.ops", operators)
    import mmseg
    from mmengine.config import Config
    from mmseg.registry import MODELS
    from mmseg.utils import register_all_modules

    register_all_modules()
    dataset = "cityscapes-1024x1024" if depth < 101 else "coco-stuff164k-512x512"
    folder = Path(mmseg.__file__).parent / ".mim/configs/bisenetv1"
    model = Config.fromfile(str(folder / f"bisenetv1_r{depth}-d32_4xb4-160k_{dataset}.py")).model
    model.pop("data_preprocessor")
    model.backbone.backbone_cfg.type = backbone
    for head in (model.decode_head, *model.auxiliary_head):
        head.update(num_classes=CLASSES, dropout_ratio=0)
    module = MODELS.build(_plain_batchnorm(model))

    def forward(self, image):
        features = self.backbone(image)
        heads = [self.decode_head]
        if self.training:
            heads = [self.auxiliary_head[1], self.auxiliary_head[0], self.decode_head]
        logits = [head(features) for head in heads]
        return [
            torch.nn.functional.interpolate(out, image.shape[2:], mode="bilinear", align_corners=False)
            for out in logits
        ]

    return wrap(module, forward)


def _plain_batchnorm(config):
    if isinstance(config, dict):
        for key, value in config.items():
            config[key] = {**value, "type": "BN"} if key == "norm_cfg" else _plain_batchnorm(value)
    elif isinstance(config, list):
        config[:] = [_plain_batchnorm(value) for value in config]
    return config


def _zllrunning():
    """hairtone's copy of the network, without the rest of the package and its imports."""
    spec = importlib.util.find_spec("hairtone")
    if spec is None:
        pytest.skip("could not import 'hairtone'")
    folder = Path(spec.origin).parent / "_vendor"
    with modules(hairtone=package(), **{"hairtone._vendor": package(folder)}):
        from hairtone._vendor.bisenet import BiSeNet

    return wrap(BiSeNet(CLASSES), reverse_outputs(BiSeNet.forward))


def _coincheung():
    folder = checkout("COINCHEUNG_DIR")
    with modules(folder, "lib", torchvision=types.ModuleType("torchvision")), no_download():
        from lib.models.bisenetv1 import BiSeNetV1

        return wrap(BiSeNetV1(CLASSES), reverse_outputs(BiSeNetV1.forward))


@contextmanager
def no_download():
    """Replace downloads of PyTorch's model zoo with empty weights."""
    from torch.utils import model_zoo

    load_url, model_zoo.load_url = model_zoo.load_url, lambda url: {}
    try:
        yield
    finally:
        model_zoo.load_url = load_url


def reverse_outputs(original):
    def forward(self, image):
        principal, auxiliary8, auxiliary16 = original(self, image)
        return [auxiliary16, auxiliary8, principal] if self.training else [principal]

    return forward


def _torchseg(kind):
    folder = checkout("TORCHSEG_DIR")
    import torch

    config = types.ModuleType("config")
    config.config = types.SimpleNamespace(num_classes=CLASSES, bn_eps=1e-5, bn_momentum=0.1)
    utils = types.ModuleType("utils.pyt_utils")
    utils.load_model = None
    stand_ins = {"config": config, "utils": package(), "utils.pyt_utils": utils}
    with modules(folder / "furnace", "base_model", "seg_opr", **stand_ins):
        spec = importlib.util.spec_from_file_location(
            "torchseg_network", folder / f"model/bisenet/cityscapes.bisenet.{kind}/network.py"
        )
        network = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(network)
    outputs = []

    def criterion(logits, label):
        return logits.sum()

    module = network.BiSeNet(CLASSES, True, *[criterion] * (1 if kind in ("R18", "R101") else 2))
    for head in module.heads:
        head.register_forward_hook(lambda head, inputs, logits: outputs.append(logits))

    def forward(self, image):
        """Return the outputs of the heads. The original returns a loss, or log-probabilities in evaluation."""
        self.is_training = self.training
        outputs.clear()
        network.BiSeNet.forward(self, image)
        if not self.training and kind.endswith("speed"):  # ours resizes them to the image, as PaddleSeg requires
            return [torch.nn.functional.interpolate(outputs[0], image.shape[2:], mode="bilinear", align_corners=True)]
        return list(outputs)

    return wrap(module, forward)


def checkout(variable):
    if not os.environ.get(variable):
        pytest.skip(f"{variable} names no checkout")
    return Path(os.environ[variable])


def package(folder=None):
    module = types.ModuleType("package")
    module.__path__ = [str(folder)] if folder else []
    return module


@contextmanager
def modules(folder=None, *names, **stand_ins):
    """Add `folder` to the import path and the stand-ins to sys.modules; remove all of them afterwards."""
    before = dict(sys.modules)
    path = list(sys.path)
    sys.modules.update(stand_ins)
    if folder:
        sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = path
        for name in list(sys.modules):
            if name.partition(".")[0] in {*names, *(stand_in.partition(".")[0] for stand_in in stand_ins)}:
                del sys.modules[name]
        sys.modules.update({name: before[name] for name in before if name not in sys.modules})
