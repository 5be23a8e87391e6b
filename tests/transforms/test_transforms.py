"""The transforms on single samples, and their errors. test_augmentation.py tests their probabilities."""

import numpy as np
import pytest
from paddleseg.transforms import RandomPaddingCrop

from bisenetv1_plugin.transforms.color import CoinCheungColorJitter, MMSegPhotoMetricDistortion
from bisenetv1_plugin.transforms.geometry import CenterPadding, MMSegRandomCrop, RandomMirrorSwap


def sample(height, width):
    label = np.arange(height * width, dtype="uint8").reshape(height, width)
    return {"img": np.full((height, width, 3), 9, "float32"), "label": label, "gt_fields": ["label"], "trans_info": []}


def test_padding_is_equal_on_all_sides():
    data = CenterPadding([8, 6])(sample(3, 4))
    assert data["img"].shape == (6, 8, 3) and data["label"].dtype == "uint8"
    assert (data["img"][1:4, 2:6] == 9).all() and data["img"].sum() == 9 * 3 * 12
    assert (data["label"][1:4, 2:6] == np.arange(12).reshape(3, 4)).all() and (data["label"] == 255).sum() == 48 - 12


def test_large_images_are_not_padded():
    data = CenterPadding([3, 6])(sample(5, 4))
    assert data["img"].shape == (6, 4, 3) and data["label"].shape == (6, 4)
    gray = {"img": np.ones((2, 2), "float32"), "label": np.ones((2, 2), "uint8"), "gt_fields": ["label"]}
    assert CenterPadding([4, 4])(gray)["img"].shape == (4, 4)
    assert CenterPadding([4, 4])({"img": np.ones((2, 2, 3), "float32")})["img"].shape == (4, 4, 3)


def test_paddlesegs_padding_accepts_no_list():
    """So no recipe may have `im_padding_value: [0, 0, 0]`: the first small image would end the training."""
    with pytest.raises(Exception, match="copyMakeBorder"):
        RandomPaddingCrop(crop_size=(8, 8), im_padding_value=[0.0, 0.0, 0.0])(sample(4, 4))


def test_crop_does_not_pad():
    data = MMSegRandomCrop([8, 2], 0.75)(sample(5, 4))
    assert data["img"].shape == (2, 4, 3) and data["label"].shape == (2, 4)


def test_crop_with_only_ignored_pixels():
    data = sample(4, 4)
    data["label"][:] = 255
    assert MMSegRandomCrop([2, 2], 0.75)(data)["label"].shape == (2, 2)


def test_mirrored_classes_are_swapped():
    mirror, seen = RandomMirrorSwap([[2, 3], [7, 8]]), set()
    np.random.seed(0)
    for _ in range(20):
        data = sample(1, 10)
        data["img"][0, 0] = 1
        data = mirror(data)
        mirrored = data["img"][0, -1, 0] == 1
        assert data["label"].tolist() == [[9, 7, 8, 6, 5, 4, 2, 3, 1, 0] if mirrored else [*range(10)]]
        seen.add(bool(mirrored))
    assert seen == {True, False}


@pytest.mark.parametrize("transform", [MMSegPhotoMetricDistortion, CoinCheungColorJitter])
def test_colors_stay_in_range_and_type(transform):
    np.random.seed(0)
    img = np.random.uniform(0, 255, (8, 8, 3)).astype("float32")
    for _ in range(50):
        changed = transform()({"img": img})["img"]
        assert changed.dtype == "float32" and changed.shape == img.shape
        assert changed.min() >= 0 and changed.max() <= 255 and (changed == np.rint(changed)).all()
    with pytest.raises(ValueError, match=r"the image has shape \[8, 8\]: colors"):
        transform()({"img": img[..., 0]})


@pytest.mark.parametrize(
    "transform, arguments, message",
    [
        (CenterPadding, [[1024]], r"target_size is \[1024\]. Give width and height"),
        (MMSegRandomCrop, [[512, 0], 0.75], r"crop_size is \[512, 0\]. Give width and height"),
        (MMSegRandomCrop, [[512, 512], 75], r"category_max_ratio is 75. Give a fraction between 0 and 1"),
        (RandomMirrorSwap, [[[2, 3, 4]]], "Give pairs of class numbers"),
        (RandomMirrorSwap, [[[2, 3], [3, 4]]], "each once"),
        (RandomMirrorSwap, [[[2, 300]]], "Give pairs of class numbers"),
    ],
)
def test_wrong_arguments_are_refused(transform, arguments, message):
    with pytest.raises(ValueError, match=message):
        transform(*arguments)


@pytest.mark.parametrize("transform", [MMSegPhotoMetricDistortion, CoinCheungColorJitter])
def test_values_outside_the_range_are_clipped(transform):
    """A cubic resize may give -3, which becomes black, or 258, which becomes white."""
    img = np.full((8, 8, 3), -3, "float32")
    img[4:] = 258
    for seed in range(20):
        np.random.seed(seed)
        done = transform()({"img": img.copy()})["img"]
        assert done[:4].mean() < 128 < done[4:].mean()


@pytest.mark.parametrize("transform", [MMSegPhotoMetricDistortion, CoinCheungColorJitter])
def test_resized_values_are_rounded(transform):
    """99.6 is treated as 100, not as 99."""
    found = []
    for value in (99.6, 100):
        np.random.seed(3)
        found.append(transform()({"img": np.full((2, 2, 3), value, "float32")})["img"])
    assert np.array_equal(*found)
