"""Checkpoints that are whole and finite, and the trainings that the two guards leave alone."""

import numpy as np
import paddle
import pytest

from bisenetv1_plugin.compat import core_train, nan_checkpoints, whole_checkpoints

# PaddleSeg's own train on a network of one convolution. Under a name of this package the network counts as its own. As
# in tools/train.py the name `train` is there before the guards are.
TRAIN = """
import sys
import numpy as np, paddle, paddleseg
from paddleseg.core import train
from bisenetv1_plugin.losses.ohem import BiSeNetV1Loss

class Net(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv = paddle.nn.Conv2D(3, 2, 1)

    def forward(self, x):
        return [self.conv(x)]

class Images(paddle.io.Dataset):
    num_classes, ignore_index = 2, 255

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return {"img": np.ones((3, 4, 4), "float32"), "label": np.zeros((4, 4), "int64")}

class Loss(paddle.nn.Layer):
    def forward(self, logit, label):
        return (logit ** 2).mean().reshape([1])

BiSeNetV1Loss()
Net.__module__, _, Loss.__module__ = sys.argv[1].partition("+")
net = Net()
if sys.argv[2] == "nan":
    net.conv.bias.set_value(np.array([1, np.nan], "float32"))
optimizer = paddle.optimizer.SGD(0.01, parameters=net.parameters())
train(net, Images(), optimizer=optimizer, iters=2, batch_size=2, save_interval=1, save_dir="out", log_iters=1,
      losses={"types": [Loss()], "coef": [1]})
"""


def saves(done, tmp_path):
    assert "[TRAIN]" in done.stdout
    return sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.pd*"))


@pytest.mark.slow
class TestNaN:
    def test_is_not_saved(self, python, tmp_path):
        done = python("-c", TRAIN, "bisenetv1_plugin.models.any", "nan")
        assert done.returncode == 1 and saves(done, tmp_path) == []
        last = done.stderr.strip().splitlines()[-1]
        assert "InputError: the training was stopped at iteration 1: 2 tensors of " in last and "conv." in last
        assert not list((tmp_path / "out").iterdir()), "no empty folder with a checkpoint's name"

    @pytest.mark.very_slow
    def test_is_saved_without_the_guard(self, python, tmp_path):
        done = python("-c", TRAIN, "bisenetv1_plugin.models.any", "nan", BISENETV1_PLUGIN_COMPAT="-nan_checkpoints")
        assert len(saves(done, tmp_path)) == 4
        state = paddle.load(str(tmp_path / "out/iter_2/model.pdparams"), return_numpy=True)
        assert np.isnan(state["conv.bias"]).any()

    @pytest.mark.very_slow
    @pytest.mark.parametrize(
        "package, train",
        [
            ("somebody.elses+bisenetv1_plugin.losses.any", "from paddleseg.core import train"),
            ("somebody.elses", "from bisenetv1_plugin.compat.core_train import train_with_guards as train"),
        ],
    )
    def test_of_another_network(self, python, tmp_path, package, train):
        """With a loss of this package, or trained by `bisenetv1 train`."""
        done = python("-c", TRAIN.replace("from paddleseg.core import train", train), package, "nan")
        assert done.returncode == 1 and saves(done, tmp_path) == [] and "stopped at iteration 1" in done.stderr

    @pytest.mark.parametrize("package, what", [("somebody.elses", "nan"), ("bisenetv1_plugin.models.any", "good")])
    @pytest.mark.very_slow
    def test_other_trainings_are_left_alone(self, python, tmp_path, package, what):
        done = python("-c", TRAIN, package, what)
        assert done.returncode == 0, done.stderr
        assert len(saves(done, tmp_path)) == 4


def test_finite_states():
    nan, one = paddle.to_tensor([1.0, float("nan")]), paddle.to_tensor([1.0, 2.0])
    assert nan_checkpoints.not_finite({"a": one, "LR_Scheduler": {"last_lr": 0.1}, "n": paddle.to_tensor([1])}) == []
    assert nan_checkpoints.not_finite({}) == [] == nan_checkpoints.not_finite({"mIoU": float("nan"), "iter": 3})
    assert nan_checkpoints.not_finite({"a": one, "b": nan, "c": nan * 0}) == ["b", "c"]
    assert nan_checkpoints.not_finite({"master_weights": {"a": nan.astype("float64")}}) == ["master_weights.a"]
    half = paddle.to_tensor(np.array([np.inf, 1], "float16"))
    assert nan_checkpoints.not_finite({"a": half, "b": paddle.to_tensor(1.0)}) == ["a"]


class TestWholeFiles:
    @pytest.fixture
    def save(self):
        return whole_checkpoints._wrap_save(paddle.save)

    def test_the_same_files(self, save, tmp_path):
        state = {"a": paddle.to_tensor([1.0])}
        save(state, str(tmp_path / "iter_1" / "model.pdparams"))
        paddle.save(state, str(tmp_path / "as_usual.pdparams"))
        assert [path.name for path in (tmp_path / "iter_1").iterdir()] == ["model.pdparams"]
        assert (tmp_path / "iter_1/model.pdparams").read_bytes() == (tmp_path / "as_usual.pdparams").read_bytes()

    def test_the_one_before_stays_when_writing_fails(self, tmp_path):
        def half(obj, path):
            with open(path, "wb") as file:
                file.write(b"half")
            raise OSError(28, "No space left on device")

        path = tmp_path / "model.pdparams"
        path.write_bytes(b"whole")
        with pytest.raises(OSError, match="No space left on device") as raised:
            whole_checkpoints._wrap_save(half)({}, str(path))
        assert raised.value.filename == str(path)
        assert path.read_bytes() == b"whole" and len(list(tmp_path.iterdir())) == 1

    def test_only_paddlesegs_train_sees_it(self):
        module = core_train.module()
        with whole_checkpoints._write_whole_files(core_train.Call({})):
            assert module.paddle.save is not paddle.save and module.paddle.nn is paddle.nn
        assert module.paddle is paddle

    @pytest.mark.slow
    @pytest.mark.parametrize("switches", ["", pytest.param("-whole_checkpoints", marks=pytest.mark.very_slow)])
    def test_a_killed_training_leaves_no_half_file(self, python, tmp_path, switches):
        """The process ends in the middle of pickle's writing, as under SIGKILL."""
        dying = """
import builtins, os
opened = builtins.open
def dying_open(path, mode="r", *args, **kwargs):
    file = opened(path, mode, *args, **kwargs)
    if "w" in mode and str(path).endswith(".pdparams"):
        file.write(b"half")
        file.flush()
        os._exit(9)
    return file
builtins.open = dying_open
"""
        done = python("-c", dying + TRAIN, "bisenetv1_plugin.models.any", "good", BISENETV1_PLUGIN_COMPAT=switches)
        assert done.returncode == 9, done.stderr
        path = tmp_path / "out/iter_1/model.pdparams"
        assert path.read_bytes().startswith(b"half") if switches else not path.exists()
