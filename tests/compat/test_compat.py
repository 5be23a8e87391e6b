"""Every correction, on and off, in the case that it corrects; the start of the guards; and the switches."""

import ast
import functools
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
import yaml
from paddleseg.utils import metrics

from bisenetv1_plugin import compat
from bisenetv1_plugin.compat import (
    core_train,
    deploy_yaml,
    gpu_memory,
    numbers_of_tensors,
    onednn_resize,
    scalar_areas,
    train_without_eval,
    zlib_first,
)
from bisenetv1_plugin.losses.ohem import BiSeNetV1Loss

pytestmark = pytest.mark.slow

IMPORTS = "import paddle, paddleseg; print('imported')"
PADDLE_2 = paddle.__version__.startswith("2.")
SHARED_ZLIB = "zlib" not in sys.builtin_module_names

AREAS = """
import zlib  # the other defect has its own test
import paddle
from paddleseg.utils import metrics
pred = paddle.to_tensor([[[0, 1], [1, 2]]])
label = paddle.to_tensor([[[0, 1], [2, 255]]])
print([area.tolist() for area in metrics.calculate_area(pred, label, 3)])
"""


def upstream_areas_are_broken():
    """`calculate_area` before the correction: it concatenates instead of stacking."""
    original = getattr(metrics.calculate_area, "__wrapped__", metrics.calculate_area)
    return "stack" not in original.__code__.co_names


class TestScalarAreas:
    def test_counts(self):
        random = np.random.RandomState(0)
        pred, label = random.randint(0, 4, (2, 3, 8, 9))
        label[random.rand(*label.shape) < 0.2] = 255
        counted = label != 255
        expected = [
            [int(((pred == i) & (label == i)).sum()) for i in range(4)],
            [int(((pred == i) & counted).sum()) for i in range(4)],
            [int((label == i).sum()) for i in range(4)],
        ]
        for axis in (None, 1):
            tensors = [paddle.to_tensor(a if axis is None else a[:, None]) for a in (pred, label)]
            assert [area.tolist() for area in scalar_areas.calculate_area(*tensors, 4)] == expected

    def test_shapes_must_agree(self):
        with pytest.raises(ValueError, match="must have the same shape"):
            scalar_areas.calculate_area(paddle.zeros([1, 2, 2]), paddle.zeros([1, 2, 3]), 2)

    @pytest.mark.skipif(not upstream_areas_are_broken(), reason="this PaddleSeg's calculate_area is right")
    @pytest.mark.very_slow
    def test_fails_without_the_correction(self, python):
        on = python("-c", AREAS)
        assert "[[1, 1, 0], [1, 2, 0], [1, 1, 1]]" in on.stdout, on.stderr
        assert on.stdout.count("bisenetv1-plugin corrects calculate_area") == 1
        for switch in ("0", "-scalar_areas"):
            off = python("-c", AREAS, BISENETV1_PLUGIN_COMPAT=switch)
            assert off.returncode != 0 and "axis" in off.stderr

    @pytest.mark.skipif(upstream_areas_are_broken(), reason="this PaddleSeg's calculate_area is broken")
    def test_working_version_is_unchanged(self):
        assert not scalar_areas.needed()
        assert metrics.calculate_area.__code__ is not scalar_areas.calculate_area.__code__


class TestNumbersOfTensors:
    CODE = """
import zlib, paddle, paddleseg
from bisenetv1_plugin.losses.ohem import BiSeNetV1Loss
BiSeNetV1Loss()
print(float(paddle.ones([])), float(paddle.full([1], 2.5)), int(paddle.full([1, 1], 3)), "ab"[paddle.full([1], 1)])
net = paddle.nn.Sequential(paddle.nn.Linear(4, 5))
print(paddle.flops(net, [1, 4]))
"""
    refuses = np.lib.NumpyVersion(np.__version__) >= "2.5.0"

    @pytest.mark.skipif(not refuses, reason="this NumPy makes a number of an array of shape [1]")
    def test_fails_without_the_correction(self, python):
        on = python("-c", self.CODE)
        assert "1.0 2.5 3 b" in on.stdout and on.returncode == 0, on.stderr
        assert on.stdout.count("bisenetv1-plugin corrects float() and int()") == 1
        off = python("-c", self.CODE, BISENETV1_PLUGIN_COMPAT="-numbers_of_tensors")
        assert off.returncode != 0 and "only 0-dimensional arrays can be converted" in off.stderr

    @pytest.mark.skipif(refuses, reason="this NumPy makes no number of an array of shape [1]")
    def test_is_not_applied_without_the_defect(self):
        BiSeNetV1Loss()
        assert compat.STATES["numbers_of_tensors"] == "not needed"
        assert not hasattr(paddle.Tensor.__float__, "__wrapped__")

    def test_touches_tensors_of_one_element_and_dimensions_only(self):
        shapes = []
        convert = numbers_of_tensors.without_dimensions(lambda tensor: shapes.append(tensor.shape))
        for shape in ([], [1], [1, 1], [2], [0]):
            convert(paddle.ones(shape))
        assert shapes == [[], [], [], [2], [0]]


# Simulates a Paddle for GPUs without a driver and without cuDNN.
CUDNN = """
import zlib  # the other defect has its own test
import paddle
core = paddle.base.core
paddle.is_compiled_with_cuda = core.is_compiled_with_cuda = lambda: True
core.cudnn_version = lambda: {version}
core.get_cuda_device_count = lambda: 0
def raise_error():
    raise OSError("(External) CUDA error(35)")
core.get_cuda_current_device_id = raise_error
import paddleseg
from paddleseg.utils import get_sys_env, utils
from bisenetv1_plugin import compat, gpu
print(compat.STATES.get("cudnn_version"))
print([env["cudnn"] for env in (get_sys_env(), utils.get_sys_env())])
utils.set_device("gpu")
print(paddle.get_device(), paddle.get_cudnn_version(), paddleseg.utils.env.sys_env.paddle is paddle)
"""
# The same for the memory query of PaddleSeg 2.9's train.
MEMORY = """
from contextlib import ExitStack
from bisenetv1_plugin.compat import core_train, gpu_memory
compat.apply(compat.WITH_THE_NETWORK)
with ExitStack() as training:
    for guard in core_train._guards:
        if guard.__module__ == gpu_memory.__name__:
            training.enter_context(guard(None))
    asked = vars(core_train.module())["paddle"].device
    state = compat.STATES["gpu_memory"]
    print(state, asked.is_compiled_with_cuda() and asked.cuda.max_memory_reserved() // (1024 ** 2))
try:
    paddle.device.cuda.max_memory_reserved()
except OSError as error:
    print("Paddle:", error)
"""


class TestCudnnVersion:
    def test_paddle_without_cudnn(self, python):
        on = python("-c", CUDNN.format(version=-1))
        assert on.returncode == 0, on.stderr
        assert "active\n" in on.stdout and "['0.0', '0.0']" in on.stdout
        assert on.stdout.count("reports cuDNN 0.0") == 1
        assert "cpu -1 False" in on.stdout  # Paddle's own function is unchanged

    @pytest.mark.very_slow
    def test_fails_without_the_correction(self, python):
        for switch in ("0", "-cudnn_version"):
            off = python("-c", CUDNN.format(version=-1), BISENETV1_PLUGIN_COMPAT=switch)
            assert off.returncode != 0 and "unsupported operand type(s) for //: 'NoneType' and 'int'" in off.stderr

    def test_working_version_is_unchanged(self, python):
        """cuDNN is found. Its version is read only when PaddleSeg reads it."""
        preload = "import bisenetv1_plugin.gpu as gpu; gpu.can_open = lambda name: True\n"
        done = python("-c", preload + CUDNN.format(version=8600))
        assert "not needed\n" in done.stdout and "['8.6', '8.6']" in done.stdout, done.stderr
        assert "cpu 8600 True" in done.stdout

    def test_not_needed_with_paddle_for_the_cpu(self):
        assert compat.STATES["cudnn_version"] == "not needed" and not gpu_memory.needed()


@pytest.mark.skipif("max_memory_reserved" not in core_train.names(), reason="this PaddleSeg asks for no memory")
class TestGpuMemory:
    def test_paddle_without_a_gpu(self, python):
        on = python("-c", CUDNN.format(version=-1) + MEMORY)
        assert "active 0\n" in on.stdout and "Paddle: (External) CUDA error(35)" in on.stdout, on.stderr
        assert on.stdout.count("reports 0 bytes of GPU memory") == 1

    @pytest.mark.very_slow
    def test_fails_without_the_correction(self, python):
        off = python("-c", CUDNN.format(version=-1) + MEMORY, BISENETV1_PLUGIN_COMPAT="-gpu_memory")
        assert off.returncode != 0 and "OSError: (External) CUDA error(35)" in off.stderr

    def test_paddle_with_a_gpu_is_unchanged(self, python):
        code = (CUDNN.format(version=-1) + MEMORY).replace("device_count = lambda: 0", "device_count = lambda: 1")
        assert "OSError: (External) CUDA error(35)" in python("-c", code.replace('utils.set_device("gpu")', "")).stderr


class TestZlibFirst:
    @pytest.mark.skipif(not (PADDLE_2 and SHARED_ZLIB), reason="needs Paddle 2 and a Python whose zlib is an extension")
    @pytest.mark.very_slow
    def test_crashes_without_the_correction(self, python):
        assert "imported" in python("-c", IMPORTS).stdout
        for switch in ("0", "-zlib_first"):
            off = python("-c", IMPORTS, BISENETV1_PLUGIN_COMPAT=switch)
            assert off.returncode != 0 and "imported" not in off.stdout

    @pytest.mark.skipif(PADDLE_2, reason="Paddle 3 has no such clash")
    def test_not_applied_without_a_clash(self, python):
        off = python("-c", IMPORTS, BISENETV1_PLUGIN_COMPAT=0)
        assert "imported" in off.stdout
        assert not zlib_first.needed()


paddle_3 = pytest.mark.skipif(PADDLE_2, reason="Paddle 2 writes and reads .pdmodel programs")

# The calls of tools/export.py, and of deploy/python/infer.py, which imports paddle.inference before paddleseg.
EXPORT = """
import sys
import paddle, paddleseg, yaml
class Net(paddle.nn.Layer):
    def __init__(self, resize):
        super().__init__()
        self.conv, self.resize = paddle.nn.Conv2D(3, 4, 3), resize
    def forward(self, x):
        x = paddle.nn.functional.relu(self.conv(x))
        return paddle.nn.functional.interpolate(x, (9, 11), **self.resize) if self.resize else x
paddle.seed(0)
for name, resize in (("resizing", dict(mode="bilinear", align_corners=True)), ("plain", None)):
    net = Net(resize)
    net.eval()
    print(name, float((net(paddle.linspace(0, 1, 144).reshape([1, 3, 6, 8])) ** 2).sum()))
    paddle.jit.save(net, f"{name}/model", input_spec=[paddle.static.InputSpec([1, 3, 6, 8], "float32")])
    with open(f"{name}/deploy.yaml", "w") as file:
        yaml.dump({"Deploy": {"model": "model.pdmodel", "params": "model.pdiparams", "transforms": []}}, file)
"""
INFER = """
import sys
from paddle.inference import create_predictor
from paddle.inference import Config as PredictConfig
import numpy as np
import zlib
from paddleseg.deploy.infer import DeployConfig
name, optimize = sys.argv[1:]
deploy = DeployConfig(f"{name}/deploy.yaml")
print("program", deploy.model)
config = PredictConfig(deploy.model, deploy.params)
config.disable_glog_info()
if optimize == "optimize":
    config.enable_memory_optim()
config.disable_gpu()
predictor = create_predictor(config)
predictor.get_input_handle("x").copy_from_cpu(np.linspace(0, 1, 144, dtype="float32").reshape(1, 3, 6, 8))
predictor.run()
print(name, float((predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu() ** 2).sum()))
"""


def export(folder, python, switches=""):
    """Exports two networks, `resizing` and `plain`, under these switches; returns the sums of their squared outputs."""
    (folder / "export.py").write_text(EXPORT)
    done = python("export.py", BISENETV1_PLUGIN_COMPAT=switches)
    assert done.returncode == 0, done.stderr
    return sums(done.stdout)


@pytest.fixture
def exported(python, tmp_path):
    return functools.partial(export, tmp_path, python)


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    """An export with all corrections, and what PaddleSeg's inference of `plain` prints."""
    folder = tmp_path_factory.mktemp("usual")

    def python(*words, **environment):
        env = {**os.environ, **environment}
        words = [sys.executable, *words]
        return subprocess.run(words, cwd=folder, env=env, text=True, timeout=300, capture_output=True)

    return SimpleNamespace(folder=folder, sums=export(folder, python), plain=python("-c", INFER, "plain", "as_is"))


def sums(output):
    return {line.split()[0]: float(line.split()[1]) for line in output.splitlines() if line[:5] in ("resiz", "plain")}


@paddle_3
class TestDeployYaml:
    def test_written_name_is_correct(self, usual):
        """The written file works on a machine without the plugin."""
        for name in ("resizing", "plain"):
            deploy = yaml.safe_load((usual.folder / name / "deploy.yaml").read_text())["Deploy"]
            assert deploy == {"model": "model.json", "params": "model.pdiparams", "transforms": []}
            assert (usual.folder / name / "model.json").is_file()

    @pytest.mark.very_slow
    def test_older_file_is_read(self, exported, python, tmp_path):
        exported("-deploy_yaml")
        assert "model.pdmodel" in (tmp_path / "plain" / "deploy.yaml").read_text()
        assert "program plain/model.json" in python("-c", INFER, "plain", "as_is").stdout
        off = python("-c", INFER, "plain", "as_is", BISENETV1_PLUGIN_COMPAT="-deploy_yaml")
        assert off.returncode != 0 and "program plain/model.pdmodel" in off.stdout

    def test_other_yaml_is_unchanged(self, tmp_path):
        (tmp_path / "model.json").touch()
        for data in (
            {"Deploy": {"model": "other.pdmodel"}},
            {"Deploy": {"model": "model.json"}},
            {"model": "model.pdmodel"},
            [],
        ):
            assert deploy_yaml._correct(data, str(tmp_path / "deploy.yaml")) is data
        assert deploy_yaml._correct({"Deploy": {"model": "model.pdmodel"}}, None) == {
            "Deploy": {"model": "model.pdmodel"}
        }

    def test_newer_program_is_used(self, tmp_path):
        """The folder has exports of Paddle 2 and Paddle 3."""
        old, new = tmp_path / "model.pdmodel", tmp_path / "model.json"
        old.touch()
        new.touch()
        for older, newer in ((old, new), (new, old)):
            os.utime(older, (1000, 1000))
            os.utime(newer, (2000, 2000))
            assert deploy_yaml.present_program(str(old)) == str(newer)


@paddle_3
class TestMemoryOptim:
    @pytest.mark.very_slow
    def test_fails_without_the_correction(self, exported, python):
        expected = exported()
        on = python("-c", INFER, "plain", "optimize")
        assert sums(on.stdout)["plain"] == pytest.approx(expected["plain"], rel=1e-4), on.stderr
        off = python("-c", INFER, "plain", "optimize", BISENETV1_PLUGIN_COMPAT="-memory_optim")
        assert off.returncode != 0 and "memory_optimize_pass" in off.stderr

    def test_model_without_memory_optimization_is_unchanged(self, usual):
        assert sums(usual.plain.stdout)["plain"] == pytest.approx(usual.sums["plain"], rel=1e-5), usual.plain.stderr
        assert "new executor" not in usual.plain.stdout


@paddle_3
class TestOneDNNResize:
    @pytest.mark.very_slow
    def test_fails_without_the_correction(self, exported, python):
        expected = exported()["resizing"]
        on = python("-c", INFER, "resizing", "optimize")
        assert sums(on.stdout)["resizing"] == pytest.approx(expected, rel=1e-5), on.stderr
        assert on.stdout.count("onednn_placement_pass") == 1
        off = python("-c", INFER, "resizing", "optimize", BISENETV1_PLUGIN_COMPAT="-onednn_resize")
        raised = "ConvertPirAttribute2RuntimeAttribute" in off.stderr
        assert raised or sums(off.stdout)["resizing"] != pytest.approx(expected, rel=1e-3)

    def test_network_without_resizing_is_unchanged(self, usual):
        assert sums(usual.plain.stdout)["plain"] == pytest.approx(usual.sums["plain"], rel=1e-4), usual.plain.stderr
        assert "onednn_placement_pass" not in usual.plain.stdout
        assert onednn_resize.kinds(str(usual.folder / "plain/model.json")) == set()
        assert onednn_resize.kinds(str(usual.folder / "resizing/model.json")) == {("bilinear", True, 0)}

    def test_probe_can_succeed(self, monkeypatch):
        """Without oneDNN the same pixels are correct, so a False is caused by oneDNN."""
        monkeypatch.setattr(onednn_resize.Config, "enable_mkldnn", onednn_resize.Config.disable_mkldnn)
        assert onednn_resize.is_right.__wrapped__("bilinear", True, 0)
        assert onednn_resize.is_right.__wrapped__("nearest", False, 1)


class TestProtobufLabel:
    CODE = """
import paddle, paddleseg
import paddle.distributed.fleet as fleet
fleet.init(is_collective=True)
print("ready")
"""

    @pytest.fixture
    def protobuf_7(self, tmp_path):
        folder = tmp_path / "protobuf7"
        command = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-deps",
            "--target",
            str(folder),
            "protobuf>=7,<8",
        ]
        subprocess.run(command, check=True)
        return folder

    @pytest.mark.very_slow
    def test_fails_without_the_correction(self, protobuf_7, python):
        on = python("-c", self.CODE, PYTHONPATH=protobuf_7)
        assert "ready" in on.stdout, on.stderr
        off = python("-c", self.CODE, PYTHONPATH=protobuf_7, BISENETV1_PLUGIN_COMPAT="-protobuf_label")
        if paddle.__version__ >= "3.3":  # fleet asks for `is_repeated`
            assert "ready" in off.stdout
        else:
            assert off.returncode != 0 and "label" in off.stderr

    @pytest.mark.skipif(paddle.__version__ >= "3.3", reason="Paddle 3.3's fleet does without it")
    def test_labels(self, protobuf_7, python):
        code = """
import paddle, paddleseg
from google.protobuf import descriptor_pb2
fields = {f.name: f.label for f in descriptor_pb2.FileDescriptorProto.DESCRIPTOR.fields}
fields.update((f.name, f.label) for f in descriptor_pb2.UninterpretedOption.NamePart.DESCRIPTOR.fields)
print(fields["name"], fields["name_part"], fields["dependency"])
"""
        assert python("-c", code, PYTHONPATH=protobuf_7).stdout.split()[-3:] == ["1", "2", "3"]


class TestTrainWithoutEval:
    """PaddleSeg 2.9.1's own function is tested in tests/upstream."""

    GUARDED = """
def train(val_dataset=None):
    while True:
        if val_dataset is not None:
            mean_iou = 1
            states_dict = {'mIoU': mean_iou}
"""
    UNGUARDED = """
def train(val_dataset=None):
    while True:
        if val_dataset is not None:
            mean_iou = 1
        if local_rank == 0:
            states_dict = {'mIoU': mean_iou}
"""

    def test_probe(self):
        assert train_without_eval._reads_mean_iou(ast.parse(self.UNGUARDED).body[0].body)
        assert not train_without_eval._reads_mean_iou(ast.parse(self.GUARDED).body[0].body)


def test_broken_entry_does_not_affect_others(python):
    code = """
from bisenetv1_plugin import compat
from bisenetv1_plugin.compat import scalar_areas
def needed():
    raise KeyError("gone")
scalar_areas.needed = needed
compat.STATES.clear()
warned = []
compat.logger.warning = warned.append
compat.apply("after paddleseg")
print(compat.STATES["scalar_areas"], list(compat.ENTRIES.values()).count("after paddleseg") - len(compat.STATES))
print(*warned)
"""
    done = python("-c", code)
    states, warned = done.stdout.splitlines()[-2:]
    assert states == "failed 0"
    assert warned == "bisenetv1-plugin's correction scalar_areas failed: KeyError: 'gone'"


@pytest.mark.parametrize(
    "switches, off",
    [
        ("-zlib_first,-nan_checkpoints,-other", {"zlib_first", "nan_checkpoints"}),
        ("-zlib_first, -guards ,", {"zlib_first", *compat.GUARDS}),
        ("-guards", set(compat.GUARDS)),
        ("-corrections", set(compat.CORRECTIONS)),
        ("0", set(compat.ENTRIES)),
        ("", set()),
    ],
)
def test_switches(monkeypatch, switches, off):
    monkeypatch.setenv("BISENETV1_PLUGIN_COMPAT", switches)
    assert {name for name in compat.ENTRIES if not compat.is_on(name)} == off
    monkeypatch.setenv("BISENETV1_PLUGIN", "0")
    assert not any(map(compat.is_on, compat.ENTRIES))


def test_unknown_switches(monkeypatch):
    monkeypatch.setenv("BISENETV1_PLUGIN_COMPAT", "-guards, -guard,0,off,-,-Zlib_first,-zlib_first,")
    assert compat.unknown_switches() == ["-guard", "off", "-", "-Zlib_first"]
    monkeypatch.delenv("BISENETV1_PLUGIN_COMPAT")
    assert compat.unknown_switches() == []


BUILD = """
import paddle, paddleseg
from paddle.io import reader
from paddleseg.core import train
from bisenetv1_plugin import compat
from bisenetv1_plugin.backbones.resnet import ResNet18_v1b
from bisenetv1_plugin.losses.ohem import BiSeNetV1Loss
from bisenetv1_plugin.models.bisenetv1 import BiSeNetV1
def seen():
    return reader._DataLoaderIterSingleProcess, reader._DataLoaderIterMultiProcess, train.__code__
before = seen()
ResNet18_v1b()
assert before == seen()
assert not set(compat.GUARDS) & set(compat.STATES)
{build}
print([was is now for was, now in zip(before, seen())], {{compat.STATES.get(name) for name in compat.GUARDS}})
"""


DICE = """
import numpy as np
from paddleseg.models import DiceLoss, MixedLoss
random = np.random.RandomState(0)
kept = random.randint(0, 3, (2, 8, 8))
kept[:, :3] = 255
logits = paddle.to_tensor(random.randn(2, 3, 8, 8).astype("float32"))
labels = paddle.to_tensor(kept.astype("int64"))
alone = BiSeNetV1Loss()(logits, labels)
dice, mixed = MixedLoss([DiceLoss(), BiSeNetV1Loss()], [1, 1])(logits, labels)
print(bool(mixed == alone), bool((labels.numpy() == kept).all()))
"""


def test_guards_start_with_a_network(python):
    done = python("-c", BUILD.format(build="BiSeNetV1(2, ResNet18_v1b())"))
    assert done.stdout.splitlines()[-1] == "[False, False, False] {'active'}", done.stderr


@pytest.mark.parametrize(
    "switches, left, right",
    [
        ("", "[False, False, False] {'active'}", "True True"),
        ("-guards,-dice_labels", "[True, True, True] {'switched off'}", "False False"),
    ],
)
def test_guards_start_with_a_loss_and_losses_after_dice_loss_see_the_labels(python, switches, left, right):
    done = python("-c", BUILD.format(build="BiSeNetV1Loss()") + DICE, BISENETV1_PLUGIN_COMPAT=switches)
    assert done.stdout.splitlines()[-2:] == [left, right], done.stderr
