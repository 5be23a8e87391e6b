"""What a TIPC chain needs before it runs: data, and weights for the mode without training."""

import os
import shutil
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

from bisenetv1_plugin.tipc.params import BENCHMARK, TipcError

FOLDER = Path("test_tipc/data/bisenetv1")
CONFIGS = Path("test_tipc/configs/bisenetv1")

# The standard's own data, as PaddleSeg's prepare.sh fetches them; the second for whole_train_whole_infer.
_URL = "https://paddleseg.bj.bcebos.com/tipc/data/cityscapes_20imgs.tar"
_WHOLE_URL = "https://paddleseg.bj.bcebos.com/dataset/cityscapes.tar"

_LITE_TRAIN, _LITE_VAL, _LITE_INFER = 40, 10, 5


def prepare(params, data=None, weights=None):
    """Write the lists `train.txt`, `val.txt` and `infer.txt`, and `data.yml`, the configurations' `_base_`.

    Args:
        params (Params): the TIPC file and mode.
        data (str, optional): folder with `train.txt` and `val.txt`, lists of `image label`. Default: the standard's
            download, or generated street scenes where it cannot be had.
        weights (str, optional): for `whole_infer`, a .pdparams file. Default: a short training makes some.

    Raises:
        TipcError: the data or the weights cannot be used.
    """
    source, what = (Path(data), f"the data you named, {data}") if data else _default_data(params.mode)
    train, val = (listed(source / name) for name in ("train.txt", "val.txt"))
    lite_train = params.mode.startswith("lite_train") or params.mode in ("whole_infer", BENCHMARK)
    lite_infer = params.mode.endswith("lite_infer")
    lists = {
        "train.txt": _spread(train, _LITE_TRAIN) if lite_train else train,
        "val.txt": _spread(val, _LITE_VAL) if lite_train else val,
        "infer.txt": _spread(val, _LITE_INFER) if lite_infer else val,
    }
    classes = _count_classes([label for name in ("train.txt", "val.txt", "infer.txt") for _, label in lists[name]])
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, pairs in lists.items():
        (FOLDER / name).write_text("".join(f"{image} {label}\n" for image, label in pairs), encoding="utf-8")
    (FOLDER / "data.yml").write_text(_base(classes), encoding="utf-8")
    print(f"Data: {what}; {classes} classes, " + ", ".join(f"{len(lists[name])} in {name}" for name in lists))
    _lay_configs(params.path.parent)
    if params.mode == "whole_infer":
        _lay_weights(params, weights)


def _default_data(mode):
    url = _WHOLE_URL if mode == "whole_train_whole_infer" else _URL
    folder = FOLDER.parent / Path(url).stem
    shutil.rmtree(folder, ignore_errors=True)
    try:
        with urllib.request.urlopen(url, timeout=20) as answer, tarfile.open(fileobj=answer, mode="r|*") as archive:
            if not hasattr(tarfile, "data_filter"):  # which lets nothing be written outside the folder
                raise OSError("this Python's tarfile has no filter: take the latest of its patch releases")
            archive.extractall(folder, filter="data")
        lists = sorted(folder.rglob("train.txt"))
        if not lists:
            raise OSError("there is no train.txt in it")
        return lists[0].parent, f"the standard's download, {url}"
    except (OSError, tarfile.TarError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        print(f"{url} cannot be had ({error}).", file=sys.stderr)
    from bisenetv1_plugin.datasets.scenes import DEMO_CLASSES
    from bisenetv1_plugin.datasets.synthetic import write_scenes

    scenes = FOLDER.parent / "scenes"
    if not (scenes / "train.txt").is_file():  # they are the same every time
        # Five classes: of 19, a short training finds some in so few pixels that one more shows in the fourth decimal.
        write_scenes(scenes, train=120, val=20, size=(480, 360), classes=DEMO_CLASSES)
    return scenes, "generated street scenes"


def listed(path):
    """Absolute paths of the images and labels of a list of `image label` lines, which are relative to its folder.

    Raises:
        TipcError: there is no such list, or it names no image, or one that is not there.
    """
    if not path.is_file():
        raise TipcError(
            f"there is no list {path}: it has `image label` lines, and test_tipc/prepare.sh writes the chain's."
        )
    pairs = []
    for line in path.read_text(encoding="utf-8").splitlines():
        names = line.split()
        if len(names) != 2:
            raise TipcError(f"{path}: the line {line!r} is not `image label`, so that nothing can be scored.")
        for missing in (name for name in names if not (path.parent / name).is_file()):
            raise TipcError(f"{path} names {missing}, and there is no such file.")
        pairs.append(tuple((path.parent / name).resolve() for name in names))
    if not pairs:
        raise TipcError(f"{path} names no image.")
    if " " in str(pairs[0][0]):
        raise TipcError(
            f"the path of {pairs[0][0]} has a space, which ends a name in PaddleSeg's lists: move the data."
        )
    return pairs


def _count_classes(labels):
    from PIL import Image
    from tqdm import tqdm

    values = set()
    for label in tqdm(sorted(set(labels)), unit="label", desc="classes"):
        try:
            pixels = np.asarray(Image.open(label))
        except OSError as error:
            raise TipcError(f"the label {label} is no image ({error}).") from error
        if pixels.ndim != 2:
            raise TipcError(f"the label {label} has colours; a label has one channel, the number of the class.")
        values.update(np.unique(pixels).tolist())
    if not values - {255}:
        raise TipcError("the labels hold no class, only 255.")
    return int(max(values - {255}) + 1)


def _spread(pairs, count):
    """At most `count` of them, from the whole length of the list."""
    return pairs[:: max(1, len(pairs) // count)][:count]


def _base(classes):
    def dataset(name, mode):
        return (
            f"{name}:\n  type: Dataset\n  dataset_root: {FOLDER}\n  {mode}_path: {FOLDER}/{mode}.txt\n"
            f"  num_classes: {classes}\n  mode: {mode}\n"
        )

    return (
        "# Written by test_tipc/prepare.sh.\n"
        f"model:\n  num_classes: {classes}\n{dataset('train_dataset', 'train')}{dataset('val_dataset', 'val')}"
    )


def _lay_configs(source):
    """In a PaddleSeg checkout, whose scripts want everything under its own test_tipc: the YAML beside the TIPC file."""
    if source.resolve() != CONFIGS.resolve():
        CONFIGS.mkdir(parents=True, exist_ok=True)
        for path in source.glob("*.yml"):
            shutil.copyfile(path, CONFIGS / path.name)
        print(f"Configurations: copied from {source} into {CONFIGS}")


def _lay_weights(params, weights):
    """The weights that the mode without training exports."""
    from bisenetv1_plugin.tipc.chain import config_of

    target = Path(params.value("infer_weights"))
    target.parent.mkdir(parents=True, exist_ok=True)
    if weights is None:
        folder = target.parent / "prepared"
        config = config_of(params.value("infer_export"))
        command = ["train", "--config", config, "--device", "cpu", "--do_eval", "--save_dir", str(folder)]
        iters = ["--iters", "40", "--save_interval", "40", "--batch_size", "4", "--seed", "1"]
        if subprocess.run([sys.executable, "-m", "bisenetv1_plugin", *command, *iters]).returncode != 0:
            raise TipcError("the short training that makes weights failed: see above, or name weights of your own.")
        weights, what = folder / "best_model" / "model.pdparams", "of a short training"
    else:
        what = f"the ones you named, {weights}"
        if not os.path.isfile(weights):
            raise TipcError(f"there are no weights {weights}.")
    if not (target.is_file() and os.path.samefile(weights, target)):
        shutil.copyfile(weights, target)
    print(f"Weights: {what}, in {target}")
