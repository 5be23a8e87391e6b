"""Labels from COCO's annotations: instances with polygons or RLE, and panoptic segmentations."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any, NamedTuple, Sequence

import numpy as np

from bisenetv1_plugin import image_files
from bisenetv1_plugin.datasets.classes import IGNORE_INDEX
from bisenetv1_plugin.datasets.own import coco_json, coco_rle, pairing, walk
from bisenetv1_plugin.datasets.own.census import codes_of
from bisenetv1_plugin.datasets.own.layouts import Layout, merge_splits, omission_notes
from bisenetv1_plugin.datasets.own.lists import Pair
from bisenetv1_plugin.datasets.own.naming import UniqueNames
from bisenetv1_plugin.datasets.own.path_words import PathInfo, path_info
from bisenetv1_plugin.datasets.prepare.dataset_files import write_png
from bisenetv1_plugin.datasets.text import shorten
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.libraries import install_command
from bisenetv1_plugin.progress import Progress, silent

_MANY = 20  # with more JSON files than this, only those with names like COCO's are opened
_MOST_PIXELS = 1 << 27  # of a label, if its image cannot be read
_FARTHEST = 16  # times the longer side of its image: how far outside a polygon may reach
_SPLIT_WORDS = (("train", "train"), ("val", "val"))


class Annotations(NamedTuple):
    """A JSON file of COCO annotations, whether it is panoptic, and the split in its name."""

    path: Path
    content: dict[str, Any]
    panoptic: bool
    split: str


class _Entry(NamedTuple):
    """An annotation, and its place in the JSON, for messages."""

    where: str
    annotation: dict[str, Any]


class _Job(NamedTuple):
    """A label to draw: the image's place in the JSON, its entry, split and path, and its annotations."""

    where: str
    image: dict[str, Any]
    split: str
    path: Path
    entries: list[_Entry]


def find(root: Path, files: Sequence[Path]) -> tuple[list[Annotations], list[str]]:
    """The annotations in a folder, one file for each split, and error messages for files that cannot be used.

    Of several files for a split, panoptic ones come first, then instances. The error messages are returned, because a
    folder with other labels does not need the files.
    """
    candidates = [path for path in files if path.suffix.lower() == ".json"]
    if len(candidates) > _MANY:
        candidates = [p for p in candidates if any(w in p.name.lower() for w in ("instances", "panoptic", "coco"))]
    found: dict[str, Annotations] = {}
    faults: list[str] = []
    for path in sorted(candidates, key=lambda path: ("panoptic" not in path.name, "instances" not in path.name, path)):
        if "test" in path.name.lower():
            continue
        split = next((split for word, split in _SPLIT_WORDS if word in path.as_posix().lower()), "")
        try:
            content = coco_json.read(root / path)
        except InputError as error:
            faults.append(str(error))
            continue
        if content is not None:
            panoptic = coco_json.is_panoptic(content)
            found.setdefault(split, Annotations(root / path, content, panoptic, split))
    if len({annotations.panoptic for annotations in found.values()}) > 1:
        found = {split: one for split, one in found.items() if one.panoptic}
    return list(found.values()), faults


def write_labels(
    found: Sequence[Annotations],
    root: Path,
    files: Sequence[Path],
    folder: Path,
    progress: Progress = silent,
) -> tuple[Layout, list[str]]:
    """Draws a label PNG into `folder` for every image of COCO annotations.

    Instances: class 0 is the background, then the categories by their ids; small objects are drawn over large ones.
    Panoptic: the categories by their ids, and 255 where no segment is.

    Args:
        found: from `find`.
        root, files: the data folder and its files, among which the images are found by name.
        folder: the folder for the labels.
        progress: see `progress.Progress`.

    Returns:
        The Layout of images and new labels, and the names of the classes.

    Raises:
        InputError: pycocotools is needed but not installed, or the annotations are invalid.
    """
    if not any(annotations.panoptic for annotations in found):
        _pycocotools_mask()  # an error comes before anything is drawn
    names, index_of = _classes(found)
    places = [path_info(path) for path in files]
    segments = _segment_files(found, root, places)
    jobs, notes = _jobs(found, root, places, segments)
    label_names = UniqueNames()
    pairs: dict[str, list[Pair]] = {one.split: [] for one in found}
    for job in progress(jobs, desc="draw", unit="file"):
        if job.split in segments:
            label = _draw_panoptic(job.entries[0], index_of, root, segments[job.split])
        else:
            label = _draw_instances(job.entries, _size(job.where, job.image, root / job.path), index_of)
        wanted = PurePosixPath(job.split, job.image["file_name"].lstrip("/"))
        target = folder / label_names.assign(wanted.with_name(walk.stem(Path(wanted.name)) + ".png"))
        target.parent.mkdir(parents=True, exist_ok=True)
        write_png(target, label)
        pairs[job.split].append(Pair(root / job.path, target))
    kind = "panoptic" if found[0].panoptic else "instances"
    pairs, split_notes = merge_splits(pairs)
    return Layout(f"COCO ({kind})", pairs, notes + split_notes), names


def _classes(found: Sequence[Annotations]) -> tuple[list[str], dict[int, int]]:
    """The names of the classes, and the class of every category's id.

    Raises:
        InputError: the files conflict, or have too many categories.
    """
    names_of: dict[int, str] = {}
    for one in found:
        for category in one.content["categories"]:
            number, name = int(category["id"]), str(category["name"])
            if names_of.setdefault(number, name) != name:
                raise InputError(
                    f"{one.path}: category {number} is {name}, but {names_of[number]} in {found[0].path}: use one name."
                )
    background = [] if found[0].panoptic else ["background"]
    names = background + [names_of[number] for number in sorted(names_of)]
    if len(names) > IGNORE_INDEX:
        raise InputError(f"{found[0].path} has {len(names)} categories, but a label of one byte has 255: use fewer.")
    return names, {number: index for index, number in enumerate(sorted(names_of), start=len(background))}


def _segment_files(found: Sequence[Annotations], root: Path, places: Sequence[PathInfo]) -> dict[str, dict[str, Path]]:
    """The `_annotation_files` of panoptic annotations, by split."""
    by_name: dict[str, list[PathInfo]] = {}
    for each in places:
        by_name.setdefault(each.path.name, []).append(each)
    return {one.split: _annotation_files(one, found, root, by_name) for one in found if one.panoptic}


def _jobs(
    found: Sequence[Annotations], root: Path, places: Sequence[PathInfo], segments: dict[str, dict[str, Path]]
) -> tuple[list[_Job], list[str]]:
    """The labels to draw, and notes on images without a label.

    Raises:
        InputError: two entries are of the same image.
    """
    annotated = {path for of_split in segments.values() for path in of_split.values()}
    candidates = pairing.images_among(each for each in places if each.path not in annotated)
    finder = pairing.PictureFinder(root, candidates, splits={one.split for one in found} if len(found) > 1 else ())
    jobs: list[_Job] = []
    missing: list[str] = []
    unclear: list[str] = []
    unannotated: list[str] = []
    for one in found:
        images = one.content["images"]
        entries_of = _entries_by_image(one)
        indices: dict[Path, int] = {}
        all_meant = finder.find([image["file_name"] for image in images], one.path.relative_to(root), one.split, True)
        for index, (image, meant) in enumerate(zip(images, all_meant)):
            where, name = f"{one.path}: images[{index}]", shorten(image["file_name"])
            if len(meant) != 1:
                (unclear if meant else missing).append(name)
            elif one.panoptic and image["id"] not in entries_of:
                unannotated.append(name)
            elif indices.setdefault(meant[0].path, index) != index:
                raise InputError(f"{where} and images[{indices[meant[0].path]}] are both {name}: keep one of them.")
            else:
                jobs.append(_Job(where, image, one.split, meant[0].path, entries_of.get(image["id"], [])))
    notes = [
        *omission_notes(missing, "annotated images that do not exist"),
        *omission_notes(unclear, "annotated images with a name that several files have"),
        *omission_notes(unannotated, "images without an annotation"),
    ]
    return jobs, notes


def _entries_by_image(annotations: Annotations) -> dict[Any, list[_Entry]]:
    """The annotations by the image's id."""
    found: dict[Any, list[_Entry]] = {}
    for index, annotation in enumerate(annotations.content["annotations"]):
        entry = _Entry(f"{annotations.path}: annotations[{index}]", annotation)
        found.setdefault(annotation["image_id"], []).append(entry)
    return found


def _annotation_files(
    one: Annotations, found: Sequence[Annotations], root: Path, by_name: dict[str, list[PathInfo]]
) -> dict[str, Path]:
    """The existing files of a panoptic JSON's annotations, by their names in the JSON.

    Files in a folder with the name of the JSON come first, then files in a label folder, the nearest to the JSON. Files
    in folders of images, of another split or of another JSON are never used.

    Raises:
        InputError: a name may mean either of two files.
    """
    files = {}
    json_folder = one.path.parent.relative_to(root).parts
    stem, others = one.path.stem, {other.path.stem for other in found} - {one.path.stem}

    def may_be(place: PathInfo) -> bool:
        if stem in place.path.parts:
            return True
        return place.role != "image" and place.split in ("", one.split) and others.isdisjoint(place.path.parts)

    def nearness(place: PathInfo) -> tuple[bool, bool, int]:
        shared = os.path.commonprefix([place.path.parts[:-1], json_folder])
        return stem in place.path.parts, place.role == "label", len(shared)

    for index, annotation in enumerate(one.content["annotations"]):
        name = annotation["file_name"]
        wanted = Path(name.lstrip("/")).parts
        named = [place for place in by_name.get(wanted[-1], ()) if place.path.parts[-len(wanted) :] == wanted]
        fit = list(filter(may_be, named))
        best = max(map(nearness, fit), default=None)
        fit = [place for place in fit if nearness(place) == best]
        if len(fit) > 1:
            raise InputError(
                f"{one.path}: annotations[{index}] names {shorten(name)}, which may be {fit[0].path} or "
                f"{fit[1].path}: put the annotations into a folder {stem} beside the JSON."
            )
        if fit:
            files[name] = fit[0].path
    return files


def _pycocotools_mask() -> ModuleType:
    try:
        from pycocotools import mask
    except ImportError as error:
        raise InputError(f"COCO's polygons and RLE need pycocotools ({error}): {install_command('coco')}.") from error
    return mask


def _size(where: str, image: dict[str, Any], path: Path) -> tuple[int, int]:
    """(width, height) in the annotations, which must be the size of the image file."""
    size = coco_json.size_of(where, image)
    try:
        head = image_files.header(path)
    except image_files.READ_ERRORS:  # reported when the images are read
        if size[0] * size[1] > _MOST_PIXELS:
            raise InputError(
                f"{where} has {size[0]}x{size[1]} pixels, but at most {_MOST_PIXELS} are allowed: correct its size."
            ) from None
        return size
    if size not in (head.stored_size, head.upright_size):
        raise InputError(
            f"{where} is {size[0]}x{size[1]}, its file {path} {'x'.join(map(str, head.upright_size))}: "
            "both must have the same size."
        )
    return size


def _draw_instances(entries: Sequence[_Entry], size: tuple[int, int], index_of: dict[int, int]) -> np.ndarray:
    """A label, uint8 [H, W]: the class of every object, and 0 elsewhere."""
    width, height = size
    label = np.zeros((height, width), np.uint8)

    def area(entry: _Entry) -> float:
        value = entry.annotation.get("area") or 0
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise InputError(f"{entry.where}.area is {coco_json.describe(value)}: it must be a number.")
        return value

    for entry in sorted(entries, key=area, reverse=True):
        shape = entry.annotation.get("segmentation")
        where = f"{entry.where}.segmentation"
        if not shape:
            continue
        if isinstance(shape, list):
            mask = _polygons(where, shape, height, width)
        elif isinstance(shape, dict):
            mask = coco_rle.decode(where, shape, height, width)
        else:
            raise InputError(f"{where} is {coco_json.describe(shape)}: it must be polygons or RLE.")
        if mask is not None:
            label[mask] = index_of[int(entry.annotation["category_id"])]
    return label


def _polygons(where: str, shapes: list[Any], height: int, width: int) -> np.ndarray | None:
    """A mask, bool [H, W], True inside any polygon; None if no polygon has an inside."""
    mask = _pycocotools_mask()
    rings = []
    for index, shape in enumerate(shapes):
        try:
            ring = np.array(shape, float)
        except (OverflowError, TypeError, ValueError):
            ring = np.zeros(1)
        # pycocotools walks along every edge, however long it is
        if ring.ndim != 1 or len(ring) % 2 or not (np.abs(ring) <= _FARTHEST * max(height, width)).all():
            raise InputError(f"{where}[{index}] is not a polygon: it must be a list of x, y, x, y, ... in pixels.")
        if len(ring) >= 6:  # pycocotools would read the four numbers of two points as a box
            rings.append(ring.tolist())
    return mask.decode(mask.merge(mask.frPyObjects(rings, height, width))).astype(bool) if rings else None


def _draw_panoptic(entry: _Entry, index_of: dict[int, int], root: Path, files: dict[str, Path]) -> np.ndarray:
    """A label, uint8 [H, W]: the class of every segment, and 255 elsewhere. `files`: from `_annotation_files`."""
    name = entry.annotation["file_name"]
    try:
        if name not in files:
            raise FileNotFoundError("it does not exist")
        with image_files.open_image(root / files[name]) as png:
            segments = np.asarray(png.convert("RGB"))
    except image_files.READ_ERRORS as error:
        raise InputError(
            f"{entry.where} names {shorten(name)}, which cannot be read ({error}): unpack it beside the JSON."
        ) from error
    ids = codes_of(segments[..., ::-1])  # the lowest byte is red
    known = {int(s["id"]): index_of[int(s["category_id"])] for s in entry.annotation["segments_info"]}
    values, places_of = np.unique(ids, return_inverse=True)
    if known and known.keys().isdisjoint(values.tolist()):
        raise InputError(
            f"{entry.where}.segments_info has none of the segments in {root / files[name]}: "
            "does it belong to another picture?"
        )
    table = np.array([known.get(int(value), IGNORE_INDEX) for value in values], np.uint8)
    return table[places_of].reshape(ids.shape)
