"""The loss against a float64 NumPy reference, and against PaddleSeg's loss where that is correct."""

import math
import warnings

import numpy as np
import paddle
import paddleseg.core
import pytest

from bisenetv1_plugin.losses import ohem
from bisenetv1_plugin.losses.ohem import BiSeNetV1Loss

CLASSES = 5


def reference(logit, label, thresh=0.7, min_kept=1 / 16, weight=None, ignore_index=255):
    """The authors' definition in float64, by sorting: returns the loss and its gradient for the logits."""
    logit = logit.astype("float64")
    shifted = logit - logit.max(axis=1, keepdims=True)
    log_softmax = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    valid = label != ignore_index
    target = np.where(valid, label, 0)
    log_p = np.take_along_axis(log_softmax, target[:, None], axis=1)[:, 0]
    probability = np.where(valid, np.exp(log_p), 1.0)
    count = min_kept if isinstance(min_kept, int) else int(label.size * min_kept)
    kept = valid
    if count <= valid.sum():
        threshold = max(thresh, np.sort(probability, axis=None)[count - 1])
        distance = abs(probability - threshold)
        assert not ((distance > 1e-12) & (distance < 2e-6)).any(), "the case is too close to call in float32"
        kept = valid & (probability <= threshold + 1e-12)  # ties may differ in the last bit by the order of the classes
    weights = np.ones(logit.shape[1]) if weight is None else np.asarray(weight, "float64")
    pixel_weight = kept * weights[target]
    total = pixel_weight.sum()
    if total == 0:
        return 0.0, np.zeros_like(logit)
    one_hot = np.moveaxis(np.eye(logit.shape[1])[target], -1, 1)
    gradient = (np.exp(log_softmax) - one_hot) * pixel_weight[:, None] / total
    return -(log_p * pixel_weight).sum() / total, gradient


def case(name, seed):
    """Logits, float32 `[2, 5, 6, 7]`, and labels. Within 1e-6 of the threshold there are only exact ties."""
    random = np.random.RandomState(seed)
    label = random.randint(0, CLASSES, (2, 6, 7))
    logit = random.normal(size=(2, CLASSES, 6, 7))
    if name == "few hard":  # only two pixels are hard
        logit += 6 * np.moveaxis(np.eye(CLASSES)[label], -1, 1)
        logit[0, :, 0, :2] = random.normal(size=(CLASSES, 2))
    elif name == "all hard":
        logit -= 5 * np.moveaxis(np.eye(CLASSES)[label], -1, 1)
    elif name == "ties":  # blocks of easy pixels with equal logits, one per class
        for value in range(CLASSES):
            easy = np.zeros(CLASSES)
            easy[value] = 4.0 + (value % 2)
            logit = np.where((label == value)[:, None], easy[None, :, None, None], logit)
    if name in ("ignored", "few hard"):
        label[random.rand(*label.shape) < 0.3] = 255
    if name == "all ignored":
        label[:] = 255
    if name == "few valid":
        label[:] = 255
        label[0, 0, :3] = [0, 1, 2]
    return logit.astype("float32"), label.astype("int64")


def run(loss, logit, label):
    x = paddle.to_tensor(logit, stop_gradient=False)
    value = loss(x, paddle.to_tensor(label))
    value.backward()
    return value.numpy(), x.grad.numpy()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("weight", [None, [1.0, 0.5, 3.0, 0.0, 2.0]])
@pytest.mark.parametrize("min_kept", [1 / 16, 0.5, 10, 60])
@pytest.mark.parametrize("name", ["random", "ignored", "few hard", "all hard", "ties", "few valid", "all ignored"])
def test_against_numpy(name, min_kept, weight, seed):
    logit, label = case(name, seed)
    expected, expected_gradient = reference(logit, label, min_kept=min_kept, weight=weight)
    actual, gradient = run(BiSeNetV1Loss(min_kept=min_kept, weight=weight), logit, label)
    assert actual.shape == (1,) and actual.dtype == np.float32
    np.testing.assert_allclose(actual[0], expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize(
    "selection", ["_kth_largest_by_partition", "_kth_largest_by_bisection"]
)  # on the CPU, and on other devices
@pytest.mark.parametrize("seed", range(4))
def test_a_fraction_of_the_valid_pixels(seed, selection, monkeypatch):
    """As in CoinCheung/BiSeNet, but with 1/2 instead of 1/16, so that easy pixels are kept."""
    monkeypatch.setattr(ohem, "_kth_largest_by_partition", getattr(ohem, selection))
    logit, label = case("few hard", seed)
    valid = int((label != 255).sum())
    expected, expected_gradient = reference(logit, label, min_kept=valid // 2)
    actual, gradient = run(BiSeNetV1Loss(min_kept=0.5, min_kept_of="valid"), logit, label)
    np.testing.assert_allclose(actual[0], expected, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-7)
    assert abs(actual - run(BiSeNetV1Loss(min_kept=0.5), logit, label)[0]) > 1e-3


@pytest.mark.parametrize("name", ["random", "ignored", "few hard", "all ignored"])
@pytest.mark.parametrize("thresh", [0.7, 1.0])
def test_average_over_all_pixels(name, thresh):
    """As in MMSegmentation: the sum over the kept pixels, divided by the number of all pixels."""
    logit, label = case(name, 0)
    mean, mean_gradient = reference(logit, label, thresh=thresh)
    kept = (mean_gradient != 0).any(axis=1).sum()
    actual, gradient = run(BiSeNetV1Loss(thresh=thresh, average_over="all"), logit, label)
    np.testing.assert_allclose(actual[0], mean * kept / label.size, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(gradient, mean_gradient * kept / label.size, rtol=1e-4, atol=1e-7)


def average_first_elements(losses):
    """Averages the loss like `train` of PaddleSeg 2.8.0."""
    total = 0.0
    for loss in losses:
        total += loss.numpy()[0]
    return total / len(losses)


def average_numbers(losses):
    """Averages like PaddleSeg 2.9.1 and develop. NumPy warns of shape [1] from 1.25 on, and raises from 2.5 on."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return sum(float(loss) for loss in losses) / len(losses)


@pytest.mark.parametrize("train", [average_first_elements, average_numbers])
def test_installed_train_can_average_the_loss(train, monkeypatch):
    monkeypatch.setattr(paddleseg.core, "train", train)
    logits, labels = zip(*(map(paddle.to_tensor, case("random", seed)) for seed in range(3)))
    losses = [BiSeNetV1Loss()(logit, label) for logit, label in zip(logits, labels)]
    expected = [reference(logit.numpy(), label.numpy())[0] for logit, label in zip(logits, labels)]
    assert train(losses) == pytest.approx(np.mean(expected), rel=1e-5)


def test_cases_depend_on_mining():
    """Without an effect of mining, the cases above would prove nothing."""
    for name in ("random", "few hard", "ties"):
        logit, label = case(name, 0)
        assert reference(logit, label, min_kept=10)[0] > 1.01 * reference(logit, label, thresh=1.0)[0], name


def test_ties_at_the_threshold_are_kept():
    """Uniform p = 0.9 with min_kept 10: the correct value is -log(0.9). PaddleSeg drops all pixels and returns 0."""
    logit = np.zeros((1, 2, 5, 8), "float32")
    logit[:, 0] = np.log(9.0)
    actual, _ = run(BiSeNetV1Loss(min_kept=10), logit, np.zeros((1, 5, 8), "int64"))
    np.testing.assert_allclose(actual, [-np.log(0.9)], rtol=1e-5)


def test_gradient_by_finite_differences():
    logit, label = case("ignored", 3)
    logit = logit.astype("float64")
    loss, step = BiSeNetV1Loss(min_kept=10), 1e-6
    _, gradient = run(loss, logit, label)
    random = np.random.RandomState(0)
    for _ in range(30):
        at = tuple(random.randint(0, n) for n in logit.shape)
        up, down = logit.copy(), logit.copy()
        up[at] += step
        down[at] -= step
        difference = (run(loss, up, label)[0] - run(loss, down, label)[0]) / (2 * step)
        np.testing.assert_allclose(gradient[at], difference[0], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_low_precision_logits_are_computed_in_float32(dtype):
    logit, label = case("ignored", 1)
    rounded = paddle.to_tensor(logit).astype(dtype)
    expected = BiSeNetV1Loss()(rounded.astype("float32"), paddle.to_tensor(label))
    with paddle.amp.auto_cast(enable=True, level="O1", dtype="bfloat16"):
        actual = BiSeNetV1Loss()(rounded, paddle.to_tensor(label))
    assert actual.dtype == paddle.float32
    np.testing.assert_array_equal(actual.numpy(), expected.numpy())


@pytest.mark.skipif(not paddle.__version__.startswith("2."), reason="upstream's loss of PaddleSeg 2.8.0 needs Paddle 2")
def test_against_upstream_where_upstream_is_correct():
    """No ties, and more hard pixels than min_kept. PaddleSeg divides by the kept fraction plus 1e-5."""
    from paddleseg.models.losses import OhemCrossEntropyLoss

    logit, label = case("all hard", 2)
    upstream = float(OhemCrossEntropyLoss(min_kept=20)(paddle.to_tensor(logit), paddle.to_tensor(label)))
    ours = float(BiSeNetV1Loss(min_kept=20)(paddle.to_tensor(logit), paddle.to_tensor(label)))
    kept_fraction = (reference(logit, label, min_kept=20)[1] != 0).any(axis=1).mean()
    assert ours == pytest.approx(upstream * (kept_fraction + 1e-5) / kept_fraction, rel=1e-5)


def test_label_with_a_channel_axis():
    logit, label = case("random", 0)
    flat, _ = run(BiSeNetV1Loss(), logit, label)
    with_axis, _ = run(BiSeNetV1Loss(), logit, label[:, None])
    np.testing.assert_array_equal(flat, with_axis)


@pytest.mark.parametrize(
    "dtype, ignore_index",
    [("uint8", 255), ("uint8", 2), *((dtype, value) for dtype in ("int32", "int64") for value in (255, 2, -1, -100))],
)
def test_label_types(dtype, ignore_index):
    """Any number can be ignored, including a class. The caller's label does not change."""
    logit, label = case("ignored", 0)
    label[label == 255] = ignore_index
    label = label.astype(dtype)
    given = paddle.to_tensor(label)
    x = paddle.to_tensor(logit, stop_gradient=False)
    value = BiSeNetV1Loss(ignore_index=ignore_index)(x, given)
    value.backward()
    expected, gradient = reference(logit, label.astype("int64"), ignore_index=ignore_index)
    np.testing.assert_allclose(value.numpy(), [expected], rtol=1e-5)
    np.testing.assert_allclose(x.grad.numpy(), gradient, rtol=1e-4, atol=1e-7)
    np.testing.assert_array_equal(given.numpy(), label)


class TestWrongLabels:
    @pytest.mark.parametrize("value", [-1, CLASSES, 254])
    def test_raises_at_the_first_call(self, value):
        logit, label = case("random", 0)
        label[1, 2, 3] = value
        with pytest.raises(ValueError, match=f"A label has the value {value}, but there are 5 classes"):
            run(BiSeNetV1Loss(), logit, label)

    @pytest.mark.parametrize("value", [2**32, 2**32 + 1, 2**31 + 5, -(2**32), -(2**63), 2**63 - 1])
    @pytest.mark.parametrize("resize_label", [False, True])
    def test_of_more_than_32_bits(self, value, resize_label):
        """Truncated to 32 bits, these would be classes."""
        logit, label = case("random", 0)
        loss = BiSeNetV1Loss(resize_label=resize_label)
        run(loss, logit, label)
        label[0, 0, 0] = value
        _, gradient = run(loss, logit, label)
        assert (gradient[0, :, 0, 0] == 0).all()
        with pytest.raises(ValueError, match=r"A label has the value -?214748364\d (or (less|more), )?"):
            run(BiSeNetV1Loss(resize_label=resize_label), logit, label)

    def test_raises_later_without_a_check_at_every_call(self, monkeypatch):
        """The range is kept on the device, so a single wrong label among many batches is reported."""
        logit, label = case("random", 0)
        wrong = label.copy()
        wrong[0, 0, 0] = 7
        looks = []
        tolist = paddle.Tensor.tolist
        monkeypatch.setattr(paddle.Tensor, "tolist", lambda self: looks.append(1) or tolist(self))
        loss = BiSeNetV1Loss()
        with pytest.raises(ValueError, match="A label has the value 7"):
            for step in range(200):
                run(loss, logit, wrong if step == 1 else label)
        assert step <= 50 and len(looks) == 2

    def test_wrong_labels_are_ignored_until_then(self):
        logit, label = case("random", 0)
        loss = BiSeNetV1Loss()
        run(loss, logit, label)
        wrong = label.copy()
        wrong[0, 0, 0] = 99
        _, gradient = run(loss, logit, wrong)
        assert (gradient[0, :, 0, 0] == 0).all()


class TestNaN:
    """Only a lasting NaN or infinity stops the training: GradScaler skips the step of an overflow."""

    @staticmethod
    def feed(loss, values):
        logit, label = case("random", 0)
        for value in values:
            run(loss, np.full_like(logit, value) if value else logit, label)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_raises_if_it_lasts(self, value):
        loss = BiSeNetV1Loss()
        self.feed(loss, [0] * 5 + [value] * 45)
        assert loss.calls_not_finite() == 45
        with pytest.raises(FloatingPointError, match="NaN or infinite 45 times in a row. Try a lower learning rate"):
            self.feed(loss, [value])

    def test_continues_if_it_passes(self):
        loss = BiSeNetV1Loss()
        self.feed(loss, ([np.nan] * 19 + [0]) * 10)
        assert loss.calls_not_finite() == 0
        self.feed(loss, [np.nan])
        assert loss.calls_not_finite() == 1


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"thresh": 0.0}, "`thresh` is a probability"),
        ({"thresh": 1.5}, "`thresh` is a probability"),
        ({"min_kept": 0}, "`min_kept` is a number of pixels"),
        ({"min_kept": 1.5}, "`min_kept` is a number of pixels"),
        ({"min_kept": True}, "`min_kept` is a number of pixels"),
        ({"min_kept_of": "kept"}, "`min_kept_of` is 'all' or 'valid', not 'kept'"),
        ({"average_over": "valid"}, "`average_over` is 'kept' or 'all', not 'valid'"),
        *(
            ({"weight": weight}, "`weight` needs a non-negative number for each class, not ")
            for weight in (
                *([1.0, -1.0], [1.0, math.nan], [math.inf, 1.0], [1e39], ["1", "2"], [None], [[1.0]], []),
                *("12", 3.0, {"a": 1.0}, {0: 1.0}),
            )
        ),
        *(({"thresh": thresh}, "`thresh` is a probability") for thresh in (math.nan, "0.7", [0.7], None)),
        *(({"ignore_index": index}, "`ignore_index` is a label") for index in (None, "255", 1.5, 2**31 - 1, -(2**31))),
    ],
)
def test_wrong_arguments(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        BiSeNetV1Loss(**arguments)


def test_wrong_shapes():
    logit, label = case("random", 0)
    with pytest.raises(ValueError, match="do not have the same pixels"):
        run(BiSeNetV1Loss(), logit, label[:, :3])
    with pytest.raises(ValueError, match="`weight` has 2 numbers, but the network has 5 classes"):
        run(BiSeNetV1Loss(weight=[1.0, 2.0]), logit, label)
