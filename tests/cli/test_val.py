"""`bisenetv1 val` gives the scores that a loop and a count of our own give, on real images.

Only the network itself is the same on both sides. Images are read by OpenCV on both, whose decoder is not the question.
"""

import json

import cv2
import numpy as np
import paddle
import pytest
import yaml
from sklearn.metrics import confusion_matrix

from bisenetv1_plugin import cli
from bisenetv1_plugin.backbones.resnet import ResNet18_v1b
from bisenetv1_plugin.models.bisenetv1 import BiSeNetV1

CLASSES = 12  # CamVid's eleven, and one that nobody has
NOBODY = 11
IMAGES = 2
SIZE = (240, 180)
WINDOW, STRIDE = (160, 128), (96, 80)

pytestmark = pytest.mark.slow


def listed(camvid):
    """A few lines of its list, far from one another."""
    return (camvid / "val.txt").read_text().split("\n")[: 40 * IMAGES : 40]


def image_of(path):
    """As the configuration's transforms make it: `[3, H, W]` float32, from -1 to 1."""
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    small = cv2.resize(image.astype("float32"), SIZE, interpolation=cv2.INTER_LINEAR)  # not rounded
    return ((small / 255 - 0.5) / 0.5).transpose(2, 0, 1)


@pytest.fixture(scope="module")
def network(camvid, tmp_path_factory):
    """Random weights whose classifier is centered on these images, so that every class is predicted but the last."""
    paddle.seed(0)
    model = BiSeNetV1(CLASSES, ResNet18_v1b())
    model.eval()
    seen = np.stack([logits(model, image_of(camvid / line.split()[0])) for line in listed(camvid)])
    bias = -seen.mean(axis=(0, 2, 3))
    bias[NOBODY] = -1e4
    model.heads[-1].conv_1x1.bias.set_value(bias)
    path = tmp_path_factory.mktemp("weights") / "model.pdparams"
    paddle.save(model.state_dict(), str(path))
    return model, path


@pytest.fixture
def val(network, camvid, tmp_path):
    """The command; returns what it writes for other programs, its report's matrix, and the files that it scored."""
    (tmp_path / "val.txt").write_text("\n".join(listed(camvid)) + "\n")
    dataset = {"type": "Dataset", "dataset_root": str(camvid), "num_classes": CLASSES}
    config = {
        "batch_size": 1,
        "iters": 1,
        "model": {"type": "BiSeNetV1", "num_classes": CLASSES, "backbone": {"type": "ResNet18_v1b"}},
        "train_dataset": {**dataset, "mode": "train", "train_path": str(tmp_path / "val.txt"), "transforms": []},
        "val_dataset": {
            **dataset,
            "mode": "val",
            "val_path": str(tmp_path / "val.txt"),
            "transforms": [{"type": "Resize", "target_size": list(SIZE)}, {"type": "Normalize"}],
        },
        "optimizer": {"type": "SGD"},
        "lr_scheduler": {"type": "PolynomialDecay", "learning_rate": 0.01},
        "loss": {"types": [{"type": "BiSeNetV1Loss"}] * 3, "coef": [1, 1, 1]},
    }
    (tmp_path / "config.yml").write_text(yaml.safe_dump(config))

    def run(*flags):
        argv = ["val", "--config", str(tmp_path / "config.yml"), "--model_path", str(network[1]), "--device", "cpu"]
        outputs = ["--json", str(tmp_path / "val.json"), "--report", str(tmp_path / "report")]
        assert cli.main([*argv, *outputs, *flags]) == 0
        found = json.loads((tmp_path / "val.json").read_text())
        reported = np.loadtxt(
            tmp_path / "report" / "confusion_pixels.csv",
            "int64",
            delimiter=",",
            skiprows=1,
            usecols=range(1, CLASSES + 1),
        )
        return found, reported, [[camvid / name for name in line.split()] for line in listed(camvid)]

    return run


def resized(image, size):
    """`[C, H, W]` float32 to another (height, width): bilinear between pixels' centers, held at the edges."""
    for axis, length in zip((1, 2), size):
        ratio = np.float32(image.shape[axis]) / np.float32(length)
        place = ratio * (np.arange(length, dtype="float32") + np.float32(0.5)) - np.float32(0.5)
        place = np.clip(place, 0, None)
        first = np.minimum(place.astype("int64"), image.shape[axis] - 1)
        second = np.minimum(first + 1, image.shape[axis] - 1)
        share = (place - first).reshape([-1 if side == axis else 1 for side in range(3)])
        image = image.take(first, axis) * (1 - share) + image.take(second, axis) * share
    return image.astype("float32")


def logits(model, image):
    with paddle.no_grad():
        return model(paddle.to_tensor(image[None]))[0][0].numpy()


def slid(model, image):
    """The average of the windows over each pixel; the last window of a row or column ends at the edge."""
    starts = []
    for side, window, stride in zip(image.shape[:0:-1], WINDOW, STRIDE):
        starts.append([*range(0, side - window, stride), side - window])
    total, times = np.zeros((CLASSES, *image.shape[1:])), np.zeros(image.shape[1:])
    for top in starts[1]:
        for left in starts[0]:
            place = (slice(top, top + WINDOW[1]), slice(left, left + WINDOW[0]))
            total[(slice(None), *place)] += logits(model, image[(slice(None), *place)])
            times[place] += 1
    return total / times


def averaged(model, image, scales, forward=logits):
    """The mean of the logits over scales, and over the image and its mirror image."""
    height, width = image.shape[1:]
    found = []
    for scale in scales:
        scaled = resized(image, (int(height * scale + 0.5), int(width * scale + 0.5)))
        for step in (1, -1):
            found.append(resized(forward(model, scaled[:, :, ::step])[:, :, ::step], (height, width)))
    return np.mean(found, axis=0)


def count(model, pairs, forward):
    """Rows are the classes of the labels, columns those predicted; ignored pixels are left out.

    And how many pixels lie so near to the border of two classes that rounding may tip them.
    """
    total, near = 0, 0
    for image_file, label_file in pairs:
        label = cv2.imread(str(label_file), cv2.IMREAD_UNCHANGED)
        # The logits, not the mask, are brought back to the label's size.
        scores = resized(forward(model, image_of(image_file)), label.shape)
        used = label != 255
        second, best = np.partition(scores, -2, axis=0)[-2:]
        near += ((best - second)[used] < 5e-6 * scores[:NOBODY].std()).sum()
        total = total + confusion_matrix(label[used], scores.argmax(0)[used], labels=range(CLASSES))
    return total.astype("float64"), near


CASES = {
    "plain": ([], logits),
    "windows": (["--is_slide", "--crop_size", *map(str, WINDOW), "--stride", *map(str, STRIDE)], slid),
    "scales and mirror": (
        ["--aug_eval", "--scales", "0.75", "1.25", "--flip_horizontal"],
        lambda model, image: averaged(model, image, (0.75, 1.25)),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_scores(case, val, network):
    flags, forward = CASES[case]
    found, reported, pairs = val(*flags)
    miou, accuracy, class_iou, kappa = (found[key] for key in ("miou", "acc", "class_iou", "kappa"))
    table, near = count(network[0], pairs, forward)
    assert near <= 20, "the comparison would say nothing"
    assert abs(reported - table).sum() <= 2 * near and (reported.sum(1) == table.sum(1)).all()
    hit, labeled, predicted = np.diag(table), table.sum(1), table.sum(0)
    assert (predicted > 1000).sum() >= 5 and (labeled > 0).sum() >= 8, "too few classes for a comparison"

    union = labeled + predicted - hit
    expected = np.divide(hit, union, out=np.zeros(CLASSES), where=union > 0)
    print(f"{case}: mIoU {miou:.6f}, of our own count {expected.mean():.6f}; {near} pixels at a border")
    slack = 1e-6 + 2 * near / np.maximum(union, 1)  # IoU of each class: of the pixels that rounding may tip
    assert (np.abs(class_iou - expected) <= slack).all(), (class_iou, expected, slack)
    # A class that nobody has counts as 0 in the mean: PaddleSeg's rule, and stricter than to leave it out.
    assert union[NOBODY] == 0 and miou == pytest.approx(expected.mean(), abs=slack.mean())
    assert miou < expected[union > 0].mean() - 1e-3

    tipped = 1e-6 + 2 * near / table.sum()
    assert accuracy == pytest.approx(hit.sum() / table.sum(), abs=tipped)
    chance = (labeled * predicted).sum() / table.sum() ** 2
    assert kappa == pytest.approx((accuracy - chance) / (1 - chance), abs=4 * tipped)
