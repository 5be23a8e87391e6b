"""Reads from a path whether a picture is an image or a label, and its split, folders and name."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import NamedTuple

from bisenetv1_plugin.datasets.own import walk

# Names of folders, in lowercase and without the name of a split. Of several label folders, the first here is used.
_IMAGES = (
    *("images", "image", "img", "imgs", "jpegimages", "leftimg8bit", "rgb", "photos", "pictures", "frames"),
    *("input", "inputs", "src", "raw", "x"),
    *("图像", "图片", "原图", "照片", "影像", "原始图像", "原始图片"),
)
_LABELS = (
    *("labels", "label", "segmentationclassraw", "segmentationclasspng", "segmentationclass", "masks", "mask"),
    *("annotations", "annotation", "annot", "ann", "anns", "gt", "gts", "ground_truth", "groundtruth", "gtfine"),
    *("segmentation", "segmentations", "seg", "segs", "targets", "target", "semantic", "y"),
    *("标签", "标签图", "标注", "标注图", "掩码", "掩码图", "掩膜", "分割图", "真值"),
)
SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
SPLITS.update(test="test", testing="test", 训练="train", 验证="val", 测试="test")
SPLITS.update(训练集="train", 验证集="val", 测试集="test")
_SPLIT = "|".join(sorted(SPLITS, key=len, reverse=True))
_YEAR = r"(?:19|20)\d\d"


class PathInfo(NamedTuple):
    """The parts of a path.

    Attributes:
        path: relative to the data folder.
        role: `image` or `label`, by the last folder with one of the names above; empty without one.
        rank: position of that folder's name in `_IMAGES` or `_LABELS`.
        split: `train`, `val`, `test`, or empty.
        folders: the other folders, which an image and its label share, and the year of a split (`val2017`).
        name: file name without an image's suffix.
        among_labels: whether any folder in the path has a name of `_LABELS`.
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


def known_folders() -> str:
    """A sentence on the names that folders of images and labels may have."""
    return f"Folders of images may be named {', '.join(_IMAGES)}; folders of labels {', '.join(_LABELS)}."


def is_year(folder: str) -> bool:
    return re.match(f"^{_YEAR}$", folder) is not None


@functools.lru_cache(maxsize=1 << 16)
def _word(component: str) -> tuple[str, str, str]:
    """Divides a folder's name into its word, split and year.

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
