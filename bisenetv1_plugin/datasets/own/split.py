"""Which images train and which validate, where nothing says so."""

from __future__ import annotations

import re
from typing import Sequence

import numpy as np

from bisenetv1_plugin.datasets.own.census import PairInfo

EVERY = 5
_SERIES = re.compile(r"(\d+)\D*$")


def choose(infos: Sequence[PairInfo], present: np.ndarray) -> tuple[dict[str, list[int]], list[str]]:
    """The positions that train and validate, as the data say or every fifth; and notes."""
    notes = []
    splits = {name: [i for i, info in enumerate(infos) if info.pair.split == name] for name in ("train", "val")}
    digests = [info.digest for info in infos]
    if splits["train"] and splits["val"]:
        copied = copies(splits["train"], splits["val"], digests)
        if copied:
            index, original = next(iter(copied.items()))
            notes.append(
                f"Copies of training images validate: {len(copied)} ({infos[index].pair.image} is "
                f"{infos[original].pair.image}). The score is too good: take them out of one of the two."
            )
        return splits, notes
    train, val = every_fifth(present)
    copied = copies(train, val, digests)
    if copied and len(copied) < len(val):
        train, val = sorted([*train, *copied]), [index for index in val if index not in copied]
        notes.append(f"Images that are copies of training images train as well: {len(copied)}.")
    notes.append(f"Nothing says which images validate: every fifth does, and {len(train)} train.")
    if looks_like_video([info.pair.image.stem for info in infos]):
        notes.append(
            "The names are numbered like frames of a video. Neighboring frames are alike, and the score is too good "
            "then: write train.txt and val.txt of different scenes."
        )
    return {"train": train, "val": val}, notes


def every_fifth(present: np.ndarray) -> tuple[list[int], list[int]]:
    """Every fifth validates, but every class that occurs is among the images that train.

    For a class that only validation images have, the one of them that has most of the missing classes changes places
    with the next training image that train can spare. Nothing is random.

    Args:
        present: bool [images, classes], whether a class occurs in an image; two images at least.

    Returns:
        Positions of the images that train, and of those that validate, both sorted.
    """
    val = list(range(0, len(present), EVERY))
    train = [index for index in range(len(present)) if index % EVERY]
    while True:
        missing = present.any(axis=0) & ~present[train].any(axis=0)
        if not missing.any():
            return sorted(train), sorted(val)
        moved = max(val, key=lambda index: (int(present[index][missing].sum()), -index))
        counts = present[train].sum(axis=0)
        # One that leaves each of its classes to another training image, or, of two images, the only one
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


def copies(train: Sequence[int], val: Sequence[int], digests: Sequence[bytes | None]) -> dict[int, int]:
    """Positions of images that validate and have the pixels of one that trains, and the position of that one."""
    first: dict[bytes, int] = {}
    for index in train:
        digest = digests[index]
        if digest:
            first.setdefault(digest, index)
    found = {index: first.get(digests[index] or b"") for index in val}
    return {index: original for index, original in found.items() if original is not None}


def coverage(train: np.ndarray, val: np.ndarray, names: Sequence[str]) -> list[str]:
    """Sentences on classes that cannot be learned or scored. `train`, `val`: pixels by class, int64 [classes]."""
    sentences = []
    untrained = [name for name, there, wanted in zip(names, train, val) if wanted and not there]
    unscored = [name for name, there, wanted in zip(names, train, val) if there and not wanted]
    never = [name for name, there, wanted in zip(names, train, val) if not there and not wanted]
    if untrained:
        sentences.append(f"Only validation images have {', '.join(untrained)}: it is scored and never learned.")
    if unscored:
        sentences.append(f"No validation image has {', '.join(unscored)}: it is learned and never scored.")
    if never:
        sentences.append(f"No label has {', '.join(never)}.")
    return sentences


def looks_like_video(names: Sequence[str]) -> bool:
    """Whether most names are numbered one after another, as the frames of a video are."""
    numbers: dict[str, list[int]] = {}
    for name in names:
        match = _SERIES.search(name)
        if match:
            numbers.setdefault(name[: match.start()], []).append(int(match[1]))
    follow = sum(b - a == 1 for series in numbers.values() for a, b in zip(sorted(series), sorted(series)[1:]))
    return len(names) >= 10 and follow > len(names) / 2
