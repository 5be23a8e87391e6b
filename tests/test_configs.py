"""Every configuration builds; the recipes are what their sources say."""

import math
import re

import paddle
import pytest
import yaml
from paddleseg.cvlibs import Config, SegBuilder

from bisenetv1_plugin import zoo
from bisenetv1_plugin.errors import InputError

NAMES = sorted(path.stem for path in zoo.folder().glob("*.yml"))


def config(name):
    return Config(str(zoo.path_of(name)))


def without_download(cfg):
    cfg.dic["model"]["backbone"].pop("pretrained", None)
    return SegBuilder(cfg)


def beyond_the_backbone(parameter):
    return not parameter.startswith("backbone.")


def ffm_and_heads(parameter):
    return parameter.startswith(("ffm.", "heads."))


# Configuration -> the parameters with ten times the learning rate
TENFOLD = {
    "bisenetv1_cityscapes_1024x1024_80k": beyond_the_backbone,
    "bisenetv1_r101_cityscapes_1024x1024_80k": beyond_the_backbone,  # whose stem is deep
    "bisenetv1_x39_cityscapes_1024x1024_140k": ffm_and_heads,
    "bisenetv1_zllrunning_faces_448x448_80k": ffm_and_heads,
}
LARGE = ("bisenetv1_mmseg_r50_cityscapes_1024x1024_160k", "bisenetv1_mmseg_r101_coco_stuff_512x512_160k")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.very_slow] * (name in LARGE)) for name in NAMES]
)
@pytest.mark.slow
def test_builds(name):
    assert {*TENFOLD, *LARGE} <= set(NAMES)
    build = without_download(config(name))
    if name in TENFOLD:
        check_groups(build, TENFOLD[name])
    classes = build.config.model_cfg["num_classes"]
    outputs = build.model(paddle.zeros([2, 3, 64, 64]))
    assert len(outputs) == len(build.loss["types"]) == len(build.loss["coef"]) == 3
    label = paddle.randint(0, classes, [2, 64, 64])
    total = sum(loss(out, label) for loss, out in zip(build.loss["types"], outputs))
    total.backward()
    build.optimizer.step()
    assert paddle.isfinite(total).all() and build.val_transforms


def check_groups(build, tenfold):
    """Some x10, the rest x1; no weight decay on BatchNorms and biases. Checks every parameter."""
    group_of = {p.name: group for group in build.optimizer._param_groups for p in group["params"]}
    norms = {
        id(parameter)
        for layer in build.model.sublayers()
        if isinstance(layer, paddle.nn.BatchNorm2D)
        for parameter in layer.parameters()
    }
    seen = set()
    for parameter_name, parameter in build.model.named_parameters():
        if parameter.stop_gradient:
            continue
        rate = 10.0 if tenfold(parameter_name) else 1.0
        decayed = id(parameter) not in norms and not parameter_name.endswith(".bias")
        assert parameter.optimize_attr["learning_rate"] == pytest.approx(rate), parameter_name
        decay = group_of[parameter.name]["regularization_coeff"]  # what the step of Momentum applies
        assert decay == pytest.approx(0.0005 if decayed else 0.0), parameter_name
        seen.add((rate, decayed))
    assert seen == {(1.0, True), (1.0, False), (10.0, True), (10.0, False)}


def test_the_75_19_recipe():
    """As the log of the published run has it."""
    dic = config("bisenetv1_cityscapes_1024x512_160k").dic
    assert (dic["batch_size"], dic["iters"]) == (4, 160000)
    assert dic["optimizer"] == {"type": "SGD", "momentum": 0.9, "weight_decay": 0.0005}
    assert dic["lr_scheduler"] == {"type": "PolynomialDecay", "learning_rate": 0.01, "end_lr": 0.0, "power": 0.9}
    assert [loss["min_kept"] for loss in dic["loss"]["types"]] == [10000] * 3 and dic["loss"]["coef"] == [1, 1, 1]
    assert dic["model"]["variant"] == "paddleseg"
    assert dic["model"]["backbone"] == {"type": "ResNet18_vd", "output_stride": 8, "in_channels": 3}
    scaling, crop, _, distort, normalize = dic["train_dataset"]["transforms"]
    assert (scaling["min_scale_factor"], scaling["max_scale_factor"], scaling["scale_step_size"]) == (0.5, 2.0, 0.25)
    assert crop["crop_size"] == [1024, 512] and normalize == {"type": "Normalize"}
    assert {distort[f"{kind}_range"] for kind in ("brightness", "contrast", "saturation")} == {0.4}
    assert dic["val_dataset"]["transforms"] == [{"type": "Normalize"}]


def test_generated_scenes_in_place_of_a_data_set(tmp_path):
    """`type: SyntheticStreetScenes` fits a Cityscapes configuration; PaddleSeg checks classes and ignore_index."""
    changes = {
        "_base_": str(zoo.path_of("bisenetv1_cityscapes_1024x512_160k")),
        "train_dataset": {"_inherited_": False, "type": "SyntheticStreetScenes", "mode": "train", "size": [128, 64]},
        "val_dataset": {"_inherited_": False, "type": "SyntheticStreetScenes", "mode": "val", "size": [128, 64]},
    }
    for part in ("train_dataset", "val_dataset"):
        changes[part]["transforms"] = [{"type": "Normalize"}]
    (tmp_path / "config.yml").write_text(yaml.safe_dump(changes))
    build = SegBuilder(Config(str(tmp_path / "config.yml")))
    sample = build.train_dataset[0]
    outputs = build.model(paddle.to_tensor(sample["img"][None].repeat(2, axis=0)))
    label = paddle.to_tensor(sample["label"][None].astype("int64").repeat(2, axis=0))
    assert all(paddle.isfinite(loss(out, label)) for loss, out in zip(build.loss["types"], outputs))
    assert (len(build.train_dataset), len(build.val_dataset)) == (200, 40)


def test_first_lines_are_summaries():
    for name in NAMES:
        first = zoo.path_of(name).read_text(encoding="utf-8").splitlines()[0]
        assert re.fullmatch(r"# .{20,110}\.", first), f"{name}: `bisenetv1 configs` shows this line: {first}"


def test_copy_includes_the_bases(tmp_path):
    path = zoo.copy("bisenetv1_cityscapes_1024x1024_80k", tmp_path / "mine")
    assert Config(str(path)).dic == config("bisenetv1_cityscapes_1024x1024_80k").dic
    copied = {str(p.relative_to(tmp_path / "mine")) for p in (tmp_path / "mine").rglob("*.yml")}
    assert copied == {
        "bisenetv1_cityscapes_1024x1024_80k.yml",
        "_base_/cityscapes.yml",
        "_base_/authors_optimizer.yml",
    }
    path.write_text(yaml.safe_dump({"iters": 1}))
    with pytest.raises(InputError, match="exists, and no earlier run of this command made it"):
        zoo.copy("bisenetv1_cityscapes_1024x1024_80k", tmp_path / "mine")
    with pytest.raises(InputError, match="there is no configuration absent; choose one of bisenetv1_"):
        zoo.copy("absent", tmp_path)


def test_stride_of_the_authors_window():
    """TorchSeg: eval_crop_size 1024, eval_stride_rate 5 / 6, and its evaluator takes `int(np.ceil(crop * rate))`."""
    for name in NAMES:
        window = config(name).dic.get("test_config", {})
        assert not window.get("is_slide") or window == {
            "is_slide": True,
            "crop_size": [1024, 1024],
            "stride": [math.ceil(1024 * 5 / 6)] * 2,
        }, name
    assert config("bisenetv1_r101_cityscapes_1024x1024_80k").dic["test_config"]["is_slide"]


# MMSegmentation, configs/bisenetv1: learning rate, classes, crop (and its _base_: the rest below)
MMSEG = {
    "bisenetv1_mmseg_r18_cityscapes_1024x1024_160k": (0.025, 19, 1024),
    "bisenetv1_mmseg_r50_cityscapes_1024x1024_160k": (0.05, 19, 1024),
    "bisenetv1_mmseg_r101_coco_stuff_512x512_160k": (0.005, 171, 512),
}


@pytest.mark.parametrize("name", MMSEG)
def test_the_recipes_of_mmsegmentation(name):
    """Number by number: configs/_base_/{models/bisenetv1_r18-d32,datasets/*,schedules/schedule_160k}.py."""
    rate, classes, crop = MMSEG[name]
    dic = config(name).dic
    assert (dic["batch_size"], dic["iters"], dic["model"]["num_classes"]) == (4, 160000, classes)
    assert dic["optimizer"] == {"type": "SGD", "momentum": 0.9, "weight_decay": 5e-4}  # of every parameter
    schedule = {"learning_rate": rate, "end_lr": 1e-4, "power": 0.9, "warmup_iters": 999}
    assert dic["lr_scheduler"] == {
        "type": "PolynomialDecay",
        **schedule,
        "warmup_start_lr": pytest.approx(rate / 10),  # LinearLR's start_factor
    }
    plain = {"type": "BiSeNetV1Loss", "thresh": 1.0, "average_over": "all", "ignore_index": 255}
    assert dic["loss"] == {"types": [plain] * 3, "coef": [1, 1, 1]} and not dic.get("test_config")
    normalize = {"type": "Normalize", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert [round(255 * value, 3) for value in normalize["mean"] + normalize["std"]] == [
        *(123.675, 116.28, 103.53),
        *(58.395, 57.12, 57.375),
    ]
    resize = [{"type": "ResizeByShort", "short_size": 512}] if crop == 512 else []  # Cityscapes has 2048x1024 already
    assert dic["val_dataset"]["transforms"] == [*resize, normalize]
    scaling = {"min_scale_factor": 0.5, "max_scale_factor": 2.0, "scale_step_size": 0}
    assert dic["train_dataset"]["transforms"] == [
        *resize,
        {"type": "ResizeStepScaling", **scaling},
        {"type": "MMSegRandomCrop", "crop_size": [crop, crop], "category_max_ratio": 0.75},
        {"type": "RandomHorizontalFlip"},  # PaddleSeg's default is a half
        {"type": "MMSegPhotoMetricDistortion"},
        normalize,
        {"type": "Padding", "target_size": [crop, crop], "im_padding_value": 0},  # and 255 for labels by default
    ]
