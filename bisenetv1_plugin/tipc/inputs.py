"""Prepare the inputs of a TIPC chain: data, and weights for the mode without training."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Iterable, Sequence

import numpy as np

from bisenetv1_plugin import files
from bisenetv1_plugin.tipc import own_folders
from bisenetv1_plugin.tipc.params import BENCHMARK, Params, TipcError

FOLDER = Path("test_tipc/data/bisenetv1")
CONFIGS = Path("test_tipc/configs/bisenetv1")

# The standard's data, as in PaddleSeg's prepare.sh; the second URL is for whole_train_whole_infer.
_URL = "https://paddleseg.bj.bcebos.com/tipc/data/cityscapes_20imgs.tar"
_WHOLE_URL = "https://paddleseg.bj.bcebos.com/dataset/cityscapes.tar"

_SIGN = "# Written by test_tipc/prepare.sh."  # first line of data.yml; identifies our files in its folder
_DOWNLOADED = "downloaded_from.txt"  # in the folder of an unpacked download
_LIST_BYTES = 1 << 28
_CLASSES = 256  # labels have 8 bits

_LITE_TRAIN, _LITE_VAL, _LITE_INFER = 40, 10, 5


def prepare(params: Params, data: str | None = None, weights: str | None = None) -> None:
    """Write the lists `train.txt`, `val.txt` and `infer.txt`, and `data.yml`, the configurations' `_base_`.

    Args:
        params: the TIPC file and mode.
        data: folder with `train.txt` and `val.txt`, lists of `image label`. Default: the standard's download, or
            generated street scenes if the download fails.
        weights: a .pdparams file for `whole_infer`. Default: weights of a short training.

    Raises:
        TipcError: the data or the weights cannot be used, or other files would be replaced.
    """
    if data:
        source, what, within = Path(data), f"the data you named, {data}", None
    else:
        source, what, within = _default_data(params.mode)
    train, val = (read_list(source / name, within) for name in ("train.txt", "val.txt"))
    _check_places(params, weights)
    lite_train = params.mode.startswith("lite_train") or params.mode in ("whole_infer", BENCHMARK)
    lite_infer = params.mode.endswith("lite_infer")
    lists = {
        "train.txt": _sample(train, _LITE_TRAIN) if lite_train else train,
        "val.txt": _sample(val, _LITE_VAL) if lite_train else val,
        "infer.txt": _sample(val, _LITE_INFER) if lite_infer else val,
    }
    classes = _count_classes([label for name in ("train.txt", "val.txt", "infer.txt") for _, label in lists[name]])
    written = {name: "".join(f"{image} {label}\n" for image, label in pairs) for name, pairs in lists.items()}
    written["data.yml"] = _base_config(classes)
    reads = [str(source / name) for name in ("train.txt", "val.txt")]
    files.check_outputs([str(FOLDER / name) for name in written], reads, is_ours=lambda path: _is_signed())
    for name in ("data.yml", *lists):  # data.yml first: if this process is killed, the next one recognizes the files
        files.write(FOLDER / name, written[name].encode())
    print(f"Data: {what}; {classes} classes, " + ", ".join(f"{len(lists[name])} in {name}" for name in lists))
    _copy_configs(params.path.parent)
    if params.mode == "whole_infer":
        _write_weights(params, weights)


def _check_places(params: Params, weights: str | None) -> None:
    """Raise an error if files would be written elsewhere or replaced, before anything is written."""
    where = f"{params.path}, line infer_model"
    for place in (FOLDER, CONFIGS):
        own_folders.check(place, "prepare")
    copies = _copies(params.path.parent)
    files.check_outputs(map(str, copies), map(str, copies.values()), is_ours=lambda path: _is_copy(path, copies))
    if params.mode != "whole_infer":
        return
    target = params.value("infer_weights")
    own_folders.check(target, where)
    own_folders.check(Path(target).parent / "prepared", where)
    if weights is not None and not os.path.isfile(weights):
        raise TipcError(f"there is no weights file {weights}.")
    if not (weights and os.path.exists(target) and _digest(weights) == _digest(target)):
        files.check_outputs([target], is_ours=_is_ours)


def _is_signed() -> bool:
    path = FOLDER / "data.yml"
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(_SIGN)) == _SIGN.encode()


def _default_data(mode: str) -> tuple[Path, str, Path | None]:
    """Return the folder of the lists, its description, and the only folder that the lists may refer to."""
    url = _WHOLE_URL if mode == "whole_train_whole_infer" else _URL
    folder = FOLDER.parent / Path(url).stem
    if os.path.lexists(folder) and not (folder / _DOWNLOADED).is_file():
        raise TipcError(f"{folder} exists, and is not an earlier download: move it away, or name your data (--data).")
    own_folders.check(folder, "prepare")
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=FOLDER.parent, prefix="part-"))
    try:
        _download(url, part / folder.name)
        shutil.rmtree(folder, ignore_errors=True)
        (part / folder.name).rename(folder)
        lists = sorted(folder.rglob("train.txt"))
        return lists[0].parent, f"the standard's download, {url}", folder
    except (OSError, tarfile.TarError) as error:
        print(f"{url} cannot be downloaded ({error}).", file=sys.stderr)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return _generate_scenes(), "generated street scenes", None


def _download(url: str, folder: Path) -> None:
    if not hasattr(tarfile, "data_filter"):  # prevents writing outside the folder
        raise OSError("this Python's tarfile has no filter: install the latest patch release")
    with urllib.request.urlopen(url, timeout=20) as answer, tarfile.open(fileobj=answer, mode="r|*") as archive:
        archive.extractall(folder, filter="data")
    if not any(folder.rglob("train.txt")):
        raise OSError("there is no train.txt in it")
    files.write(folder / _DOWNLOADED, f"{url}\n".encode())


def _generate_scenes() -> Path:
    from bisenetv1_plugin.datasets.classes import DEMO_CLASSES
    from bisenetv1_plugin.datasets.synthetic import write_scenes

    scenes = FOLDER.parent / "scenes"
    if (scenes / "train.txt").is_file():  # they are always the same
        return scenes
    own_folders.check(scenes, "prepare")
    if os.path.lexists(scenes):
        raise TipcError(f"{scenes} exists, and has no train.txt: move it away, or name your data (--data).")
    part = Path(tempfile.mkdtemp(dir=FOLDER.parent, prefix="part-"))
    try:
        # With 19 classes, some are predicted in so few pixels that a single one changes the fourth decimal of the IoU.
        write_scenes(part / scenes.name, train=120, val=20, size=(480, 360), classes=DEMO_CLASSES)
        (part / scenes.name).rename(scenes)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return scenes


def read_list(path: Path, within: Path | None = None) -> list[tuple[Path, Path]]:
    """Read a list of `image label` lines, which are relative to its folder; return absolute paths.

    Args:
        path: the list.
        within: a folder that must contain the files, for lists from other sources.

    Raises:
        TipcError: the list does not exist, is not text, is empty, or names a missing file.
    """
    if not path.is_file():
        raise TipcError(f"there is no list {path} of `image label` lines. For a chain, test_tipc/prepare.sh writes it.")
    if path.stat().st_size > _LIST_BYTES:
        raise TipcError(f"{path} is larger than {_LIST_BYTES} bytes, too large for a list.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise TipcError(f"{path} is not UTF-8 from byte {error.start} on.") from error
    pairs = []
    for number, line in enumerate(lines, start=1):
        names = line.split()
        where = f"{path}, line {number}"
        if len(names) != 2:
            raise TipcError(f"{where}: {line[:80]!r} is not `image label`; scores need both.")
        image, label = (_find_file(path.parent, name, where, within) for name in names)
        pairs.append((image, label))
    if not pairs:
        raise TipcError(f"{path} names no image.")
    return pairs


def _find_file(folder: Path, name: str, where: str, within: Path | None) -> Path:
    found = folder / name
    if not os.path.isfile(found):
        raise TipcError(f"{where} names {name[:200]}, but there is no such file.")
    if within is not None and within.resolve() not in found.resolve().parents:
        raise TipcError(f"{where} names {name}, which is not below {within}.")
    found = Path(os.path.abspath(found))  # not resolved: the mask is named after the link
    if not _is_utf8(found) or any(letter.isspace() for letter in str(found)):
        raise TipcError(
            f"the path {str(found)!a} has a space, which separates names in PaddleSeg's lists, or is not UTF-8: move "
            "the data."
        )
    return found


def _is_utf8(path: Path) -> bool:
    try:
        return bool(str(path).encode())
    except UnicodeEncodeError:
        return False


def _count_classes(labels: Iterable[Path]) -> int:
    from PIL import Image
    from tqdm import tqdm

    values: set[int] = set()
    for label in tqdm(sorted(set(labels)), unit="label", desc="classes"):
        try:
            pixels = np.asarray(Image.open(label))
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise TipcError(f"the label {label} is not an image ({error}).") from error
        if pixels.ndim != 2:
            raise TipcError(f"the label {label} has colors. A label must have one channel with class numbers.")
        values.update(np.unique(pixels).tolist())
    if not values - {255}:
        raise TipcError("the labels have no class, only 255.")
    if not 0 <= min(values) <= max(values) < _CLASSES:
        raise TipcError(
            f"the labels have values from {min(values)} to {max(values)}: classes are numbers from 0 to 255."
        )
    return int(max(values - {255}) + 1)


def _sample(pairs: Sequence[tuple[Path, Path]], count: int) -> Sequence[tuple[Path, Path]]:
    """Return at most `count` pairs, spread over the list."""
    return pairs[:: max(1, len(pairs) // count)][:count]


def _base_config(classes: int) -> str:
    def dataset(name: str, mode: str) -> str:
        return (
            f"{name}:\n  type: Dataset\n  dataset_root: {FOLDER}\n  {mode}_path: {FOLDER}/{mode}.txt\n"
            f"  num_classes: {classes}\n  mode: {mode}\n"
        )

    return (
        f"{_SIGN}\nmodel:\n  num_classes: {classes}\n{dataset('train_dataset', 'train')}{dataset('val_dataset', 'val')}"
    )


def _copies(source: Path) -> dict[Path, Path]:
    """Map each target to its source, for the YAML files of a folder; empty if they are in place already."""
    if source.resolve() == CONFIGS.resolve():
        return {}
    return {CONFIGS / path.name: path for path in sorted(source.glob("*.yml")) if path.is_file()}


def _is_copy(target: str, copies: dict[Path, Path]) -> bool:
    return Path(target).read_bytes() == copies[Path(target)].read_bytes()


def _copy_configs(source: Path) -> None:
    """Copy the YAML files next to the TIPC file, because PaddleSeg's scripts need them in its own test_tipc."""
    copies = _copies(source)
    for target, path in copies.items():
        files.write(target, path.read_bytes())
    if copies:
        print(f"Configurations: copied from {source} into {CONFIGS}")


def _write_weights(params: Params, weights: str | None) -> None:
    """Write the weights for the mode without training."""
    from bisenetv1_plugin.tipc.chain import config_of

    target = Path(params.value("infer_weights"))
    target.parent.mkdir(parents=True, exist_ok=True)
    if weights is None:
        folder = target.parent / "prepared"
        config = config_of(params.value("infer_export"))
        command = ["train", "--config", config, "--device", "cpu", "--do_eval", "--save_dir", str(folder)]
        iters = ["--iters", "40", "--save_interval", "40", "--batch_size", "4", "--seed", "1"]
        if subprocess.run([sys.executable, "-m", "bisenetv1_plugin", *command, *iters]).returncode != 0:
            raise TipcError("the short training for weights failed: see above, or name your own weights (--weights).")
        weights, what = str(folder / "best_model" / "model.pdparams"), "of a short training"
    else:
        what = f"the ones you named, {weights}"
    if not (target.is_file() and os.path.samefile(weights, target)):
        with files.whole_file(target) as temporary:
            shutil.copyfile(weights, temporary)
        files.write(_digest_file(target), f"{_digest(target)}  {target.name}\n".encode())
    print(f"Weights: {what}, in {target}")


def _digest_file(target: str | Path) -> str:
    """Return the path of the weights' checksum file, by which later runs recognize them."""
    return f"{os.fspath(target)}.sha256"


def _is_ours(target: str) -> bool:
    if not os.path.isfile(_digest_file(target)):
        return False
    with open(_digest_file(target), "rb") as file:
        return file.read(64) == _digest(target).encode()


def _digest(path: str | Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()
