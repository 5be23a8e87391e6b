"""Chooses which images train and which validate."""

from __future__ import annotations

import re
from collections import Counter
from typing import Collection, Sequence

import numpy as np

from bisenetv1_plugin.datasets.check.copies import find_copies
from bisenetv1_plugin.datasets.own.census import PairInfo

EVERY = 5
_SERIES = re.compile(r"(\d+)\D*$")


def choose(infos: Sequence[PairInfo], present: np.ndarray) -> tuple[dict[str, list[int]], list[str]]:
    """Indices of train and val images, by the data's own splits or else every fifth image; and notes."""
    notes = []
    splits = {name: [i for i, info in enumerate(infos) if info.pair.split == name] for name in ("train", "val")}
    if splits["train"] and splits["val"]:
        copied = find_copies(splits["train"], splits["val"], lambda index: infos[index].digest)
        if copied:
            index, original = copied[0]
            notes.append(
                f"Validation images that are copies of training images: {len(copied)} ({infos[index].pair.image} of "
                f"{infos[original].pair.image}). The score will be too good: remove them from one of the two."
            )
        return splits, notes
    digests = Counter(info.digest for info in infos)
    copies = {index for index, info in enumerate(infos) if info.digest and digests[info.digest] > 1}
    train, val = every_fifth(present, copies)
    moved = {index for index, _ in find_copies(train, val, lambda index: infos[index].digest)}
    if moved and len(moved) < len(val):
        train, val = sorted([*train, *moved]), [index for index in val if index not in moved]
        notes.append(f"Copies of training images were moved to the training images: {len(moved)}.")
    notes.append(
        f"No validation list: every fifth image is for validation ({len(val)}), {len(train)} are for training."
    )
    if looks_like_video([info.pair.image.stem for info in infos]):
        notes.append(
            "The names are numbered like frames of a video. If they are frames, neighbors look alike and the score "
            "will be too good: then write train.txt and val.txt with different scenes."
        )
    return {"train": train, "val": val}, notes


def every_fifth(present: np.ndarray, copies: Collection[int] = ()) -> tuple[list[int], list[int]]:
    """Every fifth image validates, but the training images have every class that occurs.

    If only validation images have a class, the one with most of the missing classes is swapped with the nearest
    training image that train can spare. The validation images then get the classes that they lack, as far as train can
    spare an image. Nothing is random.

    Args:
        present: bool [images, classes], whether a class occurs in an image; at least two images.
        copies: the indices of images with the pixels of another image, which give val no class: its copy would train.

    Returns:
        The indices of training images and of validation images, both sorted.
    """
    val = list(range(0, len(present), EVERY))
    train = [index for index in range(len(present)) if index % EVERY]
    while True:
        missing = present.any(axis=0) & ~present[train].any(axis=0)
        if not missing.any():
            return _score_rare_classes(train, val, present, copies)
        moved = max(val, key=lambda index: (int(present[index][missing].sum()), -index))
        counts = present[train].sum(axis=0)
        # Each class of a spare image is in another training image as well
        spare = [index for index in train if (counts[present[index]] > 1).all()]
        val.remove(moved)
        if spare:
            moved_back = min(spare, key=lambda index: abs(index - moved))
            train.remove(moved_back)
            val.append(moved_back)
        elif not val:
            val.append(train.pop(0))
            train.append(moved)
            return sorted(train), sorted(val)
        train.append(moved)


def _score_rare_classes(
    train: list[int], val: list[int], present: np.ndarray, copies: Collection[int]
) -> tuple[list[int], list[int]]:
    """Swaps images so that val has more classes. No class leaves train or val entirely; see `every_fifth`."""
    for number in np.flatnonzero(present.any(axis=0)):
        in_train, in_val = present[train].sum(axis=0), present[val].sum(axis=0)
        if in_val[number]:
            continue
        singles = [index for index in train if index not in copies]
        for index in [index for index in singles if present[index, number] and (in_train[present[index]] > 1).all()]:
            lost = (in_val == 1) & ~present[index]
            others = [other for other in val if other not in copies and not present[other][lost].any()]
            if others:
                nearest = min(others, key=lambda other: abs(other - index))
                train[train.index(index)], val[val.index(nearest)] = nearest, index
                break
    return sorted(train), sorted(val)


def examples(present: np.ndarray, most: int = 4) -> list[int]:
    """Indices of a few images that together have as many classes as possible; `present` as in `every_fifth`."""
    chosen: list[int] = []
    lacking = present.any(axis=0)
    while lacking.any() and len(chosen) < most:
        chosen.append(int(present[:, lacking].sum(axis=1).argmax()))
        lacking &= ~present[chosen[-1]]
    spaced = (index * (len(present) - 1) // (most - 1) for index in range(most))
    chosen += [index for index in dict.fromkeys(spaced) if index not in chosen]
    return sorted(chosen[:most])


def coverage(train: np.ndarray, val: np.ndarray, names: Sequence[str]) -> list[str]:
    """Sentences on classes that cannot be learned or scored. `train`, `val`: pixels by class, int64 [classes]."""
    sentences = []
    untrained = [name for name, trained, validated in zip(names, train, val) if validated and not trained]
    unscored = [name for name, trained, validated in zip(names, train, val) if trained and not validated]
    never = [name for name, trained, validated in zip(names, train, val) if not trained and not validated]
    if untrained:
        sentences.append(f"Only validation images have {', '.join(untrained)}: scored, but never learned.")
    if unscored:
        sentences.append(f"No validation image has {', '.join(unscored)}: learned, but never scored.")
    if never:
        sentences.append(f"No label has {', '.join(never)}.")
    return sentences


def looks_like_video(names: Sequence[str]) -> bool:
    """Whether most names have consecutive numbers, like the frames of a video."""
    numbers: dict[str, list[int]] = {}
    for name in names:
        match = _SERIES.search(name)
        if match:
            numbers.setdefault(name[: match.start()], []).append(int(match[1]))
    follow = sum(b - a == 1 for series in numbers.values() for a, b in zip(sorted(series), sorted(series)[1:]))
    return len(names) >= 10 and follow > len(names) / 2
