"""What `deploy.yaml` spells out is what PaddleSeg would have taken."""

import numpy as np
import pytest
import yaml
from paddleseg.cvlibs import manager
from paddleseg.deploy.infer import DeployConfig

from bisenetv1_plugin.export.defaults import fill_defaults

# What a val_dataset may say, and every value that it has then: the signatures and docstrings of PaddleSeg 2.8.0, 2.9.1
# and develop, and this package's transform.
IM, LABEL = {"im_padding_value": 127.5}, {"label_padding_value": 255}
CASES = [
    ({"type": "Normalize"}, {"mean": [0.5] * 3, "std": [0.5] * 3}),
    ({"type": "Normalize", "mean": [0.4], "std": [0.1, 0.2, 0.3]}, {"mean": [0.4] * 3, "std": [0.1, 0.2, 0.3]}),
    ({"type": "Resize"}, {"target_size": [512, 512], "keep_ratio": False, "size_divisor": None, "interp": "LINEAR"}),
    (
        {"type": "Resize", "target_size": [64, 32], "interp": "CUBIC"},
        {"target_size": [64, 32], "keep_ratio": False, "size_divisor": None, "interp": "CUBIC"},
    ),
    ({"type": "ResizeByLong", "long_size": 64}, {"long_size": 64}),
    ({"type": "ResizeByShort", "short_size": 64}, {"short_size": 64, "max_size": 1e10}),
    ({"type": "LimitLong", "max_long": 64}, {"max_long": 64, "min_long": None}),
    ({"type": "ResizeRangeScaling", "min_value": 64, "max_value": 64}, {"min_value": 64, "max_value": 64}),
    (
        {"type": "ResizeStepScaling", "min_scale_factor": 0.5, "max_scale_factor": 0.5},
        {"min_scale_factor": 0.5, "max_scale_factor": 0.5, "scale_step_size": 0.25},
    ),
    ({"type": "Padding", "target_size": [128, 96]}, {"target_size": [128, 96], **IM, **LABEL}),
    ({"type": "PaddingByAspectRatio"}, {"aspect_ratio": 1, **IM, **LABEL}),
    ({"type": "CenterPadding", "target_size": [128, 96]}, {"target_size": [128, 96]}),
]


@pytest.mark.parametrize(("said", "values"), CASES, ids=lambda case: case.get("type", ""))
def test_every_value_is_there_and_changes_nothing(said, values, tmp_path):
    if said["type"] not in manager.TRANSFORMS.components_dict:
        pytest.skip("this PaddleSeg has no such transform")
    (filled,) = fill_defaults([said])
    assert filled == {"type": said["type"], **values}
    found = []
    for number, transform in enumerate((said, filled)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump({"Deploy": {"transforms": [transform]}}))
        picture = np.random.RandomState(0).randint(0, 256, (61, 93, 3)).astype("float32")
        found.append(DeployConfig(str(path)).transforms({"img": picture})["img"])
    assert (found[0] == found[1]).all() and found[0].std() > 0


def test_the_list_that_was_handed_over_stays():
    said = [{"type": "Normalize"}, {"type": "Padding", "target_size": 8}]
    assert fill_defaults(said) == fill_defaults(fill_defaults(said)) and said[0] == {"type": "Normalize"}


def test_one_channel_has_one_mean():
    assert fill_defaults([{"type": "Normalize"}], channels=1) == [{"type": "Normalize", "mean": [0.5], "std": [0.5]}]
