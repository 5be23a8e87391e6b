"""Compare initial weights, and the optimizer's rates and decays of each parameter, with PyTorch."""

import importlib.util
from pathlib import Path

import numpy as np
import paddle
import pytest

torch = pytest.importorskip("torch")

from paddleseg.cvlibs import manager  # noqa: E402

from bisenetv1_plugin.models.bisenetv1 import BiSeNetV1  # noqa: E402
from bisenetv1_plugin.models.variants import VARIANTS  # noqa: E402

_spec = importlib.util.spec_from_file_location("steps", Path(__file__).with_name("test_training_steps.py"))
steps = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(steps)
references, trainings = steps.references, steps.trainings

CLASSES = references.CLASSES
AFTER_WARMUP = (0, 1, 999, 20000, 39000, 78999)  # iterations for a training of 80000, scaled for longer ones


# The optimizer


def optimizer_of_ours(name):
    """Return for each parameter (factor of the schedule's rate, decay), and the schedule and optimizer."""
    ours = steps.Ours(name)
    decay_of = {}
    for group in ours.optimizer._param_groups:
        own = group["regularization_coeff"] if isinstance(group, dict) else ours.optimizer._regularization_coeff
        for parameter in group["params"] if isinstance(group, dict) else [group]:
            decay_of[parameter.name] = own
    found = {
        name: (parameter.optimize_attr["learning_rate"], decay_of[parameter.name])
        for name, parameter in ours.model.named_parameters()
        if not parameter.stop_gradient
    }
    return found, ours.schedule, ours.optimizer


@pytest.mark.slow
@pytest.mark.parametrize("name", steps.RESTATED)
def test_rates_and_decays(name):
    check_rates_and_decays(*steps.RESTATED[name][:2])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.very_slow] * (name == "mmseg R50")) for name in steps.ORIGINAL]
)
def test_rates_and_decays_of_the_original(name):
    check_rates_and_decays(*steps.ORIGINAL[name][:2])


def check_rates_and_decays(config, make):
    """Compare every parameter, from the end of the warm-up to the last iteration."""
    training = make()
    found, schedule, optimizer = optimizer_of_ours(config)
    dic = steps.Config(str(steps.zoo.path_of(config))).dic
    warmup = dic["lr_scheduler"].get("warmup_iters", 0)
    theirs, set_rates = steps.groups_of(training)
    assert set(theirs) == set(found)
    for after in AFTER_WARMUP:
        iteration = min(warmup + after * dic["iters"] // 80000, dic["iters"] - 1)
        set_rates(iteration)
        schedule.step(iteration)
        for parameter, (factor, decay) in found.items():
            group = theirs[parameter]
            assert factor * schedule() == pytest.approx(group["lr"], rel=1e-9), f"{parameter} in iteration {iteration}"
            assert decay == group["weight_decay"], parameter
            assert optimizer._momentum == group["momentum"] and optimizer._use_nesterov == group["nesterov"]
            assert group["dampening"] == 0 and not group["maximize"]


# The start

# Biases that the original does not initialize; they have PyTorch's default.
BIASES = [f"heads.{head}.conv_1x1.bias" for head in range(3)]
UNTOUCHED = {"torchseg": BIASES, "torchseg_speed": BIASES, "torchseg_x39": BIASES, "mmseg": BIASES[:2]}

CONVOLUTIONS = {
    "torchseg": lambda weight: torch.nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu"),
    "coincheung": lambda weight: torch.nn.init.kaiming_normal_(weight, a=1),
    "zllrunning": lambda weight: torch.nn.init.kaiming_normal_(weight, a=1),
}


def restated_start(variant):
    module = steps.network.BiSeNetV1(CLASSES, VARIANTS[variant])
    for name, layer in module.named_modules():
        if isinstance(layer, torch.nn.Conv2d) and not name.startswith("backbone."):
            CONVOLUTIONS[variant](layer.weight)
            if layer.bias is not None and variant != "torchseg":
                torch.nn.init.zeros_(layer.bias)
    return module


def fresh(name):
    """Return an untrained network, initialized by its own code."""
    module = references.NETWORKS[name][0]()
    if name.startswith("torchseg"):
        kind = {"torchseg-r18": "R18", "torchseg-x39": "X39", "torchseg-r18-speed": "R18.speed"}[name]
        trainings.torchseg(module, kind, steps.CROP, steps.BATCH).initialize()
    if name.startswith("mmseg"):
        module.init_weights()
    return module


STARTS = {
    "torchseg, restated": (lambda: restated_start("torchseg"), "torchseg"),
    "coincheung, restated": (lambda: restated_start("coincheung"), "coincheung"),
    "zllrunning, restated": (lambda: restated_start("zllrunning"), "zllrunning"),
    "mmseg": (lambda: fresh("mmseg-r18"), "mmseg"),
    "torchseg R18": (lambda: fresh("torchseg-r18"), "torchseg"),
    "torchseg R18.speed": (lambda: fresh("torchseg-r18-speed"), "torchseg_speed"),
    "torchseg X39": (lambda: fresh("torchseg-x39"), "torchseg_x39"),
    "coincheung": (lambda: fresh("coincheung"), "coincheung"),
    "zllrunning": (lambda: trainings.zllrunning(steps.CROP, steps.BATCH).module, "zllrunning"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", STARTS)
def test_start(case):
    """Compare mean, deviation and kind of distribution of every convolution, and every BatchNorm.

    ResNets are skipped: published trainings read their weights from a file. Biases of the authors' heads and of
    MMSegmentation's auxiliary heads have PyTorch's default there, below 1 / sqrt(fan_in), and are 0 here.
    """
    make, variant = STARTS[case]
    torch.manual_seed(1)
    paddle.seed(1)
    theirs = steps.our_tensors(steps.numbers(make()))
    backbone = manager.BACKBONES["Xception39" if variant == "torchseg_x39" else "ResNet18_v1b"]()
    ours = {k: v.numpy() for k, v in BiSeNetV1(CLASSES, backbone, variant=variant).state_dict().items()}
    assert set(ours) == set(theirs)
    compared = 0
    for name, actual in ours.items():
        expected = theirs[name]
        if name.startswith("backbone.") and variant != "torchseg_x39":
            continue
        if actual.ndim == 1:
            if name in UNTOUCHED.get(variant, []):
                hidden = ours[name.replace("bias", "weight")].shape[1]
                assert (actual == 0).all() and 0 < abs(expected).max() <= hidden**-0.5
            else:
                np.testing.assert_array_equal(actual, expected, err_msg=name)
            continue
        error = 5 / actual.size**0.5
        assert actual.std() / expected.std() == pytest.approx(1, abs=error), name
        assert abs(actual.mean()) < error * actual.std() and abs(expected.mean()) < error * expected.std(), name
        if actual.size > 500:  # a uniform distribution ends at sqrt(3) deviations
            ends = [abs(values).max() / values.std() for values in (actual, expected)]
            assert max(ends) < 1.9 or min(ends) > 2.2, name
            compared += 1
    assert compared > 10
