"""Compare converted networks with the PyTorch code of every family."""

import copy
import importlib.util
from pathlib import Path

import numpy as np
import paddle
import pytest

torch = pytest.importorskip("torch")

from paddleseg.cvlibs import manager  # noqa: E402

from bisenetv1_plugin.convert import conversion  # noqa: E402
from bisenetv1_plugin.models.bisenetv1 import BiSeNetV1  # noqa: E402

_spec = importlib.util.spec_from_file_location("references", Path(__file__).with_name("references.py"))
references = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(references)

SMALL = (96, 160)  # odd multiples of 32
LARGE = (512, 1024)
HEAVY = ("mmseg-r50", "mmseg-r101-v1c", "torchseg-r101")
TOLERANCE = 1e-4

pytestmark = pytest.mark.slow


def build_both(name):
    """The PyTorch network and ours with its converted weights."""
    _, variant, backbone = references.NETWORKS[name]
    theirs = references.build(name)
    tensors = {name: value.numpy() for name, value in theirs.state_dict().items()}
    converted = conversion.to_paddle(tensors)
    assert converted.backbone == backbone
    if name != "torchseg-x39-speed":  # same tensors as X39, so the variant is ambiguous
        assert converted.variant == variant
    ours = BiSeNetV1(converted.num_classes, manager.BACKBONES[backbone](), variant=variant)
    ours.set_state_dict(converted.state)
    for head in ours.heads:
        head.dropout.p = 0  # its random numbers would differ
    return theirs, ours


def compare(expected, actual):
    """Logits differ by less than 1e-4 of their spread; classes are equal unless the two best are closer than that."""
    expected, actual = expected.detach().numpy(), actual.numpy()
    assert expected.shape == actual.shape
    spread = expected.std()
    assert spread > 0.1 and len(np.unique(expected.argmax(1))) >= 3
    difference = abs(expected - actual).max()
    assert difference < TOLERANCE * spread, f"{difference / spread:.1e} of the spread"
    second, first = np.sort(expected, axis=1)[:, -2:].swapaxes(0, 1)
    decided = first - second > 2 * difference
    assert decided.mean() > 0.99
    assert (expected.argmax(1) == actual.argmax(1))[decided].all()
    return difference / spread


def compare_logits(name, theirs, ours, size):
    theirs.eval(), ours.eval()
    x = references.images(1, size)
    with torch.no_grad(), paddle.no_grad():
        (expected,), (actual,) = theirs(torch.from_numpy(x)), ours(paddle.to_tensor(x))
    error = compare(expected, actual)
    print(f"{name} logits at {size}: {error:.1e} of the spread")


def compare_training_outputs(name, theirs, ours, size):
    """All three outputs in float32, with BatchNorm in evaluation mode (see `compare_batch_statistics`)."""
    theirs.train(), ours.train()
    for layer in (*theirs.modules(), *ours.sublayers()):
        if isinstance(layer, (torch.nn.BatchNorm2d, paddle.nn.BatchNorm2D)):
            layer.eval()
    x = references.images(1, size)
    with torch.no_grad(), paddle.no_grad():
        expected, actual = theirs(torch.from_numpy(x)), ours(paddle.to_tensor(x))
    assert len(expected) == len(actual) == 3
    errors = [compare(a, b) for a, b in zip(expected, actual)]
    print(f"{name} training outputs at {size}: {', '.join(f'{e:.1e}' for e in errors)} of the spread")


def in_float64(name, state):
    _, variant, backbone = references.NETWORKS[name]
    paddle.set_default_dtype("float64")
    try:
        layer = BiSeNetV1(references.CLASSES, manager.BACKBONES[backbone](), variant=variant)
    finally:
        paddle.set_default_dtype("float32")
    layer.set_state_dict({key: value.astype("float64") for key, value in state.items()})
    for head in layer.heads:
        head.dropout.p = 0
    return layer


def compare_batch_statistics(name, theirs, ours):
    """BatchNorm with batch statistics, and the running averages afterwards, in float64.

    In float32 Paddle computes a batch's variance less exactly than PyTorch. The largest differences from PyTorch's
    float64, as shares of the logits' range with a batch of two, are 3.2e-4 for Xception39 (3.4e-5 in PyTorch's own
    float32) and 2e-5 for all others.
    """
    theirs, ours = copy.deepcopy(theirs).double(), in_float64(name, ours.state_dict())
    theirs.train(), ours.train()
    x = references.images(2, SMALL).astype("float64")
    with torch.no_grad(), paddle.no_grad():
        expected, actual = theirs(torch.from_numpy(x)), ours(paddle.to_tensor(x))
    errors = [compare(a, b) for a, b in zip(expected, actual)]
    print(f"{name} training outputs in float64: {', '.join(f'{e:.1e}' for e in errors)} of the spread")
    after = conversion.to_paddle({key: value.numpy() for key, value in theirs.state_dict().items()})
    for key, value in ours.state_dict().items():
        if key.endswith("_mean"):  # PyTorch's running variance is n / (n - 1) times Paddle's
            np.testing.assert_allclose(value.numpy(), after.state[key], rtol=1e-4, atol=1e-4, err_msg=key)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.very_slow] if name in ("mmseg-r50", "torchseg-r101") else [])
        for name in references.NETWORKS
    ],
)
def test_outputs(name):
    theirs, ours = build_both(name)
    compare_logits(name, theirs, ours, SMALL)
    compare_training_outputs(name, theirs, ours, SMALL)
    if name not in HEAVY:
        compare_batch_statistics(name, theirs, ours)


@pytest.mark.very_slow
@pytest.mark.parametrize("name", references.NETWORKS)
def test_outputs_for_a_large_image(name):
    """The training outputs. The last one is the logits."""
    compare_training_outputs(name, *build_both(name), LARGE)
