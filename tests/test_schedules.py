"""The learning rate of each iteration, against the formulas of the published trainings and their code, if installed."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import paddle
import pytest
from paddleseg.cvlibs import Config, SegBuilder

from bisenetv1_plugin import zoo
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.training import builder


class WithoutTheNetwork(SegBuilder):
    model = paddle.nn.Linear(1, 1)


def optimizer_of(name):
    cfg = Config(str(zoo.path_of(name)))
    cfg.dic["optimizer"].pop("custom_cfg", None)  # its groups would be empty
    return WithoutTheNetwork(cfg).optimizer


def rates(name, iterations):
    """The learning rate of each iteration in PaddleSeg's loop, which steps the optimizer and then the schedule."""
    optimizer = optimizer_of(name)
    found = {}
    for iteration in range(1005):
        found[iteration] = optimizer.get_lr()
        optimizer._learning_rate.step()
    for iteration in iterations:
        optimizer._learning_rate.step(iteration)
        found[iteration] = optimizer.get_lr()
    return found


def poly(start, total, end=0.0, power=0.9):
    return lambda iteration: end + (start - end) * (1 - iteration / total) ** power


def warmed_up(first, start, main, steps=1000, exponential=True):
    def rate(iteration):
        if iteration >= steps:
            return main(iteration - steps)
        share = iteration / steps
        return first * (start / first) ** share if exponential else first + (start - first) * share

    return rate


def mmengine(start):
    """`LinearLR` with start_factor 0.1 over 1000 iterations, then `PolyLR` to 1e-4: each ends in its last iteration."""

    def rate(iteration):
        if iteration < 1000:
            return start * (0.1 + 0.9 * iteration / 999)
        return poly(start, 158999, end=1e-4)(iteration - 1000)

    return rate


def coincheung(start, total):
    return warmed_up(start / 10, start, poly(start, total - 1000))


RATES = {
    # TorchSeg, furnace/engine/lr_policy.py and train.py: no warm-up, iterations counted from 0 to epochs x 1000
    "bisenetv1_cityscapes_1024x1024_80k": poly(0.01, 80000),
    "bisenetv1_r101_cityscapes_1024x1024_80k": poly(0.01, 80000),
    "bisenetv1_x39_cityscapes_1024x1024_140k": poly(0.01, 140000),
    "bisenetv1_r18_speed_cityscapes_1536x768_80k": poly(0.01, 80000),
    "bisenetv1_x39_speed_cityscapes_1536x768_140k": poly(0.01, 140000),
    "bisenetv1_camvid_960x720_10k": poly(0.01, 10000),
    # PaddleSeg, configs/bisenetv1
    "bisenetv1_cityscapes_1024x512_160k": poly(0.01, 160000),
    # CoinCheung/BiSeNet, lib/lr_scheduler.py and tools/train_amp.py; poly counts from the end of the warm-up
    "bisenetv1_coincheung_cityscapes_1024x1024_80k": coincheung(0.01, 80000),
    "bisenetv1_coincheung_coco_stuff_512x512_90k": coincheung(0.01, 90000),
    "bisenetv1_coincheung_ade20k_512x512_40k": coincheung(0.04, 40000),
    # MMSegmentation, configs/bisenetv1
    "bisenetv1_mmseg_r18_cityscapes_1024x1024_160k": mmengine(0.025),
    "bisenetv1_mmseg_r50_cityscapes_1024x1024_160k": mmengine(0.05),
    "bisenetv1_mmseg_r101_coco_stuff_512x512_160k": mmengine(0.005),
    # face-parsing.PyTorch, optimizer.py
    "bisenetv1_zllrunning_faces_448x448_80k": warmed_up(1e-5, 0.01, poly(0.01, 79000)),
}
NO_ORIGINAL = {"bisenetv1_camvid_480x360", "bisenetv1_demo_256x128"}


def test_every_recipe_is_compared():
    assert {path.stem for path in zoo.paths()} == {*RATES, *NO_ORIGINAL}


def later(name):
    return np.linspace(1005, Config(str(zoo.path_of(name))).iters - 1, 500).astype(int).tolist()


def differences(found, original):
    """The largest difference over all iterations, as a fraction of the largest rate."""
    expected = {iteration: original(iteration) for iteration in found}
    return max(abs(found[i] - expected[i]) for i in found) / max(expected.values())


@pytest.mark.parametrize("name", RATES)
def test_equals_the_formula(name):
    assert differences(rates(name, later(name)), RATES[name]) < 3e-5  # MMSegmentation: a step earlier or later


def torch_rates(scheduler_of, start, iterations):
    """The rates of a PyTorch scheduler, stepped after each iteration."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=start)
    schedulers = scheduler_of(optimizer)
    found = {}
    for iteration in range(iterations):
        found[iteration] = optimizer.param_groups[0]["lr"]
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    return found


def same_as(found, name):
    ours = rates(name, [])
    return max(abs(ours[i] - found[i]) for i in found) < 3e-5 * max(found.values())


def source(variable, path):
    if not os.environ.get(variable):
        pytest.skip(f"{variable} names no checkout")
    spec = importlib.util.spec_from_file_location("original", Path(os.environ[variable]) / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, published",
    [
        ("bisenetv1_mmseg_r18_cityscapes_1024x1024_160k", "r18-d32-in1k-pre_4xb4-160k_cityscapes-1024x1024"),
        ("bisenetv1_mmseg_r50_cityscapes_1024x1024_160k", "r50-d32-in1k-pre_4xb4-160k_cityscapes-1024x1024"),
        ("bisenetv1_mmseg_r101_coco_stuff_512x512_160k", "r101-d32-in1k-pre_4xb4-160k_coco-stuff164k-512x512"),
    ],
)
def test_equals_mmsegmentations_code(name, published):
    pytest.importorskip("mmengine")
    spec = importlib.util.find_spec("mmseg") or pytest.skip("could not import 'mmseg'")
    import mmengine.optim
    from mmengine.config import Config as TheirConfig

    path = Path(spec.origin).parent / f".mim/configs/bisenetv1/bisenetv1_{published}.py"
    theirs = TheirConfig.fromfile(str(path))

    def schedulers(optimizer):
        return [
            getattr(mmengine.optim, kind.pop("type"))(optimizer, **kind) for kind in map(dict, theirs.param_scheduler)
        ]

    start = theirs.optim_wrapper.optimizer.lr
    assert same_as(torch_rates(schedulers, start, 1005), name)
    assert Config(str(zoo.path_of(name))).iters == theirs.train_cfg.max_iters


def test_equals_coincheungs_code():
    module = source("COINCHEUNG_DIR", "lib/lr_scheduler.py")

    def schedulers(optimizer):
        warmup = {"warmup_iter": 1000, "warmup_ratio": 0.1, "warmup": "exp"}
        return [module.WarmupPolyLrScheduler(optimizer, power=0.9, max_iter=80000, **warmup)]

    assert same_as(torch_rates(schedulers, 0.01, 1005), "bisenetv1_coincheung_cityscapes_1024x1024_80k")


def test_equals_the_authors_code():
    policy = source("TORCHSEG_DIR", "furnace/engine/lr_policy.py").PolyLR(0.01, 0.9, 80000)
    assert same_as({i: policy.get_lr(i) for i in range(1005)}, "bisenetv1_cityscapes_1024x1024_80k")


def test_equals_the_face_parsers_code():
    module = source("ZLLRUNNING_DIR", "optimizer.py")
    torch = pytest.importorskip("torch")

    class Network:
        def get_params(self):
            return [[torch.nn.Parameter(torch.zeros(1))] for _ in range(4)]

    settings = {"momentum": 0.9, "wd": 5e-4, "warmup_steps": 1000, "warmup_start_lr": 1e-5}
    optimizer = module.Optimizer(Network(), 1e-2, max_iter=80000, power=0.9, **settings)
    found = {}
    for iteration in range(1005):
        optimizer.step()  # sets the rate, then takes the step
        found[iteration] = optimizer.optim.param_groups[0]["lr"]
    assert same_as(found, "bisenetv1_zllrunning_faces_448x448_80k")


def test_warmup_resumes_after_a_stop():
    """The optimizer's state includes the state of the schedule, as PaddleSeg's `--resume_model` requires."""
    name = "bisenetv1_coincheung_cityscapes_1024x1024_80k"
    for stop in (300, 1500):
        optimizer, later = (optimizer_of(name) for _ in range(2))
        for _ in range(stop):
            optimizer._learning_rate.step()
        later.set_state_dict(optimizer.state_dict())
        for _ in range(10):
            assert later.get_lr() == optimizer.get_lr() == pytest.approx(RATES[name](later._learning_rate.last_epoch))
            optimizer._learning_rate.step()
            later._learning_rate.step()


@pytest.mark.parametrize("change", ["lr_scheduler.warmup_start_lr=0", "none"])
def test_impossible_warmup_is_refused(change):
    cfg = Config(str(zoo.path_of("bisenetv1_coincheung_cityscapes_1024x1024_80k")))
    if change == "none":
        del cfg.dic["lr_scheduler"]["warmup_iters"], cfg.dic["lr_scheduler"]["warmup_start_lr"]
    else:
        cfg.dic["lr_scheduler"]["warmup_start_lr"] = 0.0
    build = builder.Builder(cfg)
    build._builder = WithoutTheNetwork(cfg)
    with pytest.raises(InputError, match=r"give lr_scheduler warmup_iters and a\s+warmup_start_lr above 0"):
        build.optimizer  # noqa: B018
