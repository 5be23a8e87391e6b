"""Rendering and the class table; needs neither paddle nor paddleseg."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from bisenetv1_plugin.datasets import scenes
from bisenetv1_plugin.datasets.scenes import CLASS_NAMES, DEMO_CLASSES, class_groups, remap, render_scene

SIZE = (128, 64)


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


def test_a_seed_is_a_scene():
    assert digest(3, *SIZE) == digest(3, *SIZE)
    assert digest(3, *SIZE) != digest(4, *SIZE)


def test_seeds_leave_numpys_global_generator_alone():
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
    people = [np.argwhere(label == scenes.PERSON) for label in labels]
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


def test_neither_colour_nor_position_gives_the_class_away(sample):
    """A linear classifier of pixel colours and a map of the most frequent class stay far from what a network learns."""
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


def test_the_colour_check_can_fail():
    """The same classifier finds classes that do have a colour of their own."""
    label = np.random.RandomState(0).randint(0, 3, 3000)
    colors = np.eye(3)[label] + 0.05
    weights = linear_fit(np.hstack([colors, np.ones((3000, 1))]), label, 3)
    assert mean_iou((np.hstack([colors, np.ones((3000, 1))]) @ weights).argmax(1), label, 3) > 0.95


def test_class_table():
    assert len(CLASS_NAMES) == len(set(CLASS_NAMES)) == 19
    assert CLASS_NAMES[scenes.TRAFFIC_LIGHT] == "traffic light"
    assert CLASS_NAMES[scenes.SKY] == "sky"
    assert CLASS_NAMES[scenes.BICYCLE] == "bicycle"
    assert len(set(scenes.class_colors())) == 19


def test_remap():
    label = np.array([[0, 13, 14], [255, 11, 18]], np.uint8)
    classes = ["car", ("human", (11, 12)), "road"]
    out = remap(label, classes)
    assert out.dtype == np.uint8
    assert out.tolist() == [[2, 0, 255], [255, 1, 255]]
    assert (remap(label, CLASS_NAMES) == label).all()
    assert class_groups(classes) == (("car", (13,)), ("human", (11, 12)), ("road", (0,)))
    assert scenes.class_colors(classes) == [(0, 0, 142), (220, 20, 60), (128, 64, 128)]


@pytest.mark.parametrize(
    "classes, message",
    [
        (["raod"], "'raod' is no Cityscapes class"),
        ([("thing", (0, 19))], "19 is no train id"),
        (["road", ("ground", (0, 1))], "'road' .* chosen 2 times"),
        ([], "empty"),
    ],
)
def test_bad_classes_are_refused(classes, message):
    with pytest.raises(ValueError, match=message):
        remap(np.zeros((2, 2), np.uint8), classes)


@pytest.mark.parametrize("arguments, message", [((-1, 64, 64), "seed is -1"), ((0, 64, 8), "64 x 8 pixels")])
def test_bad_scenes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        render_scene(*arguments)
