"""The network's input equals that of PaddleSeg's transforms, bit for bit."""

import copy
import subprocess
import sys

import numpy as np
import pytest
from paddleseg.cvlibs import manager
from paddleseg.transforms import Compose

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.export.defaults import fill_defaults
from bisenetv1_plugin.inference.preprocess import Preprocess

IMAGENET = {"type": "Normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
NORMALIZE = {"type": "Normalize"}
LISTS = [
    [],
    [NORMALIZE],
    [IMAGENET],
    [IMAGENET, NORMALIZE],
    [{"type": "Normalize", "mean": [0.5], "std": [0.25]}],
    [{"type": "Resize", "target_size": [40, 24]}, IMAGENET],
    [NORMALIZE, {"type": "Resize", "target_size": [41, 23], "keep_ratio": True, "size_divisor": 32}],
    *([{"type": "Resize", "target_size": [57, 83], "interp": interp}, IMAGENET] for interp in ("NEAREST", "CUBIC")),
    *([{"type": "Resize", "target_size": [57, 33], "interp": interp}, IMAGENET] for interp in ("AREA", "LANCZOS4")),
    [{"type": "Resize"}, NORMALIZE],
    [{"type": "ResizeByLong", "long_size": 77}, IMAGENET],
    [{"type": "ResizeByShort", "short_size": 33}, IMAGENET],
    [{"type": "ResizeByShort", "short_size": 60, "max_size": 65}, IMAGENET],
    [{"type": "LimitLong", "max_long": 50}, IMAGENET],
    [{"type": "LimitLong", "min_long": 99, "max_long": 120}, IMAGENET],
    [{"type": "LimitLong"}, IMAGENET],
    [{"type": "Padding", "target_size": [140, 150]}, IMAGENET],
    [IMAGENET, {"type": "Padding", "target_size": [150, 140], "im_padding_value": 0}],
    [{"type": "PaddingByAspectRatio"}, IMAGENET],
    [{"type": "PaddingByAspectRatio", "aspect_ratio": 1.7, "im_padding_value": 3}, IMAGENET],
    [IMAGENET, {"type": "CenterPadding", "target_size": [90, 101]}],
    [{"type": "ResizeByLong", "long_size": 64}, {"type": "Padding", "target_size": [64, 64]}, IMAGENET],
    [{"type": "ResizeRangeScaling", "min_value": 50, "max_value": 50}, IMAGENET],  # PaddleSeg's own
]


def upstream(transforms):
    return Compose([manager.TRANSFORMS[values["type"]](**_rest(values)) for values in copy.deepcopy(transforms)])


def _rest(values):
    return {key: value for key, value in values.items() if key != "type"}


@pytest.mark.parametrize("transforms", LISTS, ids=lambda values: "+".join(item["type"] for item in values))
def test_pixels_equal_upstream(transforms):
    random = np.random.RandomState(0)
    prepare, filled = Preprocess(transforms), Preprocess(fill_defaults(transforms))
    sizes = [(48, 64), (64, 48), (33, 33), *random.randint(20, 100, (6, 2)).tolist()]
    for height, width in sizes:
        pixels = random.randint(0, 256, (height, width, 3), "uint8")
        pixels[:16, :16] = np.arange(256, dtype="uint8").reshape(16, 16, 1)
        # A new instance for each, because `ResizeByShort` remembers the size of a larger picture.
        expected = upstream(transforms)({"img": pixels.astype("float32")})
        for view in (pixels, np.ascontiguousarray(pixels[:, ::-1])[:, ::-1]):
            image, trans_info = prepare(view)
            assert image.dtype == expected["img"].dtype == "float32"
            np.testing.assert_array_equal(image, expected["img"])
            assert trans_info == expected["trans_info"]
        np.testing.assert_array_equal(filled(pixels).image, expected["img"])


@pytest.mark.parametrize(
    ("transform", "why"),
    [
        ({"type": "Nothing"}, "there is no transform Nothing"),
        ({"type": "Normalize", "std": [0.5, 0, 0.5]}, "Normalize does not take .*std has a 0"),
        ({"type": "Normalize", "mean": [[0.5]]}, "mean is not a list of numbers"),
        ({"type": "Normalize", "color": 1}, "unexpected keyword argument 'color'"),
        ({"type": "Resize", "target_size": [0, 4]}, "target_size has 0"),
        ({"type": "Resize", "interp": "RANDOM"}, "interp is not one of NEAREST"),
        ({"type": "LimitLong", "max_long": 4, "min_long": 5}, "min_long, 5, is above max_long, 4"),
        ({"type": "Padding"}, "target_size"),
    ],
)
def test_invalid_transforms(transform, why):
    with pytest.raises(InputError, match=why):
        Preprocess([transform])


def test_picture_larger_than_the_padding():
    with pytest.raises(InputError, match="it is 64x48 pixels, larger than the padded size 32x32"):
        Preprocess([{"type": "Padding", "target_size": [32, 32]}])(np.zeros((48, 64, 3), "uint8"))


def test_normalize_with_a_wrong_number_of_channels():
    with pytest.raises(InputError, match="it has 3 channels, and Normalize has numbers for 4"):
        Preprocess([{"type": "Normalize", "mean": [0.5] * 4}])(np.zeros((4, 4, 3), "uint8"))


def test_paddleseg_transform_without_paddleseg(tmp_path):
    code = (
        "import sys; sys.modules['paddleseg'] = None\n"
        "from bisenetv1_plugin.inference.preprocess import Preprocess\n"
        "try: Preprocess([{'type': 'ResizeRangeScaling'}])\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "the transform ResizeRangeScaling is PaddleSeg's, which is not installed: pip install" in done.stdout
