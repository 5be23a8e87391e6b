"""Pixels to what a network takes: to the last bit what PaddleSeg's transforms make of them."""

import numpy as np
import pytest
from paddleseg.transforms import Compose, Normalize, Padding, Resize

from bisenetv1_plugin.inference.preprocess import Preparation

IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}


class Halved(Normalize):
    """Of the same name in a list, and something else."""

    def __call__(self, data):
        data = super().__call__(data)
        data["img"] = data["img"] * 0.5 + data["img"].mean()
        return data


@pytest.mark.parametrize("to_rgb", [True, False])
@pytest.mark.parametrize(
    "transforms",
    [
        [],
        [Normalize()],
        [Normalize(**IMAGENET)],
        [Normalize(**IMAGENET), Normalize(**IMAGENET)],
        [Halved(**IMAGENET)],
        [Resize((40, 24)), Normalize(**IMAGENET)],
        [Padding((80, 64)), Normalize()],
    ],
    ids=lambda transforms: "+".join(type(transform).__name__ for transform in transforms),
)
def test_pixels_are_upstream_s(transforms, to_rgb):
    pixels = np.random.RandomState(0).randint(0, 256, (48, 64, 3), "uint8")
    pixels[:16, :16] = np.arange(256, dtype="uint8").reshape(16, 16, 1)
    compose = Compose(transforms, to_rgb=to_rgb)
    expected = compose({"img": pixels.astype("float32")})
    for given in (pixels, np.ascontiguousarray(pixels[:, ::-1])[:, ::-1]):  # a view as well
        image, trans_info = Preparation(compose)(given)
        assert image.dtype == expected["img"].dtype == "float32"
        np.testing.assert_array_equal(image, expected["img"])
        assert trans_info == expected["trans_info"]


def test_a_network_of_other_channels_refuses_pixels_as_before():
    prepare = Preparation(Compose([Normalize(mean=[0.5] * 4, std=[0.5] * 4)], img_channels=4))
    with pytest.raises(ValueError, match="img_channels"):
        prepare(np.zeros((4, 4, 3), "uint8"))
