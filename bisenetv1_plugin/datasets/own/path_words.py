"""What the path of a picture says: image or label, its split, its folders and its name."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import NamedTuple

from bisenetv1_plugin.datasets.own import walk

# What folders are called, in small letters and without a split's name; of several with labels, the first counts.
_IMAGES = (
    *("images", "image", "img", "imgs", "jpegimages", "leftimg8bit", "rgb", "photos", "pictures", "frames"),
    *("input", "inputs", "src", "raw", "x"),
)
_LABELS = (
    *("labels", "label", "segmentationclassraw", "segmentationclasspng", "segmentationclass", "masks", "mask"),
    *("annotations", "annotation", "annot", "ann", "anns", "gt", "gts", "ground_truth", "groundtruth", "gtfine"),
    *("segmentation", "segmentations", "seg", "segs", "targets", "target", "semantic", "y"),
)
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
SPLITS.update(test="test", testing="test")
_SPLIT = "|".join(sorted(SPLITS, key=len, reverse=True))
_YEAR = r"(?:19|20)\d\d"


class PathInfo(NamedTuple):
    """A picture.

    Attributes:
        path: from the folder of the data.
        role: `image` or `label`, by the last folder that is called like one of them; or empty.
        rank: of that folder's name in the table.
        split: `train`, `val`, `test`, or empty.
        folders: the other folders, which an image and its label have in common, and the year of a split (`val2017`).
        name: without the ending of an image.
        among_labels: some folder of the path is called like one of labels.
    """

    path: Path
    role: str
    rank: int
    split: str
    folders: tuple[str, ...]
    name: str
    among_labels: bool


def path_info(path: Path) -> PathInfo:
    role, rank, split, folders, among_labels = "", 0, "", [], False
    for component in path.parts[:-1]:
        word, named, year = _word(component)
        split = named or split
        if year:
            folders.append(year)
        if word in _IMAGES:
            role, rank = "image", _IMAGES.index(word)
        elif word in _LABELS:
            role, rank, among_labels = "label", _LABELS.index(word), True
        elif word:
            folders.append(component)
    return PathInfo(path, role, rank, split, tuple(folders), walk.stem(path), among_labels)


def is_year(folder: str) -> bool:
    return re.match(f"^{_YEAR}$", folder) is not None


@functools.lru_cache(maxsize=1 << 16)
def _word(component: str) -> tuple[str, str, str]:
    """A folder's name without the name of a split in it, that split and its year.

    `train_labels` -> `labels`, `train`, ``; `val2017` -> ``, `val`, `2017`.
    """
    lower = component.lower()
    for pattern in (
        rf"^(?P<split>{_SPLIT})(?P<year>{_YEAR})?[_\- ]?(?P<word>.*)$",
        rf"^(?P<word>.*?)[_\- ]?(?P<split>{_SPLIT})(?P<year>{_YEAR})?$",
    ):
        match = re.match(pattern, lower)
        if match and match["word"] in ("", *_IMAGES, *_LABELS):
            return match["word"], SPLITS[match["split"]], match["year"] or ""
    return lower, "", ""
