"""The values in `deploy.yaml` are those that PaddleSeg would use."""

import numpy as np
import pytest
import yaml
from paddleseg.cvlibs import manager
from paddleseg.deploy.infer import DeployConfig

from bisenetv1_plugin.export.defaults import fill_defaults

# A transform in a val_dataset, and all of its values: from the signatures and docstrings of PaddleSeg 2.8.0, 2.9.1 and
# develop, and this package's transform.
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


@pytest.mark.parametrize(("transform", "values"), CASES, ids=lambda case: case.get("type", ""))
def test_all_values_are_written_and_equivalent(transform, values, tmp_path):
    if transform["type"] not in manager.TRANSFORMS.components_dict:
        pytest.skip("this PaddleSeg has no such transform")
    (filled,) = fill_defaults([transform])
    assert filled == {"type": transform["type"], **values}
    found = []
    for number, each in enumerate((transform, filled)):
        path = tmp_path / f"{number}.yaml"
        path.write_text(yaml.safe_dump({"Deploy": {"transforms": [each]}}))
        picture = np.random.RandomState(0).randint(0, 256, (61, 93, 3)).astype("float32")
        found.append(DeployConfig(str(path)).transforms({"img": picture})["img"])
    assert (found[0] == found[1]).all() and found[0].std() > 0


def test_arguments_are_not_modified():
    transforms = [{"type": "Normalize"}, {"type": "Padding", "target_size": 8}]
    assert fill_defaults(transforms) == fill_defaults(fill_defaults(transforms))
    assert transforms[0] == {"type": "Normalize"}


def test_one_channel():
    assert fill_defaults([{"type": "Normalize"}], channels=1) == [{"type": "Normalize", "mean": [0.5], "std": [0.5]}]
