"""A configuration that fits the data: crop, batch, schedule, transforms, each with its reason."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Sequence, Tuple

import numpy as np

from bisenetv1_plugin.datasets.text import first_few

Size = Tuple[int, int]  # width, height

_CROP = 512  # pixels: four such crops fit into 8 GB
_HUGE, _LIMIT = 3000, 2048  # longer sides than the first are resized to the second
_EPOCHS, _FEWEST, _MOST = 40, 300, 80000
_RARE = 0.01  # share of the training pixels below which class weights are suggested
_ENOUGH = 64  # pixels of a crop: for smaller crops, images are not scaled down


@dataclass(frozen=True)
class Recipe:
    """Training settings.

    Attributes:
        crop: (width, height) of training crops.
        crop_reason: why this crop, as a clause.
        min_scale: the smallest random scale before the crop.
        max_long: the longest side of an image, above which it is resized; None for no resize.
        batch_size, iters, learning_rate: the schedule.
        weights: class weights in the loss; None for equal weights.
    """

    crop: Size
    crop_reason: str
    min_scale: float
    max_long: int | None
    batch_size: int
    iters: int
    learning_rate: float
    weights: list[float] | None


def choose(sizes: Sequence[Size], images: int, max_size: int | None, weights: list[float] | None) -> Recipe:
    """Chooses settings by the sizes of all images, the number of training images, and `Options.max_size`."""
    longest = max(max(size) for size in sizes)
    if max_size is None:
        max_long = _LIMIT if longest > _HUGE else None
    else:
        max_long = max_size if 0 < max_size < longest else None
    shrunk = [_limit_size(size, max_long) for size in sizes]
    crop, scales = [], []
    for side in zip(*shrunk):
        # The smallest image, except for images much smaller than most, which are padded
        length = min(pixels for pixels in side if pixels >= np.median(side) / 2)
        scaled = min(int(length * 0.75), _CROP)
        whole = scaled < _ENOUGH
        chosen = (min(length, _CROP) if whole else scaled) // 32 * 32
        crop.append(max(chosen, 32))
        scales.append(1.0 if whole else 0.75)
    reason = "multiples of 32, the network's coarsest stride, that fit into three quarters of the images"
    if max(scales) == 1.0:
        reason = "multiples of 32, the network's coarsest stride; the images are too small to be scaled down as well"
    if any(width < crop[0] or height < crop[1] for width, height in shrunk):
        reason += "; smaller images are padded"
    batch = max(1, min(4, images))
    iters = int(np.clip(_EPOCHS * images / batch, _FEWEST, _MOST)) // 10 * 10
    return Recipe((crop[0], crop[1]), reason, max(scales), max_long, batch, iters, 0.005 * batch, weights)


def median_frequency(counts: np.ndarray, present: np.ndarray) -> list[float]:
    """A weight for each class, 0.1 to 10: the median of all frequencies divided by its own.

    Median-frequency balancing of Eigen and Fergus (2015): a class's frequency is its share of the pixels of the images
    that have it. Classes that never occur get 1.

    Args:
        counts: pixels by class, int64 [images, classes], of the training images.
        present: bool [images, classes], whether a class occurs.
    """
    labeled = counts.sum(axis=1)
    within = (present * labeled[:, np.newaxis]).sum(axis=0)
    frequency = np.divide(counts.sum(axis=0), within, out=np.zeros(counts.shape[1]), where=within > 0)
    median = np.median(frequency[frequency > 0]) if frequency.any() else 1.0
    weights = np.divide(median, frequency, out=np.ones_like(frequency), where=frequency > 0)
    return [round(float(weight), 3) for weight in np.clip(weights, 0.1, 10)]


def notes_on_size(recipe: Recipe, sizes: Sequence[Size]) -> list[str]:
    """A sentence on images that are resized."""
    if not recipe.max_long:
        return []
    width, height = max(sizes, key=lambda size: size[0] * size[1])
    return [
        f"Images of up to {width}x{height} are resized to {recipe.max_long} pixels on the longest side to save memory, "
        "in training and when deployed. --max_size N sets another size, --max_size 0 none. Reading large images takes "
        "most of the time: smaller copies train faster."
    ]


def notes_on_weights(counts: np.ndarray, names: Sequence[str]) -> list[str]:
    """A sentence on classes of few pixels. `counts`: pixels by class of the training images, int64 [classes]."""
    rare = [name for name, pixels in zip(names, counts) if 0 < pixels < _RARE * counts.sum()]
    if not rare:
        return []
    return [
        f"Classes with less than {_RARE * 100:g} % of the training pixels ({first_few(rare)}): --class_weights gives "
        "them more weight in the loss."
    ]


def text(recipe: Recipe, root: str, num_classes: int, images: int, tab: bool, about: str) -> str:
    """The text of the YAML: the template `recipe.yml`, filled in.

    Args:
        recipe: from `choose`.
        root: the folder with `train.txt` and `val.txt`.
        num_classes, images: numbers of classes and of training images.
        tab: whether tabs separate the columns of the lists.
        about: the data, for the first line.
    """
    # Optional lines begin with their own line feed
    limit = separator = weights = ""
    if recipe.max_long:
        limit = "\n    - type: LimitLong  # larger images need more memory than they give accuracy"
        limit += f"\n      max_long: {recipe.max_long}"
    if tab:
        separator = '\n  separator: "\\t"  # names have spaces'
    if recipe.weights:
        weights = f"\n      weight: {recipe.weights}  # median-frequency balancing: rare classes count more"
    template = Template(Path(__file__).with_name("recipe.yml").read_text(encoding="utf-8"))
    return template.substitute(
        about=about,
        batch_size=recipe.batch_size,
        crop_height=recipe.crop[1],
        crop_reason=recipe.crop_reason,
        crop_width=recipe.crop[0],
        epochs=f"{recipe.iters * recipe.batch_size / images:.0f}",
        images=images,
        iters=recipe.iters,
        learning_rate=f"{recipe.learning_rate:g}",
        limit=limit,
        min_scale=recipe.min_scale,
        num_classes=num_classes,
        resize="masks are enlarged again and scored at full size" if limit else "no resize: scored at full size",
        root=json.dumps(root, ensure_ascii=False),
        scale="never smaller than the crop" if recipe.min_scale < 1 else "never smaller than it is",
        separator=separator,
        train_list=json.dumps(f"{root}/train.txt", ensure_ascii=False),
        val_list=json.dumps(f"{root}/val.txt", ensure_ascii=False),
        weights=weights,
    )


def _limit_size(size: Size, max_long: int | None) -> Size:
    if max_long is None or max(size) <= max_long:
        return size
    return max(1, round(size[0] * max_long / max(size))), max(1, round(size[1] * max_long / max(size)))
