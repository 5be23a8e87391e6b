"""The network against PaddleSeg's class and the published counts, and in PaddleSeg's workflows."""

import numpy as np
import paddle
import pytest
from paddleseg.cvlibs import manager
from paddleseg.models import BiseNetV1
from paddleseg.models.backbones import ResNet18_vd

from bisenetv1_plugin.backbones.resnet import ResNet18_v1b, ResNet50_v1b
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.models.bisenetv1 import BiSeNetV1
from bisenetv1_plugin.models.variants import VARIANTS

BACKBONES = {"paddleseg": lambda **kwargs: ResNet18_vd(output_stride=8, **kwargs)}


def network(variant="torchseg", num_classes=19, **kwargs):
    return BiSeNetV1(num_classes, BACKBONES.get(variant, ResNet18_v1b)(), variant=variant, **kwargs)


def image(*shape, seed=0):
    return paddle.to_tensor(np.random.RandomState(seed).normal(size=shape).astype("float32"))


def trained_looking_state(layer, seed=0):
    """A state of the layer with random BatchNorm statistics and affine parameters instead of 0 and 1."""
    random = np.random.RandomState(seed)
    state = {}
    for name, value in layer.state_dict().items():
        shape = value.shape
        if name.endswith("_variance") or (value.ndim == 1 and name.endswith(".weight")):
            value = paddle.to_tensor(random.uniform(0.5, 1.5, shape).astype("float32"))
        elif value.ndim == 1:
            value = paddle.to_tensor(random.normal(0, 0.3, shape).astype("float32"))
        state[name] = value
    return state


def evaluate(layer, x):
    layer.eval()
    with paddle.no_grad():
        return layer(x)[0].numpy()


class TestAgainstUpstream:
    """The `paddleseg` variant equals PaddleSeg's BiseNetV1 in names, shapes and outputs, bit for bit."""

    @pytest.fixture(scope="class")
    def pair(self):
        upstream, ours = BiseNetV1(19, ResNet18_vd(output_stride=8)), network("paddleseg")
        state = trained_looking_state(upstream)
        upstream.set_state_dict(state)
        ours.set_state_dict(state)
        return upstream, ours

    def test_same_state_dict(self, pair):
        upstream, ours = ({name: value.shape for name, value in layer.state_dict().items()} for layer in pair)
        assert ours == upstream

    @pytest.mark.parametrize("size", [(64, 96), (160, 128), (128, 256)])
    def test_same_logits(self, pair, size):
        x = image(2, 3, *size)
        expected, actual = (evaluate(layer, x) for layer in pair)
        assert expected.std() > 0.1
        np.testing.assert_array_equal(actual, expected)

    def test_same_training_outputs(self, pair):
        x = image(2, 3, 96, 160)
        for layer in pair:
            layer.train()
        for expected, actual in zip(pair[0](x), pair[1](x)):
            np.testing.assert_array_equal(actual.numpy(), expected.numpy())

    @pytest.mark.slow
    def test_correct_where_upstream_is_wrong(self, pair):
        x = image(1, 3, 250, 500)
        expected, actual = (evaluate(layer, x) for layer in pair)
        assert expected.shape == (1, 19, 256, 504)
        assert actual.shape == (1, 19, 250, 500)

    @pytest.mark.very_slow
    def test_counts_of_the_published_run(self, capsys):
        """From the log of the 75.19 run: Total Flops: 113301121792, Total Params: 12932595."""
        assert paddle.flops(network("paddleseg"), [1, 3, 512, 1024]) == 113301121792
        assert "Total Params: 12932595" in capsys.readouterr().out


class TestAuthorsCounts:
    """Counted from the definitions of the authors' code (TorchSeg), 19 classes."""

    def test_parameters(self):
        trainable = {name: p for name, p in network().named_parameters() if not p.stop_gradient}
        training = sum(int(p.size) for p in trainable.values())
        auxiliary = sum(int(p.size) for name, p in trainable.items() if name.startswith(("heads.0.", "heads.1.")))
        assert (training, training - auxiliary) == (13494777, 12894163)

    def test_multiply_adds(self):
        layer, counts = network(), []
        for convolution in layer.sublayers():
            if isinstance(convolution, paddle.nn.Conv2D):
                convolution.register_forward_post_hook(
                    lambda conv, _, out: counts.append(np.prod(out.shape[1:]) * np.prod(conv.weight.shape[1:]))
                )
        evaluate(layer, paddle.zeros([1, 3, 360, 640]))
        assert sum(counts) / 1e9 == pytest.approx(11.58, abs=0.01)


# torchseg_r101, torchseg_x39 and mmseg_wide differ only in their widths. test_families.py runs them.
@pytest.mark.parametrize(
    "variant", sorted(set(VARIANTS) - {"torchseg_r101", "torchseg_x39", "mmseg_wide"}), scope="class"
)
class TestEveryVariant:
    @pytest.fixture(scope="class")
    def layer(self, variant):
        return network(variant, num_classes=5)

    @pytest.mark.parametrize("size", [(64, 64), (97, 131), (33, 250)])
    @pytest.mark.slow
    def test_any_size(self, variant, layer, size):
        assert evaluate(layer, image(1, 3, *size)).shape == (1, 5, *size)
        layer.train()
        if not VARIANTS[variant].full_size_training:
            size = [-(-side // 8) for side in size]
            assert [out.shape[2:] for out in layer(image(2, 3, 8 * size[0], 8 * size[1]))] == [size] * 3
            return
        assert [out.shape for out in layer(image(2, 3, *size))] == [[2, 5, *size]] * 3

    @pytest.mark.slow
    def test_every_parameter_has_a_gradient(self, layer):
        layer.train()
        sum(out.square().mean() for out in layer(image(2, 3, 64, 96))).backward()
        for name, parameter in layer.named_parameters():
            if not parameter.stop_gradient:
                assert parameter.grad is not None, name
                assert np.isfinite(parameter.grad.numpy()).all(), name

    def test_initialization(self, variant):
        """Outside the backbone: convolutions as in the originals, BatchNorms with 1 and 0."""
        gain, fan_out = {"coincheung": (1, False), "zllrunning": (1, False), "mmseg": (2, True)}.get(
            variant, (2, False)
        )
        for name, parameter in network(variant).named_parameters():
            values = parameter.numpy()
            if name.startswith("backbone.") or name.endswith(("_mean", "_variance")):
                continue
            if values.ndim == 4 and values.size > 5000:
                fan = values[:, 0].size if fan_out else values[0].size
                deviation = np.sqrt(gain / fan)
                if variant == "mmseg" and name.endswith(
                    "conv_1x1.weight"
                ):  # MMSegmentation's classifier; PyTorch's own
                    is_principal = name.startswith("heads.2.")
                    deviation = 0.01 if is_principal else 1 / np.sqrt(3 * values[0].size)
                assert values.std() == pytest.approx(deviation, rel=0.05), name
            elif values.ndim == 1:
                assert (values == (1 if "norm.weight" in name else 0)).all(), name

    @pytest.mark.very_slow
    def test_static_program_of_any_size(self, variant, tmp_path):
        layer = network(variant, num_classes=5)
        images = [image(1, 3, *size) for size in ((64, 96), (97, 131))]
        expected = [evaluate(layer, x) for x in images]
        spec = [paddle.static.InputSpec([None, 3, None, None], "float32")]
        paddle.jit.save(paddle.jit.to_static(layer, input_spec=spec), str(tmp_path / "model"))
        loaded = paddle.jit.load(str(tmp_path / "model"))
        loaded.eval()
        for x, logits in zip(images, expected):
            out = loaded(x)
            out = out[0] if isinstance(out, (list, tuple)) else out
            np.testing.assert_allclose(out.numpy(), logits, rtol=1e-4, atol=1e-4)

    @pytest.mark.very_slow
    def test_static_training_step(self, variant):
        dynamic = network(variant, num_classes=5)
        static = network(variant, num_classes=5)
        static.set_state_dict(dynamic.state_dict())
        for head in (*dynamic.heads, *static.heads):
            head.dropout.p = 0  # two runs would drop different channels
        x = image(2, 3, 64, 96)
        for expected, actual in zip(dynamic(x), paddle.jit.to_static(static)(x)):
            np.testing.assert_allclose(actual.numpy(), expected.numpy(), rtol=1e-3, atol=1e-3)

    def test_sync_batchnorm_conversion_keeps_names(self, variant):
        layer = network(variant, num_classes=5)
        names = sorted(layer.state_dict())
        converted = paddle.nn.SyncBatchNorm.convert_sync_batchnorm(layer)
        assert sorted(converted.state_dict()) == names
        kinds = {type(sub).__name__ for sub in converted.sublayers() if "BatchNorm" in type(sub).__name__}
        assert kinds == {"SyncBatchNorm"}


def test_attention_with_relu_is_bit_equal():
    from bisenetv1_plugin.models.bisenetv1 import SigmoidOfReLU

    x = image(1000) * 10
    expected = paddle.nn.functional.sigmoid(paddle.nn.functional.relu(x))
    np.testing.assert_array_equal(SigmoidOfReLU()(x).numpy(), expected.numpy())


@pytest.mark.parametrize(
    "name, arguments",
    [
        ("ResNet18_vd", {"output_stride": 16}),
        ("ResNet50_vd", {"output_stride": 8}),
        ("STDC1", {}),
        ("MobileNetV2_x1_0", {}),
        ("MobileNetV3_small_x1_0", {}),
        ("ResNet34_v1b", {}),
        ("ResNet50_v1b", {}),
    ],
)
@pytest.mark.slow
def test_suitable_backbones(name, arguments):
    layer = BiSeNetV1(5, manager.BACKBONES[name](**arguments))
    assert evaluate(layer, image(1, 3, 70, 100)).shape == (1, 5, 70, 100)


@pytest.mark.parametrize("name", ["HRNet_W18", "Xception41_deeplab"])
def test_unsuitable_backbones_are_refused(name):
    with pytest.raises(ValueError, match=r"backbone \w+ returns features at .*1/8, 1/16, 1/32"):
        BiSeNetV1(5, manager.BACKBONES[name]())


def test_construction_does_not_change_the_backbone():
    backbone = ResNet18_v1b()
    before = {name: value.numpy() for name, value in backbone.state_dict().items()}
    BiSeNetV1(5, backbone)
    assert backbone.training
    for name, value in backbone.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])


def test_four_channels():
    layer = BiSeNetV1(5, ResNet18_v1b(in_channels=4), in_channels=4)
    assert evaluate(layer, image(1, 4, 64, 64)).shape == (1, 5, 64, 64)


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"num_classes": 0}, "`num_classes` must be a positive integer"),
        ({"num_classes": 2.0}, "`num_classes` must be a positive integer"),
        ({"num_classes": 2, "variant": "v2"}, "`variant` must be one of torchseg, paddleseg"),
        ({"num_classes": 2, "in_channels": 4}, "cannot take an image of 4 channels"),
    ],
)
def test_wrong_arguments(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        BiSeNetV1(backbone=ResNet18_v1b(), **arguments)


class TestPretrained:
    def test_loads(self, tmp_path):
        first = network(num_classes=5)
        paddle.save(first.state_dict(), str(tmp_path / "w.pdparams"))
        second = network(num_classes=5, pretrained=str(tmp_path / "w.pdparams"))
        x = image(1, 3, 64, 64)
        np.testing.assert_array_equal(evaluate(first, x), evaluate(second, x))

    def test_logs_mismatches(self, tmp_path, capsys):
        paddle.save(network(num_classes=5).state_dict(), str(tmp_path / "w.pdparams"))
        network(num_classes=7, pretrained=str(tmp_path / "w.pdparams"))
        out = capsys.readouterr().out
        total = len(network().state_dict())
        assert f"Loaded {total - 6} of the {total} tensors of BiSeNetV1" in out
        assert "6 tensors have another shape" in out and "heads.0.conv_1x1.weight" in out

    def test_backbone_weights_of_paddle_vision(self, tmp_path):
        """Paddle's ImageNet weights load into the backbone without renaming."""
        imagenet = paddle.vision.models.resnet18()
        imagenet.eval()
        paddle.save(imagenet.state_dict(), str(tmp_path / "resnet18.pdparams"))
        backbone = ResNet18_v1b(pretrained=str(tmp_path / "resnet18.pdparams"))
        assert set(imagenet.state_dict()) - set(backbone.state_dict()) == {"fc.weight", "fc.bias"}
        backbone.eval()
        x = image(1, 3, 64, 64)
        pooled = backbone(x)[-1].mean([2, 3])
        np.testing.assert_allclose(imagenet.fc(pooled).numpy(), imagenet(x).numpy(), rtol=1e-4, atol=1e-5)

    def test_refuses_weights_without_matches(self, tmp_path):
        paddle.save(ResNet18_v1b().state_dict(), str(tmp_path / "w.pdparams"))
        with pytest.raises(ValueError, match="None of the .* tensors of BiSeNetV1"):
            network(pretrained=str(tmp_path / "w.pdparams"))

    def test_refuses_a_missing_file(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no weights at .*absent.pdparams"):
            network(pretrained=str(tmp_path / "absent.pdparams"))

    def test_refuses_a_folder(self, tmp_path):
        paddle.save({}, str(tmp_path / "best_model/model.pdparams"))
        with pytest.raises(ValueError, match="best_model is a folder: name .*best_model.model.pdparams"):
            network(pretrained=str(tmp_path / "best_model"))

    def test_refuses_other_files(self, tmp_path):
        (tmp_path / "w.pdparams").write_bytes(b"no pickle")
        with pytest.raises(ValueError, match="cannot read the weights"):
            network(pretrained=str(tmp_path / "w.pdparams"))


def test_resnet50_features():
    backbone = ResNet50_v1b()
    backbone.eval()
    assert [f.shape for f in backbone(image(1, 3, 70, 100))] == [
        [1, 256, 18, 25],
        [1, 512, 9, 13],
        [1, 1024, 5, 7],
        [1, 2048, 3, 4],
    ]
    assert backbone.feat_channels == [256, 512, 1024, 2048]


@pytest.mark.parametrize("takes, gets", [(1, 3), (3, 1), (3, 4), (4, 3)])
def test_wrong_number_of_channels_is_refused(takes, gets):
    """In training and evaluation. PaddleSeg's data have 3 channels unless img_channels is 1."""
    net = BiSeNetV1(4, ResNet18_v1b(in_channels=takes), in_channels=takes)
    for prepare in (net.train, net.eval):
        prepare()
        with pytest.raises(InputError, match=f"images of {takes} channels, not of {gets}: give model.in_channels"):
            net(image(2, gets, 64, 64))
    assert net(image(1, takes, 33, 47))[0].shape == [1, 4, 33, 47]
