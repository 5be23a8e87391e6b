"""A configuration that fits the data: crop, batch, schedule, transforms, each with its reason."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Sequence, Tuple

import numpy as np

Size = Tuple[int, int]  # width, height

_CROP = 512  # pixels: four such crops fit into 8 GB
_HUGE, _LIMIT = 3000, 2048  # longer sides than the first are resized to the second
_EPOCHS, _FEWEST, _MOST = 40, 300, 80000
_ENOUGH = 64  # pixels of a crop, below which images are not made smaller as well


@dataclass(frozen=True)
class Recipe:
    """What is chosen, and why.

    Attributes:
        crop: (width, height) of what trains.
        crop_reason: a clause.
        min_scale: the smallest random scale before the crop.
        max_long: the longest side of an image, above which it is resized; None for no resize.
        batch_size, iters, learning_rate: the schedule.
        weights: of the classes in the loss; None for equal ones.
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
    """Chooses by the sizes of all images, the number of those that train, and `Options.max_size`."""
    longest = max(max(size) for size in sizes)
    if max_size is None:
        max_long = _LIMIT if longest > _HUGE else None
    else:
        max_long = max_size if 0 < max_size < longest else None
    shrunk = [_limited(size, max_long) for size in sizes]
    crop, scales = [], []
    for side in zip(*shrunk):
        # The smallest, but for images so small that a crop of theirs would show nothing of the others: they are padded.
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
    """A weight for each class: the median frequency of all over its own, at most 10 and at least 0.1.

    Median-frequency balancing of Eigen and Fergus (2015): a class's frequency is its share of the pixels of the images
    that have it. Classes that never occur get 1.

    Args:
        counts: pixels by class, int64 [images, classes], of the images that train.
        present: bool [images, classes], where a class occurs.
    """
    labeled = counts.sum(axis=1)
    within = (present * labeled[:, np.newaxis]).sum(axis=0)
    frequency = np.divide(counts.sum(axis=0), within, out=np.zeros(counts.shape[1]), where=within > 0)
    median = np.median(frequency[frequency > 0]) if frequency.any() else 1.0
    weights = np.divide(median, frequency, out=np.ones_like(frequency), where=frequency > 0)
    return [round(float(weight), 3) for weight in np.clip(weights, 0.1, 10)]


def text(recipe: Recipe, root: str, num_classes: int, images: int, tab: bool, about: str) -> str:
    """The YAML: `recipe.yml` beside this file, filled in.

    Args:
        recipe: of `choose`.
        root: the folder with `train.txt` and `val.txt`.
        num_classes, images: how many classes there are, and images that train.
        tab: the lists are separated by tabs.
        about: what the data are, for the first line.
    """
    # Lines that not every configuration has begin with their line feed.
    limit = separator = weights = ""
    if recipe.max_long:
        limit = "\n    - type: LimitLong  # larger images need more memory than they give accuracy"
        limit += f"\n      max_long: {recipe.max_long}"
    if tab:
        separator = '\n  separator: "\\t"  # names have spaces'
    if recipe.weights:
        weights = f"\n      weight: {recipe.weights}  # median-frequency balancing: what is rare counts more"
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


def _limited(size: Size, max_long: int | None) -> Size:
    if max_long is None or max(size) <= max_long:
        return size
    return max(1, round(size[0] * max_long / max(size))), max(1, round(size[1] * max_long / max(size)))
