"""The guards for complete and finite checkpoints, and the trainings that they do not affect."""

import numpy as np
import paddle
import pytest

from bisenetv1_plugin.compat import core_train, nan_checkpoints, whole_checkpoints

# PaddleSeg's train on a network of one convolution. With a module name of this package, the network counts as part of
# it. As in tools/train.py, `train` is imported before the guards are on.
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


def saved_files(done, tmp_path):
    assert "[TRAIN]" in done.stdout
    return sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.pd*"))


@pytest.mark.slow
class TestNaN:
    def test_nan_is_not_saved(self, python, tmp_path):
        done = python("-c", TRAIN, "bisenetv1_plugin.models.any", "nan")
        assert done.returncode == 1 and saved_files(done, tmp_path) == []
        last = done.stderr.strip().splitlines()[-1]
        assert "InputError: the training was stopped at iteration 1: 2 tensors of " in last and "conv." in last
        assert not list((tmp_path / "out").iterdir()), "no empty folder with a checkpoint's name"

    @pytest.mark.very_slow
    def test_nan_is_saved_without_the_guard(self, python, tmp_path):
        done = python("-c", TRAIN, "bisenetv1_plugin.models.any", "nan", BISENETV1_PLUGIN_COMPAT="-nan_checkpoints")
        assert len(saved_files(done, tmp_path)) == 4
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
    def test_nan_in_another_network(self, python, tmp_path, package, train):
        """The network has a loss of this package, or is trained by `bisenetv1 train`."""
        done = python("-c", TRAIN.replace("from paddleseg.core import train", train), package, "nan")
        assert done.returncode == 1 and saved_files(done, tmp_path) == [] and "stopped at iteration 1" in done.stderr

    @pytest.mark.parametrize("package, what", [("somebody.elses", "nan"), ("bisenetv1_plugin.models.any", "good")])
    @pytest.mark.very_slow
    def test_other_trainings_are_unchanged(self, python, tmp_path, package, what):
        done = python("-c", TRAIN, package, what)
        assert done.returncode == 0, done.stderr
        assert len(saved_files(done, tmp_path)) == 4


def test_finite_states():
    nan, one = paddle.to_tensor([1.0, float("nan")]), paddle.to_tensor([1.0, 2.0])
    assert nan_checkpoints.not_finite({"a": one, "LR_Scheduler": {"last_lr": 0.1}, "n": paddle.to_tensor([1])}) == []
    assert nan_checkpoints.not_finite({}) == [] == nan_checkpoints.not_finite({"mIoU": float("nan"), "iter": 3})
    assert nan_checkpoints.not_finite({"a": one, "b": nan, "c": nan * 0}) == ["b", "c"]
    assert nan_checkpoints.not_finite({"master_weights": {"a": nan.astype("float64")}}) == ["master_weights.a"]
    half = paddle.to_tensor(np.array([np.inf, 1], "float16"))
    assert nan_checkpoints.not_finite({"a": half, "b": paddle.to_tensor(1.0)}) == ["a"]


class TestCompleteFiles:
    @pytest.fixture
    def save(self):
        return whole_checkpoints._wrap_save(paddle.save)

    def test_files_have_the_usual_content(self, save, tmp_path):
        state = {"a": paddle.to_tensor([1.0])}
        save(state, str(tmp_path / "iter_1" / "model.pdparams"))
        paddle.save(state, str(tmp_path / "as_usual.pdparams"))
        assert [path.name for path in (tmp_path / "iter_1").iterdir()] == ["model.pdparams"]
        assert (tmp_path / "iter_1/model.pdparams").read_bytes() == (tmp_path / "as_usual.pdparams").read_bytes()

    def test_failed_write_keeps_the_previous_file(self, tmp_path):
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

    def test_only_paddlesegs_train_is_patched(self):
        module = core_train.module()
        with whole_checkpoints._write_whole_files(core_train.Call({})):
            assert module.paddle.save is not paddle.save and module.paddle.nn is paddle.nn
        assert module.paddle is paddle

    @pytest.mark.slow
    @pytest.mark.parametrize("switches", ["", pytest.param("-whole_checkpoints", marks=pytest.mark.very_slow)])
    def test_killed_training_leaves_no_partial_file(self, python, tmp_path, switches):
        """The process ends while pickle writes, as with SIGKILL."""
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
