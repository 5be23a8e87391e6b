"""What the recipes do to images in training, against what the published trainings do: a thousand draws of each.

Each original is stated here in own words: as a draw of the numbers that can be read from one of its samples. Where its
code is at hand (mmsegmentation from PyPI; TORCHSEG_DIR, COINCHEUNG_DIR, ZLLRUNNING_DIR, PADDLESEG_DIR), the same
numbers are read from samples of that code as well.

All of it happens on small images: a recipe's sizes are divided, by 16 mostly.
"""

import colorsys
import copy
import functools
import importlib.util
import os
import random
import sys
import types
from pathlib import Path

import cv2
import numpy as np
import pytest
from paddle.io.dataloader.collate import default_collate_fn
from paddleseg.cvlibs import Config, manager
from paddleseg.transforms import Compose

from bisenetv1_plugin import zoo

DRAWS = 1000
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
COLORS = np.array([[200, 150, 90], [30, 20, 70]])  # of the two kinds of squares, RGB
PADDING = 255  # of maps

pytestmark = pytest.mark.slow


# The image that is drawn from, and what can be read from a sample of it


class Probe:
    """A checkered image, and a map with the original position of every pixel, as inputs of a training's transforms."""

    def __init__(self, width, height):
        rows, columns = np.mgrid[:height, :width]
        self.width = width
        self.label = ((rows // 16 + columns // 16) % 2).astype("uint8")
        self.image = COLORS[self.label].astype("uint8")
        self.where = (1000 + rows * width + columns).astype("float32")

    def sample(self):
        """The image as PaddleSeg's dataset reads it, in BGR."""
        image = self.image[..., ::-1].astype("float32")
        return {"img": image, "label": self.label, "where": self.where, "gt_fields": ["label", "where"]}

    def read(self, image, where, mean, std):
        """The measurements of a sample. `image` is `[3, H, W]`, normalized."""
        image = np.round((np.asarray(image).transpose(1, 2, 0) * std + mean) * 255)
        row, column = np.divmod(np.asarray(where).astype(int) - 1000, self.width)
        inside = where != PADDING
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        first, last = column[rows[0], columns[0]], column[rows[0], columns[-1]]
        numbers = {
            "scale": _steps((len(columns) - 1) / abs(last - first)),
            "mirrored": last < first,
            "left": min(first, last),
            "top": row[rows[0], columns[0]],
            # TorchSeg's crop may lie one pixel beyond the image, and CoinCheung's padding is one pixel unequal.
            "rows padded": _from_two(where.shape[0] - len(rows)),
            "columns padded": _from_two(where.shape[1] - len(columns)),
            "padded above": _from_two(rows[0]),
            "padded at the left": _from_two(columns[0]),
        }
        numbers["padding"] = np.median(image[~inside]) if _is_padded(numbers) else -1
        for kind in (0, 1):
            of_this_kind = inside.copy()
            of_this_kind[inside] = self.label[row[inside], column[inside]] == kind
            numbers.update(_colors(kind, np.median(image[of_this_kind], axis=0)))
        return numbers


def _steps(scale):
    return round(8 * scale) / 8  # as exact as a few pixels allow


def _from_two(pixels):
    return pixels if pixels > 1 else 0


def _is_padded(numbers):
    return numbers["rows padded"] > 0 or numbers["columns padded"] > 0


def _colors(kind, rgb):
    hue = round(36 * colorsys.rgb_to_hsv(*map(float, rgb))[0])  # in steps of 10 degrees: the rest is rounding
    return {f"hue {kind}": hue, **{f"{channel} {kind}": value for channel, value in zip("RGB", rgb)}}


def apart(some, others):
    """The measurements with different distributions, and their Kolmogorov-Smirnov distances."""
    limit = 2 * np.sqrt(1 / len(some) + 1 / len(others))  # chance passes it once in 1500
    distances = {}
    for name in some[0]:
        one, other = (np.sort([float(numbers[name]) for numbers in sample]) for sample in (some, others))
        values = np.concatenate([one, other])
        shares = (np.searchsorted(sample, values, side="right") / len(sample) for sample in (one, other))
        distances[name] = round(float(abs(np.subtract(*shares)).max()), 3)
    return {name: distance for name, distance in distances.items() if distance > limit}


# Reimplementations of the originals


def _side(rng, size, crop):
    """A random crop of one side: its start, and the length of the padding."""
    return (rng.integers(size - crop + 1), 0) if size > crop else (0, crop - size)


def _geometry(rng, size, crop, scale, ahead, mirrored_first=False):
    """Both sides, where `ahead` of the padding is at the left and above."""
    (left, columns), (top, rows) = (_side(rng, round(s * scale), c) for s, c in zip(size, crop))
    mirrored = rng.random() < 0.5
    left = int(left / scale)
    if mirrored and mirrored_first:  # seen from the other side
        left = size[0] - 1 - int((left * scale + crop[0] - columns - 1) / scale)
    return {
        "scale": _steps(scale),
        "mirrored": mirrored,
        "left": left,
        "top": int(top / scale),
        "rows padded": _from_two(rows),
        "columns padded": _from_two(columns),
        "padded above": _from_two(int(rows * ahead)),
        "padded at the left": _from_two(int(columns * ahead)),
    }


def _whole(values):
    return np.floor(np.clip(values, 0, 255))


def torchseg(rng, size, crop, scales):
    """TorchSeg, furnace/utils/img_utils.py and model/bisenet/*/dataloader.py: mirrored half of the times, one of a list
    of scales, then normalized, cropped anywhere, padded on all sides with 0, the mean color. No change of color."""
    numbers = _geometry(rng, size, crop, rng.choice(scales), ahead=0.5, mirrored_first=True)
    numbers["padding"] = np.round(np.median(IMAGENET[0]) * 255) if _is_padded(numbers) else -1
    return {**numbers, **_colors(0, COLORS[0]), **_colors(1, COLORS[1])}


def coincheung(rng, size, crop, scales):
    """CoinCheung/BiSeNet, lib/data/transform_cv2.py: any scale between two, padded on all sides with black, cropped,
    mirrored half of the times; then always brightness, contrast around 74, saturation around the channels' mean."""
    numbers = _geometry(rng, size, crop, rng.uniform(*scales), ahead=0.5)
    brightness, contrast, saturation = rng.uniform(0.6, 1.4, 3)

    def changed(color):
        stretched = _whole(74 + (_whole(color * brightness) - 74) * contrast)
        return _whole(stretched * saturation + stretched.mean() * (1 - saturation))

    numbers["padding"] = changed(np.zeros(3))[0] if _is_padded(numbers) else -1
    return {**numbers, **_colors(0, changed(COLORS[0])), **_colors(1, changed(COLORS[1]))}


def mmseg(rng, size, crop, scales, short=None):
    """MMSegmentation: any scale between two (of the size at which the shorter side is `short`), cropped, mirrored half
    of the times; brightness, contrast, saturation, hue half of the times each; normalized; padded at the right and
    below with 0, the mean color."""
    base = short / min(size) if short else 1
    numbers = _geometry(rng, size, crop, base * rng.uniform(*scales), ahead=0)
    numbers["padding"] = np.round(np.median(IMAGENET[0]) * 255) if _is_padded(numbers) else -1
    pixels = COLORS[None].astype("uint8")

    def sometimes(change):
        return change if rng.random() < 0.5 else lambda pixels: pixels

    def of_hsv(change):
        return lambda pixels: cv2.cvtColor(
            change(cv2.cvtColor(pixels, cv2.COLOR_RGB2HSV).astype(float)).astype("uint8"), cv2.COLOR_HSV2RGB
        )

    added, factor, purer, turned = rng.uniform(-32, 32), *rng.uniform(0.5, 1.5, 2), rng.integers(-18, 18)
    contrast = sometimes(lambda pixels: _whole(pixels * factor).astype("uint8"))
    changes = [
        sometimes(of_hsv(lambda hsv: _whole(hsv * [1, purer, 1]))),
        sometimes(of_hsv(lambda hsv: np.concatenate([(hsv[..., :1] + turned) % 180, hsv[..., 1:]], axis=2))),
    ]
    changes.insert(rng.choice([0, 2]), contrast)
    for change in [sometimes(lambda pixels: _whole(pixels + added).astype("uint8")), *changes]:
        pixels = change(pixels)
    return {**numbers, **_colors(0, pixels[0, 0]), **_colors(1, pixels[0, 1])}


def zllrunning(rng, size, crop, scales):
    """face-parsing.PyTorch, transform.py: always Pillow's brightness, contrast around the mean gray of the whole image,
    saturation around each pixel's gray; mirrored half of the times; one of a list of scales; what is smaller than the
    crop is enlarged to one pixel more than it; cropped. Never padded."""
    scale = rng.choice(scales)
    enlarged = crop[0] / (size[0] * scale)
    scale = (crop[0] + 1) / size[0] if enlarged > 1 else scale
    numbers = _geometry(rng, size, crop, scale, ahead=0, mirrored_first=True)
    brightness, contrast, saturation = rng.uniform(0.5, 1.5, 3)
    pixels = _whole(COLORS * brightness)
    gray = np.round((pixels @ [0.299, 0.587, 0.114]).mean())
    pixels = _whole(gray + (pixels - gray) * contrast)
    grays = np.round(pixels @ [[0.299], [0.587], [0.114]])
    pixels = _whole(grays + (pixels - grays) * saturation)
    return {**numbers, "padding": -1, **_colors(0, pixels[0]), **_colors(1, pixels[1])}


STEPS = [0.75, 1, 1.25, 1.5, 1.75, 2]
# configuration -> (the original, image at its original size, divided by, the crop, more)
RECIPES = {
    "bisenetv1_cityscapes_1024x1024_80k": (torchseg, (2048, 1024), 16, (1024, 1024), STEPS),
    "bisenetv1_r101_cityscapes_1024x1024_80k": (torchseg, (2048, 1024), 16, (1024, 1024), STEPS),
    "bisenetv1_x39_cityscapes_1024x1024_140k": (torchseg, (2048, 1024), 16, (1024, 1024), STEPS),
    "bisenetv1_r18_speed_cityscapes_1536x768_80k": (torchseg, (2048, 1024), 16, (1536, 768), STEPS),
    "bisenetv1_x39_speed_cityscapes_1536x768_140k": (torchseg, (2048, 1024), 16, (1536, 768), [0.5, *STEPS[:-1]]),
    "bisenetv1_camvid_960x720_10k": (torchseg, (960, 720), 12, (960, 720), STEPS),
    "bisenetv1_coincheung_cityscapes_1024x1024_80k": (coincheung, (2048, 1024), 16, (1024, 1024), [0.75, 2]),
    "bisenetv1_coincheung_coco_stuff_512x512_90k": (coincheung, (640, 480), 8, (512, 512), [0.5, 2]),
    "bisenetv1_coincheung_ade20k_512x512_40k": (coincheung, (640, 480), 8, (512, 512), [0.5, 2]),
    "bisenetv1_mmseg_r18_cityscapes_1024x1024_160k": (mmseg, (2048, 1024), 16, (1024, 1024), [0.5, 2]),
    "bisenetv1_mmseg_r50_cityscapes_1024x1024_160k": (mmseg, (2048, 1024), 16, (1024, 1024), [0.5, 2]),
    "bisenetv1_mmseg_r101_coco_stuff_512x512_160k": (mmseg, (960, 1280), 8, (512, 512), [0.5, 2], 512),
    "bisenetv1_zllrunning_faces_448x448_80k": (zllrunning, (512, 512), 8, (448, 448), STEPS),
}
OTHERS = {
    "bisenetv1_cityscapes_1024x512_160k",  # PaddleSeg's own transforms: below
    "bisenetv1_camvid_480x360",  # no original
    "bisenetv1_demo_256x128",
}


def with_marks(names, *very_slow):
    """The names, some of them very slow: those whose transforms another recipe has, or almost."""
    return [
        pytest.param(name, marks=[pytest.mark.very_slow] * any(part in name for part in very_slow)) for name in names
    ]


def test_every_recipe_is_compared():
    assert {path.stem for path in zoo.paths()} == {*RECIPES, *OTHERS}


@functools.lru_cache(None)
def stated(name):
    original, size, divisor, crop, *more = RECIPES[name]
    more = [value // divisor if isinstance(value, int) else value for value in more]
    rng = np.random.default_rng(1)
    size, crop = ([side // divisor for side in sides] for sides in (size, crop))
    return [original(rng, size, crop, *more) for _ in range(5 * DRAWS)]


def small(transforms, divisor):
    """The transforms of a configuration, with all sizes divided."""
    transforms = copy.deepcopy(transforms)
    for transform in transforms:
        for key in ("crop_size", "target_size"):
            if key in transform:
                transform[key] = [side // divisor for side in transform[key]]
        if "short_size" in transform:
            transform["short_size"] //= divisor
        if "min_long" in transform:  # one more than the crop
            transform["min_long"] = (transform["min_long"] - 1) // divisor + 1
    return transforms


def composed(transforms):
    built = []
    for transform in transforms:
        arguments = dict(transform)
        built.append(manager.TRANSFORMS[arguments.pop("type")](**arguments))
    return Compose(built)


def drawn(name, draws=DRAWS, change=None):
    """Measurements of samples of a configuration in PaddleSeg's dataset. `change` may modify the transforms."""
    _, size, divisor, *_ = RECIPES[name]
    probe = Probe(*(side // divisor for side in size))
    transforms = small(Config(str(zoo.path_of(name))).dic["train_dataset"]["transforms"], divisor)
    if change:
        change(transforms)
    normalize = next(transform for transform in transforms if transform["type"] == "Normalize")
    compose = composed(transforms)
    np.random.seed(0)
    random.seed(0)
    samples = []
    for _ in range(draws):
        data = compose(probe.sample())
        assert data["label"].shape == data["where"].shape == data["img"].shape[1:]
        assert ((data["label"] == PADDING) == (data["where"] == PADDING)).all()
        samples.append(probe.read(data["img"], data["where"], normalize["mean"], normalize["std"]))
    return samples


@pytest.fixture(scope="module")
def samples():
    cache = {}

    def of(name):  # several recipes have the same transforms
        key = str([RECIPES[name], Config(str(zoo.path_of(name))).dic["train_dataset"]["transforms"]])
        if key not in cache:
            cache[key] = drawn(name)
        return cache[key]

    return of


@pytest.mark.parametrize("name", RECIPES)
def test_full_size_samples_make_a_batch(name):
    """With the real sizes, the loader can batch samples of two images of different sizes."""
    compose = composed(Config(str(zoo.path_of(name))).dic["train_dataset"]["transforms"])
    batch = default_collate_fn([compose(Probe(*size).sample()) for size in ((640, 480), (900, 1300))])
    width, height = RECIPES[name][3]
    assert batch["img"].shape == (2, 3, height, width) and batch["label"].shape == (2, height, width)
    assert batch["img"].dtype == "float32" and batch["label"].dtype == "uint8"


@pytest.mark.parametrize("name", with_marks(RECIPES, "r18_speed", "coincheung_ade20k"))
def test_equals_the_reimplemented_original(samples, name):
    assert apart(samples(name), stated(name)) == {}


# The code of the originals


def _file(path, **stand_ins):
    """Import a module of a checkout. `stand_ins` replace imports that are not needed."""
    before = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        spec = importlib.util.spec_from_file_location("original", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        for name, module in before.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})


def _checkout(variable):
    if not os.environ.get(variable):
        pytest.skip(f"{variable} names no checkout")
    return Path(os.environ[variable])


def _torchseg(name, size, crop, scales):
    folder = _checkout("TORCHSEG_DIR")
    pytest.importorskip("torch")
    import collections
    import collections.abc

    kind = {(1024, 1024): "R18", (1536, 768): "R18.speed"}[RECIPES[name][3]]
    if "x39_speed" in name:
        kind = "X39.speed"
    settings = types.SimpleNamespace(
        train_scale_array=scales, image_height=crop[1], image_width=crop[0], gt_down_sampling=1
    )
    config = types.ModuleType("config")
    config.config = settings
    utils, img_utils = types.ModuleType("utils"), _file(folder / "furnace/utils/img_utils.py")
    # Python 3.10 dropped this name
    img_utils.collections = types.SimpleNamespace(Iterable=collections.abc.Iterable)
    stand_ins = {"config": config, "utils": utils, "utils.img_utils": img_utils}
    prepare = _file(folder / f"model/bisenet/cityscapes.bisenet.{kind}/dataloader.py", **stand_ins).TrainPre(*IMAGENET)

    def sample(probe):
        image, where, _ = prepare(probe.image, probe.where)
        return image, where, *IMAGENET

    return sample


def _coincheung(name, size, crop, scales):
    folder = _checkout("COINCHEUNG_DIR")
    pytest.importorskip("torch")
    transforms = _file(folder / "lib/data/transform_cv2.py")
    prepare = transforms.TransformationTrain(scales, (crop[1], crop[0]))
    to_tensor = transforms.ToTensor([0, 0, 0], [1, 1, 1])

    def sample(probe):
        drawn = to_tensor(prepare({"im": probe.image.copy(), "lb": probe.where.copy()}))
        return drawn["im"].numpy(), drawn["lb"].numpy(), [0, 0, 0], [1, 1, 1]

    return sample


def _zllrunning(name, size, crop, scales):
    from PIL import Image

    transforms = _file(_checkout("ZLLRUNNING_DIR") / "transform.py")
    prepare = transforms.Compose(
        [
            transforms.ColorJitter(brightness=0.5, contrast=0.5, saturation=0.5),
            transforms.HorizontalFlip(),
            transforms.RandomScale(scales),
            transforms.RandomCrop(crop),
        ]
    )

    def sample(probe):
        drawn = prepare({"im": Image.fromarray(probe.image), "lb": Image.fromarray(probe.where)})
        image = np.asarray(drawn["im"]).transpose(2, 0, 1) / 255
        return image, np.asarray(drawn["lb"]), [0, 0, 0], [1, 1, 1]

    return sample


def _mmseg_package():
    for package in ("torch", "mmcv", "mmengine", "mmseg"):
        pytest.importorskip(package)
    import torch

    # mmcv-lite lacks the compiled operators, which MMSegmentation imports for other networks.
    operators = types.ModuleType("mmcv.ops")
    for name in ("point_sample", "sigmoid_focal_loss", "CrissCrossAttention", "PSAMask"):
        setattr(operators, name, torch.nn.Module)
    sys.modules.setdefault("mmcv.ops", operators)
    return Path(importlib.util.find_spec("mmseg").origin).parent


def _mmseg(name, size, crop, scales, short=None):
    """The published configuration from the package, with its sizes divided."""
    folder = _mmseg_package()
    import mmseg.datasets  # noqa: F401 - registers the transforms
    import torch
    from mmengine.config import Config as TheirConfig
    from mmengine.structures import PixelData
    from mmseg.models import SegDataPreProcessor
    from mmseg.registry import TRANSFORMS
    from mmseg.structures import SegDataSample

    published = {
        "bisenetv1_mmseg_r18_cityscapes_1024x1024_160k": "r18-d32-in1k-pre_4xb4-160k_cityscapes-1024x1024",
        "bisenetv1_mmseg_r50_cityscapes_1024x1024_160k": "r50-d32-in1k-pre_4xb4-160k_cityscapes-1024x1024",
        "bisenetv1_mmseg_r101_coco_stuff_512x512_160k": "r101-d32-in1k-pre_4xb4-160k_coco-stuff164k-512x512",
    }[name]
    cfg = TheirConfig.fromfile(str(folder / f".mim/configs/bisenetv1/bisenetv1_{published}.py"))
    divisor = RECIPES[name][2]
    steps = []
    for step in map(dict, cfg.train_dataloader.dataset.pipeline):
        for key in {"scale", "crop_size"} & step.keys():
            step[key] = tuple(side // divisor for side in step[key])
        if step["type"] not in ("LoadImageFromFile", "LoadAnnotations", "PackSegInputs"):
            steps.append(TRANSFORMS.build(step))
    preprocessor = dict(cfg.model.data_preprocessor, size=crop[::-1])
    assert preprocessor.pop("type") == "SegDataPreProcessor"
    finish = SegDataPreProcessor(**preprocessor)
    mean, std = ([value / 255 for value in preprocessor[key]] for key in ("mean", "std"))

    def sample(probe):
        results = {"img": probe.image[..., ::-1].copy(), "gt_seg_map": probe.where, "seg_fields": ["gt_seg_map"]}
        for step in steps:
            results = step(results)
        label = SegDataSample()
        label.gt_sem_seg = PixelData(data=torch.from_numpy(results["gt_seg_map"].copy())[None])
        image = torch.from_numpy(results["img"].transpose(2, 0, 1).copy())
        batch = finish({"inputs": [image], "data_samples": [label]}, training=True)
        return batch["inputs"][0].numpy(), batch["data_samples"][0].gt_sem_seg.data[0].numpy(), mean, std

    return sample


CODE = {torchseg: _torchseg, coincheung: _coincheung, mmseg: _mmseg, zllrunning: _zllrunning}
WITH_CODE = [name for name in RECIPES if name not in ("bisenetv1_camvid_960x720_10k",)]


@pytest.mark.parametrize("name", with_marks(WITH_CODE, "mmseg_r50"))
def test_equals_the_originals_code(samples, name):
    original, size, divisor, crop, *more = RECIPES[name]
    more = [value // divisor if isinstance(value, int) else value for value in more]
    size, crop = ([side // divisor for side in sides] for sides in (size, crop))
    sample = CODE[original](name, size, crop, *more)
    probe = Probe(*size)
    random.seed(2)
    np.random.seed(2)
    theirs = [probe.read(*sample(probe)) for _ in range(DRAWS)]
    assert apart(samples(name), theirs) == {}


def test_equals_paddlesegs_recipe():
    """For the 75.19 mIoU network: the same transforms as in PaddleSeg's configuration, in the same order."""
    ours = Config(str(zoo.path_of("bisenetv1_cityscapes_1024x512_160k"))).dic
    assert [transform["type"] for transform in ours["train_dataset"]["transforms"]] == [
        *("ResizeStepScaling", "RandomPaddingCrop", "RandomHorizontalFlip", "RandomDistort", "Normalize")
    ]
    folder = _checkout("PADDLESEG_DIR") / "configs/bisenetv1"
    theirs = Config(str(folder / "bisenetv1_resnet18_os8_cityscapes_1024x512_160k.yml")).dic
    assert ours["train_dataset"]["transforms"] == theirs["train_dataset"]["transforms"]


# Errors that these comparisons detect


def _without(kind):
    return lambda transforms: transforms.remove(next(t for t in transforms if t["type"] == kind))


def _first(kind):
    return lambda transforms: transforms.insert(0, transforms.pop([t["type"] for t in transforms].index(kind)))


def _last(kind):
    return lambda transforms: transforms.append(transforms.pop([t["type"] for t in transforms].index(kind)))


def _with(kind, **values):
    return lambda transforms: next(t for t in transforms if t["type"] == kind).update(values)


def _distort(transforms):
    """An earlier error: PaddleSeg's transform, with a change of hue that the original lacks."""
    kinds = [t["type"] for t in transforms]
    transforms[kinds.index("CoinCheungColorJitter")] = {"type": "RandomDistort", "brightness_range": 0.4}


@pytest.mark.parametrize(
    "name, change, noticed",
    [
        ("cityscapes_1024x1024_80k", _with("ResizeStepScaling", max_scale_factor=1.75), "scale"),
        ("cityscapes_1024x1024_80k", _with("ResizeStepScaling", scale_step_size=0), "scale"),
        ("cityscapes_1024x1024_80k", _without("RandomHorizontalFlip"), "mirrored"),
        ("cityscapes_1024x1024_80k", _without("CenterPadding"), "padded above"),
        ("cityscapes_1024x1024_80k", _last("Normalize"), "padding"),
        ("coincheung_cityscapes_1024x1024_80k", _without("CenterPadding"), "padding"),
        ("coincheung_coco_stuff_512x512_90k", _first("CoinCheungColorJitter"), "padding"),
        ("coincheung_cityscapes_1024x1024_80k", _distort, "R 0"),
        ("mmseg_r18_cityscapes_1024x1024_160k", _without("MMSegPhotoMetricDistortion"), "G 0"),
        ("mmseg_r101_coco_stuff_512x512_160k", _last("RandomHorizontalFlip"), "padded at the left"),
        ("mmseg_r101_coco_stuff_512x512_160k", _without("ResizeByShort"), "scale"),
        ("zllrunning_faces_448x448_80k", _without("LimitLong"), "rows padded"),
        ("zllrunning_faces_448x448_80k", _with("RandomDistort", brightness_prob=0.5), "R 0"),
        ("zllrunning_faces_448x448_80k", _with("RandomDistort", hue_prob=0.5), "hue 0"),
    ],
)
def test_errors_are_detected(name, change, noticed):
    name = f"bisenetv1_{name}"
    assert noticed in apart(drawn(name, draws=400, change=change), stated(name))


def test_wrong_order_of_colors_is_detected(monkeypatch):
    """CoinCheung's contrast before the brightness."""
    from bisenetv1_plugin.transforms import color

    name = "bisenetv1_coincheung_cityscapes_1024x1024_80k"

    class Swapped(color.CoinCheungColorJitter):
        def __call__(self, data):
            img = np.clip(74 + (data["img"] - 74) * np.random.uniform(0.6, 1.4), 0, 255)
            img = np.clip(img * np.random.uniform(0.6, 1.4), 0, 255)
            gray, factor = img.mean(axis=2, keepdims=True), np.random.uniform(0.6, 1.4)
            data["img"] = np.clip(img * factor + gray * (1 - factor), 0, 255).astype("float32")
            return data

    monkeypatch.setitem(manager.TRANSFORMS.components_dict, "CoinCheungColorJitter", Swapped)
    assert "R 1" in apart(drawn(name), stated(name))


# Crops without a dominant class


def _shares(crops):
    """The fraction of the most frequent class, in crops like MMSegmentation's."""
    return [{"share": np.bincount(label.ravel()).max() / label.size} for label in crops]


LABEL = np.zeros((40, 80), "uint8")
LABEL[:, 70:] = 1  # many crops of 24x24 have a single class
LABEL[30:, :] = 2


def _ours(ratio):
    crop = manager.TRANSFORMS["MMSegRandomCrop"](crop_size=[24, 24], category_max_ratio=ratio)
    np.random.seed(3)
    draws = ({"img": LABEL, "label": LABEL, "gt_fields": ["label"]} for _ in range(DRAWS))
    return _shares(crop(data)["label"] for data in draws)


def test_no_class_fills_a_crop():
    """Against a reimplementation of MMSegmentation's crop: at most eleven draws, of which the first ten are checked."""
    rng = np.random.default_rng(4)

    def draw():
        for attempt in range(11):
            top, left = rng.integers(17), rng.integers(57)
            crop = LABEL[top : top + 24, left : left + 24]
            if attempt == 10 or np.bincount(crop.ravel()).max() / crop.size < 0.75:
                return crop

    assert apart(_ours(0.75), _shares(draw() for _ in range(5 * DRAWS))) == {}
    assert apart(_ours(0.999), _shares(draw() for _ in range(5 * DRAWS))) != {}


def test_no_class_fills_a_crop_of_mmsegmentation():
    _mmseg_package()
    from mmseg.datasets.transforms import RandomCrop

    crop = RandomCrop(crop_size=(24, 24), cat_max_ratio=0.75)
    np.random.seed(5)
    draws = ({"img": LABEL, "gt_seg_map": LABEL, "seg_fields": ["gt_seg_map"]} for _ in range(DRAWS))
    assert apart(_ours(0.75), _shares(crop(results)["gt_seg_map"] for results in draws)) == {}
