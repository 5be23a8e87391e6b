"""Rendering; needs neither paddle nor paddleseg."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from bisenetv1_plugin.datasets.classes import CLASS_NAMES, DEMO_CLASSES, PERSON, remap
from bisenetv1_plugin.datasets.scenes import render_scene

SIZE = (128, 64)
# SHA-256 of image and label by seed, width and height. OpenCV 4.5, 4.6, 4.10 and 5.0 agree, and NumPy 1 and 2.
BYTES = {
    (0, 256, 128): (
        "a445fe822d64e9ff1cef94a7937e8627cce4af112fae3c4b55b8df9cbfa05a08",
        "9483d75d29f09542f0b2458849afa93416a6185c420d07cb57915ea06aeb5efe",
    ),
    (1, 256, 128): (
        "f71f9d10d6e63e3237dce9c90beb1395d50651278bc00df95d73be8cc1fdb9ea",
        "781b1730cb12ef01c64f568dcb07298a8a59106aa934cb12eda8bf9f285b0a0d",
    ),
    (2, 1024, 512): (
        "b5cb517a5af6814c2eac725a84c024dcc6ca24685f33426a0b3ac31f9f4696d4",
        "b81a64f25473d2a6a0a3f284e6a86c07e279bab8fc7d701319e04d0fbacbc974",
    ),
    (3, 333, 217): (
        "40bff11cd90cb570662e9140a87d2145f3d69a3b8cd3296d7357580595cf6391",
        "48c278ecf79d00882c3a561c152308a1b47a46f92f398170899c5fdfea636979",
    ),
    (2**32 - 1, 16, 16): (
        "2cc6716c436aded469bfbfd89b7cfe9b0ab08d2a19ed2713cedfe10e4a40e4e0",
        "97e0acf801af57115b6c879edec500ba195077e5ed9286b605e31110c91be7ee",
    ),
}


@pytest.fixture(scope="module")
def sample():
    """240 small scenes: images `[N, H, W, 3]` and labels `[N, H, W]`."""
    images, labels = zip(*(render_scene(seed, *SIZE) for seed in range(240)))
    return np.stack(images), np.stack(labels)


def digest(seed, width, height):
    image, label = render_scene(seed, width, height)
    return hashlib.sha256(image.tobytes() + label.tobytes()).hexdigest()


@pytest.mark.parametrize("width, height", [(256, 128), (100, 75), (64, 200), (16, 16)])
def test_shapes_and_types(width, height):
    image, label = render_scene(7, width, height)
    assert (image.shape, image.dtype) == ((height, width, 3), np.uint8)
    assert (label.shape, label.dtype) == ((height, width), np.uint8)
    assert image.flags.c_contiguous and label.flags.c_contiguous


def test_seed_determines_the_scene():
    assert digest(3, *SIZE) == digest(3, *SIZE)
    assert digest(3, *SIZE) != digest(4, *SIZE)


@pytest.mark.parametrize("scene", BYTES)
def test_scene_checksums(scene):
    """Published figures hold only as long as the bytes of a seed do not change."""
    assert tuple(hashlib.sha256(part.tobytes()).hexdigest() for part in render_scene(*scene)) == BYTES[scene]


def test_checksum_of_many_scenes(sample):
    """240 scenes contain everything that can be drawn."""
    assert [hashlib.sha256(part.tobytes()).hexdigest() for part in sample] == [
        "9f25f59396abf208753adc2bce3d6867cffe41a13c097ef142e5a0d671141382",
        "efd41e3074f93aac818f7861c20ff80a1e3ee8e2a66b665f1cc98a699a8066a3",
    ]


def test_global_numpy_generator_is_unchanged():
    np.random.seed(5)
    expected = np.random.random_sample()
    np.random.seed(5)
    render_scene(0, *SIZE)
    assert np.random.random_sample() == expected


def test_another_process_draws_the_same_bytes():
    code = """if True:
        import hashlib
        from bisenetv1_plugin.datasets.scenes import render_scene
        for seed in range(5):
            image, label = render_scene(seed, 128, 64)
            print(hashlib.sha256(image.tobytes() + label.tobytes()).hexdigest())
    """
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output.split() == [digest(seed, *SIZE) for seed in range(5)]


def test_rendering_needs_no_paddle():
    code = "import sys; import bisenetv1_plugin.datasets.scenes; assert 'paddle' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_street_is_the_same_at_any_size():
    small = np.stack([render_scene(seed, 128, 64)[1] for seed in range(10)])
    large = np.stack([render_scene(seed, 512, 256)[1][2::4, 2::4] for seed in range(10)])
    assert (small == large).mean() > 0.9
    assert (small == np.roll(large, 1, axis=0)).mean() < 0.6


def test_labels_are_train_ids_and_every_class_occurs(sample):
    _, labels = sample
    scenes_with = [(labels == train_id).any(axis=(1, 2)).sum() for train_id in range(19)]
    assert set(np.unique(labels)) == {*range(19), 255}
    assert min(scenes_with) >= 10, dict(zip(CLASS_NAMES, scenes_with))
    assert 0 < (labels == 255).mean() < 0.1


def test_near_things_are_larger(sample):
    """A person whose feet are lower in the picture covers more pixels: per scene, area grows with the lowest row."""
    _, labels = sample
    people = [np.argwhere(label == PERSON) for label in labels]
    people = [(where[:, 0].max(), len(where)) for where in people if len(where)]
    rows, areas = np.array(people).T
    assert np.corrcoef(rows, areas)[0, 1] > 0.3


def mean_iou(prediction, label, count):
    valid = label != 255
    table = np.bincount(label[valid].astype(int) * count + prediction[valid], minlength=count * count)
    table = table.reshape(count, count)
    hits = np.diag(table)
    return float(np.mean(hits / np.maximum(table.sum(0) + table.sum(1) - hits, 1)))


def linear_fit(features, label, count, steps=300):
    """Multinomial logistic regression by plain gradient descent; returns the weights `[D, count]`."""
    weights = np.zeros((features.shape[1], count))
    target = np.eye(count)[label]
    for _ in range(steps):
        scores = features @ weights
        odds = np.exp(scores - scores.max(1, keepdims=True))
        weights -= 2.0 * features.T @ (odds / odds.sum(1, keepdims=True) - target) / len(label)
    return weights


def test_color_and_position_do_not_reveal_the_class(sample):
    """A linear classifier of pixel colors and a map of the most frequent class stay far from what a network learns."""
    images, labels = sample
    count = len(DEMO_CLASSES)
    labels = remap(labels, DEMO_CLASSES)
    train, val = slice(0, 180), slice(180, None)

    frequent = np.stack([(labels[train] == c).sum(0) for c in range(count)]).argmax(0)
    assert mean_iou(np.broadcast_to(frequent, labels[val].shape), labels[val], count) < 0.35

    def features(pixels):
        colors = (pixels.reshape(-1, 3).astype(np.float64) - 128) / 64
        return np.hstack([colors, np.ones((len(colors), 1))])

    chosen = np.flatnonzero(labels[train].ravel() != 255)[::97]
    weights = linear_fit(features(images[train])[chosen], labels[train].ravel()[chosen], count)
    prediction = (features(images[val]) @ weights).argmax(1).reshape(labels[val].shape)
    assert mean_iou(prediction, labels[val], count) < 0.35


def test_the_color_check_can_fail():
    """The same classifier finds classes that do have a color of their own."""
    label = np.random.RandomState(0).randint(0, 3, 3000)
    colors = np.eye(3)[label] + 0.05
    weights = linear_fit(np.hstack([colors, np.ones((3000, 1))]), label, 3)
    assert mean_iou((np.hstack([colors, np.ones((3000, 1))]) @ weights).argmax(1), label, 3) > 0.95


@pytest.mark.parametrize("arguments, message", [((-1, 64, 64), "seed is -1"), ((0, 64, 8), "64 x 8 pixels")])
def test_bad_scenes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        render_scene(*arguments)
