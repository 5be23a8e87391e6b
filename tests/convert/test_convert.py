"""`bisenetv1 convert` on generated tensors: results, round trips and errors."""

import contextlib
import io
import os
from collections import OrderedDict
from types import SimpleNamespace

import numpy as np
import paddle
import pytest
import yaml

torch = pytest.importorskip("torch")

from paddleseg.cvlibs import Config, manager  # noqa: E402

from bisenetv1_plugin import zoo  # noqa: E402
from bisenetv1_plugin.__main__ import main  # noqa: E402
from bisenetv1_plugin.backbones.resnet import ResNet18_v1b, ResNet50_v1b  # noqa: E402
from bisenetv1_plugin.convert import checkpoint, conversion  # noqa: E402
from bisenetv1_plugin.models.bisenetv1 import BiSeNetV1  # noqa: E402

# variant, backbone -> the family that publishes it
PUBLISHED = {
    ("torchseg", "ResNet18_v1b"): "torchseg",
    ("torchseg_r101", "ResNet101_v1s"): "torchseg",
    ("torchseg_x39", "Xception39"): "torchseg",
    ("torchseg_speed", "ResNet18_v1b"): "torchseg",
    ("coincheung", "ResNet18_v1b"): "coincheung",
    ("zllrunning", "ResNet18_v1b"): "zllrunning",
    ("mmseg", "ResNet18_v1b"): "mmseg",
    ("mmseg", "ResNet18_v1c"): "mmseg",
    ("mmseg_wide", "ResNet50_v1b"): "mmseg",
}

CASES = [
    pytest.param(
        variant, backbone, marks=[pytest.mark.very_slow] if backbone.startswith(("ResNet50", "ResNet101")) else []
    )
    for variant, backbone in PUBLISHED
]


def bisenetv1(folder, *arguments):
    """Run a command in this process, because starting Paddle again is slow."""
    out, err, before = io.StringIO(), io.StringIO(), os.getcwd()
    os.chdir(folder)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(argument) for argument in arguments])
    finally:
        os.chdir(before)
    return SimpleNamespace(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())


def convert(folder, *arguments):
    return bisenetv1(folder, "convert", *arguments)


def state_of(variant, backbone, num_classes=19):
    layer = BiSeNetV1(num_classes, manager.BACKBONES[backbone](), variant=variant)
    random = np.random.default_rng(0)
    return {
        name: random.standard_normal(value.shape, "float32") if "_variance" not in name else value.numpy()
        for name, value in layer.state_dict().items()
    }


def as_torch(tensors):
    return OrderedDict((name, torch.from_numpy(np.array(values))) for name, values in tensors.items())


@pytest.fixture(scope="module", autouse=True)
def names_once():
    """`conversion` builds a network whenever it needs the names of the tensors. Here it builds each only once."""
    names, known = conversion._names, {}

    def remembered(family, *network):
        key = (family.name, *network)
        if key not in known:
            known[key] = names(family, *network)
        return known[key]

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(conversion, "_names", remembered)
        yield


@pytest.fixture(scope="module")
def coincheung(tmp_path_factory):
    """A CoinCheung checkpoint with the 171 classes of COCO-Stuff."""
    path = tmp_path_factory.mktemp("checkpoints") / "coincheung.pth"
    tensors = conversion.to_torch(state_of("coincheung", "ResNet18_v1b", 171), "coincheung")
    torch.save(as_torch(tensors), path)
    return path


class TestTables:
    """Round trips keep every tensor exactly. For comparisons with the real code see test_against_pytorch.py."""

    @pytest.mark.parametrize("variant, backbone", CASES)
    @pytest.mark.slow
    def test_round_trip(self, variant, backbone):
        state = state_of(variant, backbone)
        tensors = conversion.to_torch(state, PUBLISHED[variant, backbone])
        counters = [name for name in tensors if name.endswith("num_batches_tracked")]
        assert len(tensors) == len(state) + len(counters)
        assert len(counters) == sum(name.endswith("_variance") for name in state)
        converted = conversion.to_paddle(tensors)
        assert (converted.family, converted.backbone) == (PUBLISHED[variant, backbone], backbone)
        assert (converted.variant, converted.num_classes) == (variant, 19)
        assert converted.dropped == counters and converted.state.keys() == state.keys()
        for name, values in state.items():
            np.testing.assert_array_equal(converted.state[name], values)
        again = conversion.to_torch(converted.state, PUBLISHED[variant, backbone])
        assert list(again) == list(tensors)
        for name, values in tensors.items():
            np.testing.assert_array_equal(again[name], values)

    def test_ambiguous_family(self):
        state = state_of("mmseg", "ResNet18_v1b")
        with pytest.raises(ValueError, match="fit both coincheung and mmseg: name the trained one with --from"):
            conversion.to_torch(state)
        with pytest.raises(ValueError, match="network of coincheung or mmseg, not of torchseg"):
            conversion.to_torch(state, "torchseg")


class TestFiles:
    def test_weights_and_configuration(self, coincheung, tmp_path):
        """The tools can use the results, which have the normalization of the family."""
        done = convert(tmp_path, coincheung, "net.pdparams")
        assert done.returncode == 0, done.stderr
        assert "coincheung, ResNet18_v1b" in done.stdout and "171 classes" in done.stdout
        config = yaml.safe_load((tmp_path / "net.yml").read_text())
        assert config["model"] == {
            "type": "BiSeNetV1",
            "variant": "coincheung",
            "num_classes": 171,
            "backbone": {"type": "ResNet18_v1b"},
        }
        assert config["val_dataset"]["type"] == "CocoStuff"
        assert config["val_dataset"]["transforms"][-1]["mean"] == [
            0.46962251,
            0.4464104,
            0.40718787,
        ]  # lib/data/coco.py
        assert sorted(path.name for path in tmp_path.iterdir()) == ["net.pdparams", "net.yml"]

        image = tmp_path / "street.png"
        import cv2

        cv2.imwrite(str(image), np.random.RandomState(0).randint(0, 255, (64, 96, 3), "uint8"))
        command = ["predict", "--config", "net.yml", "--model_path", "net.pdparams", "--image_path", image]
        done = bisenetv1(tmp_path, *command, "--device", "cpu")
        assert done.returncode == 0, done.stderr

    def test_round_trip_through_files(self, coincheung, tmp_path):
        assert convert(tmp_path, coincheung, "net.pdparams").returncode == 0
        done = convert(tmp_path, "net.pdparams", "back.pth", "--to", "torch", "--from", "coincheung")
        assert done.returncode == 0, done.stderr
        before, after = (torch.load(path, weights_only=True) for path in (coincheung, tmp_path / "back.pth"))
        assert list(before) == list(after)
        assert all(torch.equal(before[name], after[name]) for name in before)

    def test_safetensors(self, coincheung, tmp_path):
        assert convert(tmp_path, coincheung, "a.pdparams").returncode == 0
        tensors = checkpoint.read(str(coincheung))
        checkpoint.write(tensors, str(tmp_path / "net.safetensors"))
        done = convert(tmp_path, "net.safetensors", "b.pdparams")
        assert done.returncode == 0, done.stderr
        a, b = (paddle.load(str(tmp_path / f"{name}.pdparams")) for name in "ab")
        assert a.keys() == b.keys()
        assert all((a[name].numpy() == b[name].numpy()).all() for name in a)

    @pytest.mark.parametrize("wrap", [lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s}])
    def test_wrapped_and_parallel(self, coincheung, tmp_path, wrap):
        state = torch.load(coincheung, weights_only=True)
        torch.save(wrap({f"module.{name}": value for name, value in state.items()}), tmp_path / "w.pth")
        assert checkpoint.read(str(tmp_path / "w.pth")).keys() == state.keys()

    def test_half_precision_becomes_float32(self, tmp_path):
        torch.save({"a": torch.ones(2, dtype=torch.bfloat16), "n": torch.tensor(3)}, tmp_path / "h.pth")
        tensors = checkpoint.read(str(tmp_path / "h.pth"))
        assert tensors["a"].dtype == np.float32 and tensors["n"].dtype == np.int64

    @pytest.mark.parametrize(
        "backbone, stem", [("ResNet18_v1b", None), ("ResNet18_v1c", "stem"), ("ResNet101_v1s", "conv1")]
    )
    @pytest.mark.slow
    def test_imagenet_weights(self, tmp_path, backbone, stem):
        """Names of torchvision, OpenMMLab and the authors; the classifier is dropped."""
        layer = manager.BACKBONES[backbone]()
        deep = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 6}
        tensors = {"fc.weight": np.zeros((1000, 512), "float32"), "fc.bias": np.zeros(1000, "float32")}
        for name, value in layer.state_dict().items():
            parts = name.replace("_mean", "running_mean").replace("_variance", "running_var").split(".")
            if stem and parts[0] == "conv1":
                parts[:2] = [stem, str(deep[parts[1]])]
            elif stem == "stem" and parts[0] == "bn1":
                parts[:1] = ["stem", "7"]
            tensors[".".join(parts)] = value.numpy()
        converted = conversion.to_paddle(tensors)
        assert converted.backbone == backbone and converted.variant is None
        for name, value in layer.state_dict().items():
            np.testing.assert_array_equal(converted.state[name], value.numpy())
        assert converted.dropped == ["fc.weight", "fc.bias"]

    def test_imagenet_weights_as_pretrained(self, tmp_path):
        first = ResNet18_v1b()
        names = {"_mean": "running_mean", "_variance": "running_var"}
        tensors = {}
        for name, value in first.state_dict().items():
            stem, _, last = name.rpartition(".")
            tensors[f"{stem}.{names.get(last, last)}"] = value.numpy()
        torch.save(as_torch(tensors), tmp_path / "resnet18.pth")
        done = convert(tmp_path, "resnet18.pth", "resnet18.pdparams")
        assert done.returncode == 0, done.stderr
        assert not (tmp_path / "resnet18.yml").exists()
        second = ResNet18_v1b(pretrained=str(tmp_path / "resnet18.pdparams"))
        for name, value in first.state_dict().items():
            np.testing.assert_array_equal(second.state_dict()[name].numpy(), value.numpy())


class Hostile:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def only(tmp_path, *names):
    return sorted(path.name for path in tmp_path.iterdir()) == sorted(names)


class TestRefusals:
    """Errors are one sentence with exit code 2. Nothing is written or executed."""

    def refused(self, done, *sentences):
        assert done.returncode == 2, done.stdout + done.stderr
        assert done.stderr.startswith("bisenetv1: ") and done.stderr.count("\n") == 1
        for sentence in sentences:
            assert sentence in done.stderr

    def test_wrong_family(self, coincheung, tmp_path):
        done = convert(tmp_path, coincheung, "net.pdparams", "--from", "torchseg")
        self.refused(done, "not a checkpoint of torchseg")
        done = convert(tmp_path, coincheung, "net.pdparams", "--from", "zllrunning")
        self.refused(done, "unexpected: ", "sp.conv1.conv.weight")
        assert only(tmp_path)

    def test_unknown_family(self, tmp_path):
        torch.save({"encoder.weight": torch.zeros(3)}, tmp_path / "a.pth")
        self.refused(convert(tmp_path, "a.pth", "net.pdparams"), "No family has these tensors: encoder.weight")
        assert only(tmp_path, "a.pth")

    @pytest.mark.parametrize("suffix", ["pth", "safetensors"])
    def test_truncated_file(self, coincheung, tmp_path, suffix):
        path = tmp_path / f"net.{suffix}"
        checkpoint.write(checkpoint.read(str(coincheung)), str(path))
        os.truncate(path, path.stat().st_size // 2)
        self.refused(convert(tmp_path, path, "net.pdparams"), f"net.{suffix}", "cannot be read")
        assert only(tmp_path, path.name)

    def test_missing_extra_and_misshapen_by_name(self, coincheung, tmp_path):
        state = torch.load(coincheung, weights_only=True)
        state["ffm.extra.weight"] = torch.zeros(1)
        del state["cp.conv_avg.bn.bias"]
        state["sp.conv1.conv.weight"] = torch.zeros(64, 1, 7, 7)
        torch.save(state, tmp_path / "odd.pth")
        self.refused(
            convert(tmp_path, "odd.pth", "net.pdparams"),
            "1 missing: cp.conv_avg.bn.bias",
            "1 unexpected: ffm.extra.weight",
            "1 of another shape: sp.conv1.conv.weight (64x1x7x7, not 64x3x7x7)",
        )
        assert only(tmp_path, "odd.pth")

    def test_resnet50_for_a_resnet18_family(self, coincheung, tmp_path):
        """Its weights do not load into a ResNet-18 configuration either."""
        state = torch.load(coincheung, weights_only=True)
        state = {name: value for name, value in state.items() if not name.startswith("cp.resnet.")}
        for name, value in ResNet50_v1b().state_dict().items():
            name = name.replace("._mean", ".running_mean").replace("._variance", ".running_var")
            state[f"cp.resnet.{name}"] = torch.from_numpy(value.numpy())
        torch.save(state, tmp_path / "r50.pth")
        done = convert(tmp_path, "r50.pth", "net.pdparams")
        self.refused(done, "Its backbone is ResNet50_v1b; coincheung was published with ResNet18_v1b only")
        assert only(tmp_path, "r50.pth")

        config = yaml.safe_load(zoo.path_of("bisenetv1_demo_256x128").read_text(encoding="utf-8"))
        config["model"]["num_classes"] = 19
        for mode in ("train", "val"):
            config[f"{mode}_dataset"] = {"type": "SyntheticStreetScenes", "mode": mode, "transforms": []}
        (tmp_path / "r18.yml").write_text(yaml.safe_dump(config))
        paddle.save(BiSeNetV1(19, ResNet50_v1b()).state_dict(), str(tmp_path / "r50.pdparams"))
        command = ["val", "--config", "r18.yml", "--device", "cpu"]
        self.refused(bisenetv1(tmp_path, *command, "--model_path", "r50.pdparams"), "does not fit this BiSeNetV1")

    @pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
    def test_hostile_pickle(self, coincheung, tmp_path, legacy):
        state = {"state_dict": torch.load(coincheung, weights_only=True), "meta": Hostile(tmp_path / "created")}
        torch.save(state, tmp_path / "evil.pth", _use_new_zipfile_serialization=not legacy)
        done = convert(tmp_path, "evil.pth", "net.pdparams")
        self.refused(done, "evil.pth", "nothing in it was executed")
        assert only(tmp_path, "evil.pth")
        torch.load(tmp_path / "evil.pth", weights_only=False)  # the file works as intended
        assert only(tmp_path, "created", "evil.pth")

    def test_old_torch(self, monkeypatch, coincheung):
        monkeypatch.setattr(torch, "__version__", "2.5.1+cpu")
        with pytest.raises(ImportError, match="install PyTorch 2.6 or later"):
            checkpoint.read(str(coincheung))

    @pytest.mark.parametrize(
        "arguments, sentence",
        [
            (["absent.pth", "net.pdparams"], "There is no checkpoint at absent.pth"),
            (["absent.pth", "net.pth"], "DST is net.pth; it must end with .pdparams"),
            (["absent.pth", "there.pdparams"], "there.pdparams exists: choose another name"),
            (["a.pdparams", "net.pdparams"], "a.pdparams is a Paddle file already"),
            (["absent.pdparams", "net.pth", "--to", "torch"], "there are no weights at absent.pdparams"),
        ],
    )
    def test_arguments(self, tmp_path, arguments, sentence):
        (tmp_path / "there.pdparams").touch()
        self.refused(convert(tmp_path, *arguments), sentence)
        assert only(tmp_path, "there.pdparams")

    def test_no_partial_file(self, coincheung, tmp_path, monkeypatch):
        def full(*_):
            raise OSError("No space left on device")

        monkeypatch.setattr(torch, "save", full)
        with pytest.raises(OSError, match="No space left"):
            checkpoint.write({"a": np.zeros(1)}, str(tmp_path / "net.pth"))
        assert only(tmp_path)


@pytest.mark.slow
def test_fine_tuning_on_camvid(camvid, tmp_path, capfd):
    """Fine-tune a converted network of 19 classes with 11: the log names the new classifiers, and the loss falls."""
    old = BiSeNetV1(19, ResNet18_v1b(), variant="coincheung").state_dict()
    tensors = conversion.to_torch({name: value.numpy() for name, value in old.items()}, "coincheung")
    torch.save(as_torch(tensors), tmp_path / "old.pth")
    assert convert(tmp_path, "old.pth", "old.pdparams").returncode == 0
    dic = Config(str(zoo.path_of("bisenetv1_camvid_480x360"))).dic
    converted = yaml.safe_load((tmp_path / "old.yml").read_text())["model"]
    dic["model"].update(variant=converted["variant"], pretrained=str(tmp_path / "old.pdparams"))
    first_two = (camvid / "val.txt").read_text().splitlines(keepends=True)[:2]
    (tmp_path / "two.txt").write_text("".join(first_two))
    for part in ("train", "val"):
        dic[f"{part}_dataset"].update({"dataset_root": str(camvid), f"{part}_path": str(tmp_path / "two.txt")})
    # Every iteration has the same two images, so only learning changes the loss.
    for part in ("train", "val"):
        transforms = [{"type": "Resize", "target_size": [128, 96]}, {"type": "Normalize"}]
        dic[f"{part}_dataset"]["transforms"] = transforms
    dic.update(iters=16, batch_size=2)
    (tmp_path / "config.yml").write_text(yaml.safe_dump(dic))
    command = ["train", "--config", tmp_path / "config.yml", "--device", "cpu", "--save_dir", tmp_path / "out"]
    command += ["--log_iters", 1, "--do_eval", "--save_interval", 100, "--seed", 1]
    assert main([str(word) for word in command]) == 0
    shown, warned = capfd.readouterr()
    total = len(old)
    assert f"Loaded {total - 6} of the {total} tensors of BiSeNetV1" in shown
    for head, channels in enumerate((64, 64, 256)):
        assert f"heads.{head}.conv_1x1.weight (19x{channels}x1x1, not 11x{channels}x1x1)" in warned
        assert f"heads.{head}.conv_1x1.bias (19, not 11)" in warned
    log = (tmp_path / "out" / "train.log").read_text()
    losses = [float(line.split("loss: ")[1].split(",")[0]) for line in log.splitlines() if "[TRAIN]" in line]
    assert len(losses) == 16 and np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])
