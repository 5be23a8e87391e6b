"""Lists of images, with or without their labels."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Iterable, NamedTuple

from bisenetv1_plugin.datasets.check.columns import order_fault
from bisenetv1_plugin.datasets.own import walk
from bisenetv1_plugin.datasets.text import numbered_lines, shorten
from bisenetv1_plugin.errors import InputError

_SEPARATORS = "\t,; "
_MOST_PARTS = 64  # of a line; each way to join them to two names is looked up on the disk


class Pair(NamedTuple):
    """An image and its label; `split` is train, val or, if unknown, empty."""

    image: Path
    label: Path
    split: str = ""


class Pairs(NamedTuple):
    """A list that names images and labels."""

    pairs: list[Pair]


class ImageNames(list):
    """The names in a list of images only, as written, perhaps with folders and suffixes.

    Attributes:
        path: of the list, relative to the data folder; for VOC's lists without `ImageSets/Segmentation`.
    """

    def __init__(self, names: Iterable[str], path: Path) -> None:
        super().__init__(names)
        self.path = path


def read_list(path: Path, root: Path) -> Pairs | ImageNames:
    """Reads a list whose columns are separated by tabs, commas, semicolons or spaces.

    A line is divided where both parts are existing files, so names may have spaces.

    Args:
        path: the list, UTF-8.
        root: the folder that its names are relative to.

    Raises:
        InputError: the list is empty or not text, a line names files that do not exist, or the labels are in front of
            the images.
    """
    numbered = numbered_lines(path, "list")
    if not numbered:
        raise InputError(f"the list {path} is empty: write a line `image label` for each pair, or remove the list.")
    if not any(_has_columns(line) or _divide(line, root) for _, line in numbered):
        inside = path.relative_to(root)
        voc = inside.parts[-3:-1] == ("ImageSets", "Segmentation")
        return ImageNames((line for _, line in numbered), Path(*inside.parts[:-3], inside.name) if voc else inside)
    pairs = []
    for number, line in numbered:
        pair = _divide(line, root)
        if pair is None:
            raise InputError(
                f"{path}, line {number}: '{shorten(line)}' does not name an existing image and label in {root}: "
                "correct the line or remove it."
            )
        pairs.append(pair)
    complaint = order_fault(path, pairs)
    if complaint:
        raise InputError(complaint)
    return Pairs(pairs)


def _divide(line: str, root: Path) -> Pair | None:
    for separator in _SEPARATORS:
        parts = line.split(separator)
        if len(parts) > _MOST_PARTS:
            continue
        for cut in range(1, len(parts)):
            image, label = (separator.join(half).strip(" \t\"'") for half in (parts[:cut], parts[cut:]))
            if image and label:
                paths = [_inside(root, name) for name in (image, label)]
                if all(map(os.path.isfile, paths)):
                    return Pair(paths[0], paths[1])
    return None


def _inside(root: Path, name: str) -> Path:
    """The path of a name in a list; some lists begin the names in the folder with a slash."""
    path = root / name
    return path if os.path.isfile(path) else root / name.lstrip("/")


def _has_columns(line: str) -> bool:
    """Whether a line has several columns, the first with an image's suffix."""
    return any(
        Path(line.split(separator)[0]).suffix.lower() in walk.SUFFIXES for separator in _SEPARATORS if separator in line
    )
