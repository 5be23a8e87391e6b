"""Synthetic street scenes as a PaddleSeg dataset, and as files for PaddleSeg's own `Dataset`."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from typing import Any, Sequence

import cv2
import numpy as np
import paddle

from bisenetv1_plugin import files
from bisenetv1_plugin.datasets.classes import (
    CITYSCAPES_CLASSES,
    CLASS_NAMES,
    IGNORE_INDEX,
    ClassChoice,
    class_groups,
    remap,
)
from bisenetv1_plugin.datasets.scenes import render_scene
from bisenetv1_plugin.progress import Progress, silent

__all__ = ["SyntheticStreetScenes", "write_scenes"]

MODES = ("train", "val")
_MOST_SCENES = 100000  # more would repeat the scenes of the next seed
_LONGEST = 16384  # pixels of a side: more fill the memory


def scene_seed(mode: str, index: int, seed: int = 0) -> int:
    """The seed of the scene at `index` of a mode: even for train, odd for val, so that they never share a scene."""
    return (2 * (seed * _MOST_SCENES + index) + MODES.index(mode)) % 2**32


class SyntheticStreetScenes(paddle.io.Dataset):
    """Street scenes drawn on demand: nothing to download, and the same scenes on every machine.

    A sample is what `paddleseg.datasets.Dataset` returns: a dict of `img` (`[3, H, W]`, RGB, float32 0..255 before
    the transforms), `label` (uint8 train ids 0..18 and 255; `[H, W]` in train mode, `[1, H, W]` in val mode),
    `trans_info` and `gt_fields`.

    Args:
        mode: 'train' or 'val'.
        transforms: Transforms for image and label.
        size: Width and height in pixels.
        num_samples: Number of scenes. Default: 200 for train, 40 for val.
        seed: Every seed gives other scenes.

    Raises:
        ValueError: An argument is out of range.
        TypeError: `transforms` is not a list.
    """

    NUM_CLASSES = len(CITYSCAPES_CLASSES)
    IMG_CHANNELS = 3
    IGNORE_INDEX = IGNORE_INDEX

    def __init__(
        self,
        mode: str,
        transforms: list[Any],
        size: Sequence[int] = (1024, 512),
        num_samples: int | None = None,
        seed: int = 0,
    ) -> None:
        from paddleseg.transforms import Compose  # not above: importing PaddleSeg imports this module

        if str(mode).lower() not in MODES:
            raise ValueError(f"mode is {mode!r}. SyntheticStreetScenes has 'train' and 'val'.")
        self.mode = mode.lower()
        if num_samples is None:
            num_samples = 200 if self.mode == "train" else 40
        _check_count("num_samples", num_samples)
        self.size = _check_size(size)
        if not isinstance(seed, int):
            raise ValueError(f"seed is {seed!r}. Give an integer.")
        if not isinstance(transforms, list):
            raise TypeError(f"transforms is {transforms!r}. Give a list; an empty list leaves the images unchanged.")
        self.transforms = Compose(transforms)
        self.num_classes = self.NUM_CLASSES
        self.img_channels = self.IMG_CHANNELS
        self.ignore_index = self.IGNORE_INDEX
        # A list, because tools/train.py multiplies it for --repeats
        self.file_list = [scene_seed(self.mode, index, seed) for index in range(num_samples)]

    def __getitem__(self, idx: int) -> dict[str, Any]:
        image, label = render_scene(self.file_list[idx], *self.size)
        # BGR float32, as after reading a file; Compose converts it to RGB
        data: dict[str, Any] = {"trans_info": [], "img": image.astype("float32"), "label": label, "gt_fields": []}
        if self.mode == "val":  # the label keeps its size: predictions are resized to it
            data = self.transforms(data)
            data["label"] = data["label"][np.newaxis, :, :]
        else:
            data["gt_fields"].append("label")
            data = self.transforms(data)
        return data

    def __len__(self) -> int:
        return len(self.file_list)


def write_scenes(
    directory: str | os.PathLike[str],
    train: int = 200,
    val: int = 40,
    size: Sequence[int] = (1024, 512),
    classes: ClassChoice | None = None,
    seed: int = 0,
    progress: Progress = silent,
) -> str:
    """Write the scenes of `SyntheticStreetScenes` as files that `paddleseg.datasets.Dataset` reads.

    The directory gets `images/` and `labels/` (lossless PNG), `train.txt` and `val.txt` (`image label` per
    line, relative to the directory), and `classes.txt` (a name per line, in label order). It appears when complete.

    Args:
        directory: A directory that doesn't exist yet, or is empty.
        train, val: Number of scenes.
        size: Width and height in pixels.
        classes: As for `classes.class_groups`, for example `classes.DEMO_CLASSES`. Default: all 19 of Cityscapes.
        seed: Every seed gives other scenes.
        progress: See `progress.Progress`.

    Returns:
        The directory.

    Raises:
        FileExistsError: The directory is not empty, or is a file.
        ValueError: An argument is out of range.
        OSError: A file could not be written.
    """
    directory = os.fspath(directory)
    _check_count("train", train)
    _check_count("val", val)
    size = _check_size(size)
    groups = class_groups(CLASS_NAMES if classes is None else classes)
    if os.path.exists(directory) and not (os.path.isdir(directory) and not os.listdir(directory)):
        raise FileExistsError(f"{directory} exists and is not empty: choose another directory, or remove it.")
    real = os.path.realpath(directory)  # a link to a folder is kept
    parent = os.path.dirname(real)
    os.makedirs(parent, exist_ok=True)

    scenes = [("train", i) for i in range(train)] + [("val", i) for i in range(val)]
    with tempfile.TemporaryDirectory(dir=parent, prefix=".scenes-") as temporary:
        # One level deeper, because only the owner may read a TemporaryDirectory
        root = os.path.join(temporary, "scenes")
        for kind in ("images", "labels"):
            for mode in MODES:
                os.makedirs(os.path.join(root, kind, mode))
        lines: dict[str, list[str]] = {mode: [] for mode in MODES}
        for mode, index in progress(scenes, desc="scenes", unit="scene"):
            image, label = render_scene(scene_seed(mode, index, seed), *size)
            names = f"images/{mode}/{index:05d}.png", f"labels/{mode}/{index:05d}.png"
            for name, pixels in zip(names, (image, remap(label, groups))):
                files.write(os.path.join(root, name), cv2.imencode(".png", pixels)[1].tobytes())
            lines[mode].append(" ".join(names))
        lines["classes"] = [name for name, _ in groups]
        for name, content in lines.items():
            with open(os.path.join(root, f"{name}.txt"), "w", encoding="utf-8") as f:
                f.write("\n".join(content) + "\n")
        with suppress(FileNotFoundError):
            os.rmdir(real)  # empty; some systems do not rename over it
        os.rename(root, real)
    return directory


def _check_count(key: str, value: object) -> None:
    if not isinstance(value, int) or not 1 <= value <= _MOST_SCENES:
        raise ValueError(f"{key} is {value!r}. Give the number of scenes: an integer, 1 to {_MOST_SCENES}.")


def _check_size(size: Sequence[int]) -> tuple[int, int]:
    valid = isinstance(size, (list, tuple)) and len(size) == 2
    if not (valid and all(isinstance(n, int) and 16 <= n <= _LONGEST for n in size)):
        raise ValueError(
            f"size is {size!r}. Give width and height in pixels, 16 or more each and {_LONGEST} at most, such as "
            "[1024, 512]."
        )
    return size[0], size[1]
