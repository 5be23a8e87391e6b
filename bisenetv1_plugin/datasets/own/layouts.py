"""Finds the images and labels in a folder, by the usual layouts of segmentation data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable, Sequence

from bisenetv1_plugin.datasets.own import pairing, walk
from bisenetv1_plugin.datasets.own.lists import ImageNames, Pair, Pairs, read_list
from bisenetv1_plugin.datasets.own.path_words import SPLITS, PathInfo, path_info
from bisenetv1_plugin.datasets.text import first_few, shorten
from bisenetv1_plugin.errors import InputError


@dataclass
class Layout:
    """The images and labels of a folder.

    Attributes:
        kind: name of the layout, for messages.
        pairs: images with their labels by `train` and `val`; or all by ``, if the data have no splits.
        notes: sentences on what was left out, and why.
    """

    kind: str
    pairs: dict[str, list[Pair]]
    notes: list[str] = field(default_factory=list)


def find(root: Path, files: Sequence[Path]) -> Layout:
    """Pairs the images and labels of a folder.

    `train.txt` and `val.txt` with an image and a label per line are used first. Otherwise `pairing.pair` matches files
    by folders and names, and lists that name only images (VOC's `ImageSets/Segmentation`) give the splits. Without
    label folders, files such as `a_mask.png` beside `a.jpg` are the labels.

    Args:
        root: the folder.
        files: the result of `walk.files_under`.

    Raises:
        InputError: a list is invalid or empty, or an image could have several labels.
    """
    lists = _read_lists(root, files)
    named = {split: content for split, content in lists.items() if isinstance(content, ImageNames)}
    ready = {split: content.pairs for split, content in lists.items() if isinstance(content, Pairs)}
    if ready:
        return Layout("lists of images and labels", merge_splits(ready)[0])

    pictures = [path_info(path) for path in files if walk.is_picture(root, path)]
    kind, images, labels = _images_and_labels(pictures)
    found = pairing.pair(images, labels)
    notes: list[str] = []
    pairs: dict[str, list[Pair]] = {}
    if named:
        finder = pairing.PictureFinder(root, images)
        label_of = {image.path: label for image, label in found.pairs}
        for split, names in named.items():
            pairs[split], unused = _pairs_from_list(split, names, finder, label_of, root)
            notes += unused
        listed = {pair.image for of_split in pairs.values() for pair in of_split}
        spare = [str(image.path) for image, _ in found.pairs if root / image.path not in listed]
        notes += omission_notes(spare, "images with labels that are in no list")
    else:
        for image, label in found.pairs:
            pairs.setdefault(image.split or label.split, []).append(Pair(root / image.path, root / label.path))
        notes += _leftover_notes(pictures, images, labels, found)
    if found.pairs and not found.same_names:
        image, label = found.pairs[0]
        notes.append(f"Labels and images have different names: the label of {image.path} is {label.path}, and so on.")
    pairs, split_notes = merge_splits(pairs)
    return Layout(kind, pairs, notes + split_notes)


def merge_splits(pairs: dict[str, list[Pair]]) -> tuple[dict[str, list[Pair]], list[str]]:
    """The pairs by `train` and `val`, or all by `` if one of these is missing; and notes on the others.

    A test split is left out, unless there is no other. So is an image outside of `train` and `val`, if there are both.
    """
    others = {split: found for split, found in pairs.items() if split != "test"} or pairs
    count = len(pairs.get("test", [])) if others is not pairs else 0
    notes = [f"{count} images of a test split are not used: keep them for your own test."] if count else []
    if not ("train" in others and "val" in others):
        return {"": [pair for found in others.values() for pair in found]}, notes
    spare = [pair.image.name for split, found in others.items() if split not in ("train", "val") for pair in found]
    if spare:
        notes.append(f"{len(spare)} images are neither in train nor in val, and are not used ({first_few(spare)}).")
    return {split: others[split] for split in ("train", "val")}, notes


def _read_lists(root: Path, files: Sequence[Path]) -> dict[str, ImageNames | Pairs]:
    """The lists in the folder, or else in VOC's `ImageSets/Segmentation`, by split."""
    found: dict[str, Path] = {}
    for path in files:
        voc = tuple(path.parts[-3:-1]) == ("ImageSets", "Segmentation")
        split = SPLITS.get(path.stem.lower())
        if path.suffix == ".txt" and split in ("train", "val") and (len(path.parts) == 1 or voc):
            best = found.get(split)
            found[split] = path if best is None or len(path.parts) < len(best.parts) else best
    lists = {split: read_list(root / path, root) for split, path in sorted(found.items())}
    if len({type(listed) for listed in lists.values()}) > 1:
        raise InputError(f"{root}: only one of train.txt and val.txt names labels: write both in the same form.")
    return lists


def _images_and_labels(pictures: Sequence[PathInfo]) -> tuple[str, list[PathInfo], list[PathInfo]]:
    """The name of the layout, the images and the labels."""
    kind = "folders of images and labels"
    candidates = pairing.images_among(pictures)
    images = [one for one in candidates if one.role == "image"] or [one for one in candidates if not one.role]
    labels = [one for one in pictures if one.role == "label"]
    if not labels:
        kind = "labels beside their images"
        labels = [one for one in pictures if pairing.LABEL_ENDING.search(one.name)]
        taken = {one.path for one in labels}
        images = [one for one in images if one.path not in taken]
    if any("jpegimages" in map(str.lower, one.path.parts) for one in images):
        kind = "VOC"
    return kind, images, labels


def _pairs_from_list(
    split: str, names: ImageNames, finder: pairing.PictureFinder, label_of: dict[Path, PathInfo], root: Path
) -> tuple[list[Pair], list[str]]:
    """The pairs that a list names, and notes on names that are no pair."""
    found: dict[Path, Pair] = {}
    missing, unclear, twice = [], [], []
    for name, meant in zip(names, finder.find(names, names.path, split)):
        if len(meant) > 1:
            unclear.append(shorten(name))
        elif not meant or meant[0].path not in label_of:
            missing.append(shorten(name))
        elif meant[0].path in found:
            twice.append(shorten(name))
        else:
            path = meant[0].path
            found[path] = Pair(root / path, root / label_of[path].path)
    notes = [
        *omission_notes(missing, f"names in {split}.txt without an image or label"),
        *omission_notes(unclear, f"names in {split}.txt that several images have"),
        *omission_notes(twice, f"repeated names in {split}.txt"),
    ]
    return list(found.values()), notes


def _leftover_notes(
    pictures: Sequence[PathInfo], images: Sequence[PathInfo], labels: Sequence[PathInfo], found: pairing.Pairing
) -> list[str]:
    """Notes on the pictures that are in no pair, each picture once."""
    used = {one.path for pair in found.pairs for one in pair}
    done = used | {image.path for image in found.unclear}
    kinds = {label.rank for _, label in found.pairs}
    spare = [label for label in labels if label.path not in used]
    notes = omission_notes(_paths(i for i in images if i.path not in done), "images without a label")
    notes += omission_notes(
        _paths(label for label in spare if label.rank in kinds or not kinds), "labels without an image"
    )
    if kinds:
        folder = found.pairs[0][1].path.parent
        others = _paths(label for label in spare if label.rank not in kinds)
        notes += omission_notes(others, f"other labels than those in {folder}")
    notes += omission_notes(_paths(found.unclear), "images with more than one possible label")
    known = {one.path for one in (*images, *labels)}
    return notes + omission_notes(_paths(one for one in pictures if one.path not in known), "pictures in other folders")


def _paths(pictures: Iterable[PathInfo]) -> list[str]:
    return [str(one.path) for one in pictures]


def omission_notes(names: Sequence[str], what: str) -> list[str]:
    """A note on what was left out, if anything was."""
    return [f"{what}, left out: {len(names)} ({first_few(names)})"] if names else []
