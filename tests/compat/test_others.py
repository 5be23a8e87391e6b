"""A training of another network uses Paddle and PaddleSeg unchanged, even if the plugin is installed."""

import json

import pytest

# A training of PaddleSeg's own network, and all attributes before and after it. PaddleSeg 2.8.0 can average only losses
# of shape [1], but its own losses are 0-D.
TRAIN = """
import zlib  # Paddle 2.6 without the plugin needs it first
import json, sys, types
import numpy as np, paddle, paddleseg
from paddleseg.core import train
from paddleseg.models import BiseNetV1, ResNet18_vd

LOOKED_AT = [name for name in sys.modules if name.startswith("paddle.io")] + ["paddleseg.core.train"]

def attributes():
    found = {"paddle.save": paddle.save, "paddleseg.core.train": paddleseg.core.train, "paddle.io": paddle.io}
    for module in LOOKED_AT:
        found.update({f"{module}.{name}": value for name, value in vars(sys.modules[module]).items()})
    for path, value in list(found.items()):
        if isinstance(value, type):
            found.update({f"{path}.{name}": part for name, part in vars(value).items()})
    return {path: value for path, value in found.items() if callable(value) or isinstance(value, types.ModuleType)}

def code_of(value):
    if not isinstance(value, types.FunctionType):
        return None
    constants = [c for c in value.__code__.co_consts if not isinstance(c, (types.CodeType, frozenset))]
    code = value.__code__
    return [code.co_filename, code.co_firstlineno, code.co_code.hex(), code.co_names, repr(constants)]

def described(found):
    kinds = {path: f"{value.__module__}.{value.__qualname__}" for path, value in found.items()
             if isinstance(value, (type, types.FunctionType))}
    return {path: [kinds.get(path, str(type(value))), code_of(value)] for path, value in sorted(found.items())}

class Images(paddle.io.Dataset):
    num_classes, ignore_index, file_list = 2, 255, []

    def __len__(self):
        return 2

    def __getitem__(self, i):
        return {"img": np.ones((3, 64, 64), "float32"), "label": np.zeros((64, 64), "int64"), "trans_info": []}

class Loss(paddle.nn.Layer):
    def forward(self, logit, label):
        return paddle.nn.functional.cross_entropy(logit, label, axis=1).reshape([1])

before = attributes()
if sys.argv[1] == "train":
    net = BiseNetV1(2, ResNet18_vd(output_stride=8))
    optimizer = paddle.optimizer.SGD(0.01, parameters=net.parameters())
    train(net, Images(), Images(), optimizer=optimizer, iters=2, batch_size=2, save_interval=2, save_dir="out",
          log_iters=1, num_workers=int(sys.argv[2]), losses={"types": [Loss()] * 3, "coef": [1] * 3})
after = attributes()
assert before.keys() == after.keys() and all(before[path] is after[path] for path in before)
assert described(before) == described(after)
print(json.dumps(described(after)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [pytest.param(0, marks=pytest.mark.very_slow), 2])
def test_attributes_are_the_same_as_without_the_plugin(python, tmp_path, num_workers):
    trained = python("-c", TRAIN, "train", num_workers)
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "out/iter_2/model.pdparams").is_file()
    without = python("-c", TRAIN, "look", 0, BISENETV1_PLUGIN=0)
    ours, upstreams = (json.loads(done.stdout.splitlines()[-1]) for done in (trained, without))
    assert len(upstreams) > 100 and "paddleseg.core.train.train" in upstreams
    assert ours == upstreams
