"""Adds the files that PaddleSeg needs to Cityscapes: labels of train ids, and lists."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Iterable

import numpy as np

from bisenetv1_plugin import image_files
from bisenetv1_plugin.datasets.classes import CLASS_NAMES, IGNORE_INDEX
from bisenetv1_plugin.datasets.prepare import dataset_files
from bisenetv1_plugin.files import check_outputs
from bisenetv1_plugin.progress import Progress, silent

# The label id of each train id 0..18 (cityscapesScripts, helpers/labels.py); ids 0..33 exist, and -1, stored as 255.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_IDS, _TRAIN_IDS = "_labelIds.png", "_labelTrainIds.png"


def prepare_cityscapes(
    src: str | os.PathLike[str], dst: str | os.PathLike[str] | None = None, progress: Progress = silent
) -> dataset_files.Prepared:
    """Adds what PaddleSeg needs to Cityscapes: `*_gtFine_labelTrainIds.png`, `train.txt`, `val.txt`, `classes.txt`.

    In place (`dst` is None or `src`), the missing labelTrainIds files are written beside the labelIds files, each
    completely or not at all, so an interrupted run can be repeated; the lists come last. With another `dst`,
    that folder gets the labelTrainIds files of train and val (well under 1 GB) and a symbolic link `leftImg8bit` to
    the images in `src` (11 GB, not copied). Either folder serves as `dataset_root` of PaddleSeg's `Cityscapes`,
    and of its `Dataset` with the lists.

    Args:
        src: the folder with `leftImg8bit/{train,val}/CITY/*_leftImg8bit.png` and
            `gtFine/{train,val}/CITY/*_gtFine_labelIds.png` or `*_gtFine_labelTrainIds.png`; if both exist,
            labelTrainIds is used as it is.
        dst: None, `src`, or a folder that does not exist or is empty. In `src`, existing lists and class names
            with other content are never replaced.
        progress: see `progress.Progress`.

    Raises:
        FileNotFoundError: `src` has no `leftImg8bit/train`, `gtFine/train`, or the same of val.
        FileExistsError: `dst` is not empty.
        InputError: in place, a list or `classes.txt` exists with other content.
        OSError: the link cannot be made, as on some Windows accounts; prepare in place there.
        ValueError: images or labels are missing, unreadable, of different sizes, or labels have values that are
            not label ids; one message names them all (the first 20 in full).
    """
    src = Path(src).resolve()
    dst = src if dst is None else Path(dst).resolve()
    for folder in ("leftImg8bit/train", "leftImg8bit/val", "gtFine/train", "gtFine/val"):
        if not (src / folder).is_dir():
            raise FileNotFoundError(
                f"{src} has no folder {folder}: unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip there."
            )
    splits, problems = _pairs(src)
    dataset_files.raise_together(problems, f"Cityscapes in {src} is not complete")
    if dst == src:
        _fill(src, src, splits, progress)
    else:
        with dataset_files.all_or_nothing(dst) as work:
            (work / "leftImg8bit").symlink_to(src / "leftImg8bit", target_is_directory=True)
            _fill(src, work, splits, progress)
    return dataset_files.Prepared(dst, {split: len(pairs) for split, pairs in splits.items()}, CLASS_NAMES)


def _pairs(src: Path) -> tuple[dataset_files.Splits, list[str]]:
    """The (image, label) paths of train and val, preferably labelTrainIds, and a message for every missing file."""
    splits: dataset_files.Splits = {}
    problems: list[str] = []
    for split in ("train", "val"):
        images, of_images = _by_frame((src / "leftImg8bit" / split).glob("*/*_leftImg8bit.png"))
        labels, of_labels = _by_frame((src / "gtFine" / split).glob("*/*_gtFine_labelIds.png"))
        more_labels, of_more = _by_frame((src / "gtFine" / split).glob("*/*_gtFine_labelTrainIds.png"))
        labels.update(more_labels)
        problems += of_images + of_labels + of_more
        for frame in sorted(images.keys() - labels.keys()):
            problems.append(f"image {images[frame]} has no label *_gtFine_labelIds.png")
        for frame in sorted(labels.keys() - images.keys()):
            problems.append(f"label {labels[frame]} has no image")
        if not images:
            problems.append(f"{src / 'leftImg8bit' / split} has no CITY/*_leftImg8bit.png")
        splits[split] = [(images[frame], labels[frame]) for frame in sorted(images.keys() & labels.keys())]
    return splits, problems


def _by_frame(paths: Iterable[Path]) -> tuple[dict[tuple[str, str], Path], list[str]]:
    """The files by frame, and a message for every file that cannot be read or is a second one of its frame."""
    found: dict[tuple[str, str], Path] = {}
    problems = []
    for path in sorted(paths):
        if not image_files.is_regular(path):
            problems.append(f"{path} is not a readable file")
        elif found.setdefault(_frame(path), path) != path:
            problems.append(f"{found[_frame(path)]} and {path} belong to the same frame")
    return found, problems


def _frame(path: Path) -> tuple[str, str]:
    """(city, `city_sequence_frame`): what an image and its label have in common."""
    return path.parent.name, re.split("_(?:leftImg8bit|gtFine)", path.name)[0]


def _fill(src: Path, root: Path, splits: dataset_files.Splits, progress: Progress) -> None:
    """Writes the missing labelTrainIds below `root`, then its lists."""
    table = np.full(256, dataset_files.UNKNOWN, np.uint8)
    table[:34] = IGNORE_INDEX
    table[IGNORE_INDEX] = IGNORE_INDEX
    table[list(CITYSCAPES_IDS)] = range(len(CITYSCAPES_IDS))

    problems: list[str] = []
    targets = {label: _target(root / label.relative_to(src)) for pairs in splits.values() for _, label in pairs}
    lines: dict[str, list[str]] = {split: [] for split in splits}
    for split, image, label in dataset_files.all_pairs(splits):
        try:
            names = image.relative_to(src).as_posix(), targets[label].relative_to(root).as_posix()
            lines[split].append(dataset_files.list_line(*names))
        except ValueError as error:
            problems.append(str(error))
    dataset_files.raise_together(problems, f"Cityscapes in {src} has names that lists cannot contain")
    dataset_files.check_lists(root, lines, CLASS_NAMES)
    check_outputs([str(target) for label, target in targets.items() if target != label])

    for _, image, label in progress(dataset_files.all_pairs(splits), desc="prepare", unit="file"):
        target = targets[label]
        try:
            if label.name.endswith(_IDS):
                ids = dataset_files.read_label(label, dataset_files.image_size(image, whole=False))
                ids = dataset_files.look_up(table, ids, label, "0..33")
                target.parent.mkdir(parents=True, exist_ok=True)
                dataset_files.write_png(target, ids)
            elif target != label:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(label, target)
        except ValueError as error:
            problems.append(str(error))
    dataset_files.raise_together(problems, f"Cityscapes in {src} has labels that cannot be converted")
    dataset_files.write_lists(root, lines, CLASS_NAMES)


def _target(label: Path) -> Path:
    """The path of a label's train ids."""
    return label.with_name(label.name[: -len(_IDS)] + _TRAIN_IDS) if label.name.endswith(_IDS) else label
