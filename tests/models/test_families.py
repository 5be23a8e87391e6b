"""Every published implementation in Paddle Inference, and the `.speed` heads."""

import cv2
import numpy as np
import paddle
import pytest
from paddleseg.cvlibs import manager
from paddleseg.transforms import Normalize

from bisenetv1_plugin.backbones.resnet import ResNet18_v1b
from bisenetv1_plugin.datasets.synthetic import SyntheticStreetScenes
from bisenetv1_plugin.evaluation.verify import verify
from bisenetv1_plugin.export import quantize
from bisenetv1_plugin.export.write import write_export
from bisenetv1_plugin.inference.exported_model import Export
from bisenetv1_plugin.losses.ohem import BiSeNetV1Loss
from bisenetv1_plugin.models.bisenetv1 import BiSeNetV1
from bisenetv1_plugin.models.variants import VARIANTS

BACKBONES = {
    "paddleseg": "ResNet18_vd",
    "torchseg_r101": "ResNet101_v1s",
    "torchseg_x39": "Xception39",
    "mmseg_wide": "ResNet50_v1b",
}

# The cases of the default suite, with or without oneDNN.
DEFAULT = [("torchseg", False), ("paddleseg", True)]


def network(variant, num_classes=19):
    """A network with BatchNorm statistics from data instead of 0 and 1."""
    paddle.seed(0)
    layer = BiSeNetV1(num_classes, manager.BACKBONES[BACKBONES.get(variant, "ResNet18_v1b")](), variant=variant)
    for name, norm in layer.named_sublayers():
        if not isinstance(norm, paddle.nn.BatchNorm2D):
            continue
        if name.endswith("bn3"):  # with a large residual, rounding errors would dominate
            norm.weight.set_value(paddle.full_like(norm.weight, 0.2))
        norm._momentum = 0.0  # take the statistics of the batch
        norm.bias.set_value(paddle.normal(0, 0.3, norm.bias.shape))
    layer.train()
    with paddle.no_grad():
        layer(paddle.to_tensor(np.stack([scenes()[i]["img"] for i in range(4)])))
    layer.eval()
    return layer


def scenes():
    return SyntheticStreetScenes(mode="val", size=[256, 128], transforms=[Normalize()])


# oneDNN is on by default in deploy/python/infer.py.
@pytest.mark.parametrize(
    "variant, onednn",
    [
        pytest.param(variant, onednn, marks=[] if (variant, onednn) in DEFAULT else pytest.mark.very_slow)
        for variant in sorted(VARIANTS)
        for onednn in (False, True)
    ],
)
@pytest.mark.slow
def test_inference_and_prediction_agree(variant, onednn, tmp_path):
    layer = network(variant)
    write_export(layer, str(tmp_path), [{"type": "Normalize"}])
    data = scenes()
    data.file_list = data.file_list[:3]
    done = verify(layer, Export(tmp_path / "deploy.yaml"), data, enable_mkldnn=onednn, backends=["paddle"])
    result = done.verdicts[0]
    # Random weights have more ties than trained ones.
    assert result.comparison.agreement >= 0.9998, f"{result.comparison.agreement:.4%} of the pixels"
    assert result.comparison.widest_margin < 1e-3
    # Fewer than four decimals: with random weights, one tied pixel changes the score of a class of a hundred pixels.
    np.testing.assert_allclose(result.scores.class_iou, done.dygraph.class_iou, rtol=0, atol=5e-4)
    assert done.classes >= 3


@pytest.mark.parametrize(
    "variant",
    [pytest.param(name, marks=pytest.mark.very_slow if "_" in name else ()) for name in sorted(VARIANTS)],
)
@pytest.mark.slow
def test_int8_does_not_quantize_the_attention(variant, tmp_path):
    """The global context, both refinement modules, and one or two convolutions of the fusion module."""
    pytest.importorskip("openvino"), pytest.importorskip("paddle2onnx")
    backbone = manager.BACKBONES[BACKBONES.get(variant, "ResNet18_v1b")]()
    layer = BiSeNetV1(19, backbone, variant=variant)
    layer.eval()
    write_export(layer, str(tmp_path), [{"type": "Normalize"}], to="onnx")
    fusion = 1 if VARIANTS[variant].ffm_attention == "conv_bn" else 2
    found = quantize._attention_convolutions(str(tmp_path / "model.onnx"))
    assert len(set(found)) == len(found) == 3 + fusion


class TestFastHeads:
    """The authors' `.speed` networks: logits and loss at 1/8."""

    def test_sizes(self):
        layer = BiSeNetV1(5, ResNet18_v1b(), variant="torchseg_speed")
        x = paddle.zeros([2, 3, 64, 96])
        assert [out.shape for out in layer(x)] == [[2, 5, 8, 12]] * 3
        layer.eval()
        assert [out.shape for out in layer(x)] == [[2, 5, 64, 96]]

    def test_loss_equals_that_of_a_label_resized_by_opencv(self):
        """TorchSeg's data loader uses cv2.INTER_NEAREST to 1/8."""
        random = np.random.RandomState(0)
        label = random.randint(0, 5, (2, 64, 96))
        label[random.rand(*label.shape) < 0.1] = 255
        small = np.stack([cv2.resize(each.astype("uint8"), (12, 8), interpolation=cv2.INTER_NEAREST) for each in label])
        logit = paddle.to_tensor(random.normal(size=(2, 5, 8, 12)).astype("float32"))
        expected = BiSeNetV1Loss()(logit, paddle.to_tensor(small.astype("int64")))
        actual = BiSeNetV1Loss(resize_label=True)(logit, paddle.to_tensor(label))
        assert float(expected) > 0.5 and float(actual) == float(expected)
        with pytest.raises(ValueError, match="do not have the same pixels"):
            BiSeNetV1Loss()(logit, paddle.to_tensor(label))
