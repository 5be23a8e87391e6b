"""Draws labels from labelme's JSON files, shape over shape in their order, as labelme does."""

from __future__ import annotations

import base64
import binascii
import io
import os
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple, Sequence

import numpy as np

from bisenetv1_plugin import files as outputs
from bisenetv1_plugin import image_files
from bisenetv1_plugin.datasets.classes import IGNORE_INDEX
from bisenetv1_plugin.datasets.own import coco_json, labelme_shapes, tables, walk
from bisenetv1_plugin.datasets.own.labelme_shapes import Shape
from bisenetv1_plugin.datasets.own.layouts import Layout, merge_splits, omission_notes
from bisenetv1_plugin.datasets.own.lists import Pair
from bisenetv1_plugin.datasets.own.naming import UniqueNames
from bisenetv1_plugin.datasets.own.options import Options
from bisenetv1_plugin.datasets.own.path_words import path_info
from bisenetv1_plugin.datasets.prepare.dataset_files import write_png
from bisenetv1_plugin.datasets.text import shorten
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.progress import Progress, silent

IGNORED = "__ignore__"  # labelme's name for shapes that are not a class
_BACKGROUND = ("background", "_background_")
_BACKGROUND_SHARE = 0.05  # a larger share of pixels without a label is background
_SHOWN = 3


class _Job(NamedTuple):
    """A label to draw. Paths are relative to the data folder; `embedded`: the JSON contains the picture."""

    json: Path
    picture: Path
    embedded: bool
    size: tuple[int, int]
    shapes: list[Shape]


class LabelmeFiles(NamedTuple):
    """The labelme files of a folder.

    Attributes:
        jobs: the labels to draw.
        faults: an error message for each file that cannot be used.
        classes: the class lists in files written by `infer`.
        points: number of shapes that are points, which are ignored because they have no area.
        outside: number of corners outside their pictures.
    """

    jobs: list[_Job]
    faults: list[str]
    classes: set[tuple[str, ...]]
    points: int
    outside: int


def find(root: Path, files: Sequence[Path]) -> LabelmeFiles:
    """Reads the labelme files of a folder, and finds their pictures; `files`: the result of `walk.files_under`."""
    known = set(files)
    by_name: dict[str, list[Path]] = {}
    for path in files:
        if path.suffix.lower() in walk.SUFFIXES:
            by_name.setdefault(path.name, []).append(path)
    jobs: dict[Path, _Job] = {}
    faults: list[str] = []
    classes: set[tuple[str, ...]] = set()
    points = outside = 0
    for path in files:
        if path.suffix.lower() != ".json":
            continue
        try:
            content = _read(root / path)
            if content is None:
                continue
            job = _job(root, path, content, known, by_name)
            if jobs.setdefault(job.picture, job) is not job:
                first = jobs[job.picture].json
                raise InputError(f"{root / path} and {first} are both of {job.picture}: keep one of them.")
        except InputError as error:
            faults.append(str(error))
            continue
        points += sum(not shape.has_area for shape in job.shapes)
        outside += sum(shape.outside(*job.size) for shape in job.shapes)
        listed = content.get("classes")
        if isinstance(listed, list) and listed and all(isinstance(name, str) for name in listed):
            classes.add(tuple(listed))
    return LabelmeFiles(list(jobs.values()), faults, classes, points, outside)


def write_labels(
    found: LabelmeFiles, root: Path, files: Sequence[Path], folder: Path, options: Options, progress: Progress = silent
) -> tuple[Layout, list[str]]:
    """Draws a label PNG into `folder/labels` for every picture; embedded pictures go into `folder/images`.

    Returns:
        The Layout of pictures and new labels, and the names of the classes.

    Raises:
        InputError: files cannot be used without `skip_broken`, or the class names do not fit.
    """
    if found.faults and not options.skip_broken:
        more = f" ... and {len(found.faults) - _SHOWN} more." if len(found.faults) > _SHOWN else ""
        raise InputError(f"{' '.join(found.faults[:_SHOWN])}{more} Correct these files, or give --skip_broken.")
    notes = omission_notes(found.faults, "labelme files that cannot be used")
    names, number_of, unlabeled, note = _number_classes(found, root, files, options)
    notes.append(note)
    if found.points:
        notes.append(f"{found.points} shapes are points, which have no area: they are not in the labels.")
    if found.outside:
        notes.append(f"{found.outside} corners of shapes are outside their pictures: the parts outside were cut off.")
    with_label = {job.picture for job in found.jobs}
    unlabeled_images = [str(path) for path in files if path.suffix.lower() in walk.SUFFIXES and path not in with_label]
    notes += omission_notes(unlabeled_images, "images without a label")

    pairs: dict[str, list[Pair]] = {}
    label_names, image_names = UniqueNames(), UniqueNames()
    for job in progress(found.jobs, desc="draw", unit="file"):
        label = labelme_shapes.draw(job.shapes, job.size, number_of, unlabeled, options.line_width)
        target = folder / "labels" / label_names.assign(PurePosixPath(job.picture))
        target.parent.mkdir(parents=True, exist_ok=True)
        write_png(target, label)
        image = root / job.picture
        if job.embedded:
            name = image_names.assign(PurePosixPath(job.picture))
            image = folder / "images" / name.with_suffix(job.picture.suffix)
            content = _read(root / job.json)
            assert content is not None, "`find` has read it"
            outputs.write(image, _decode_embedded(root / job.json, content))
        split = path_info(job.picture).split or path_info(job.json).split
        pairs.setdefault(split, []).append(Pair(image, target))
    pairs, split_notes = merge_splits(pairs)
    rest = "ignored" if unlabeled == IGNORE_INDEX else "background"
    return Layout(f"labelme, pixels without a label are {rest}", pairs, notes + split_notes), names


def _number_classes(
    found: LabelmeFiles, root: Path, files: Sequence[Path], options: Options
) -> tuple[list[str], dict[str, int], int, str]:
    """The class names, the number of each, the number of unlabeled pixels, and a note on these.

    Raises:
        InputError: there are too many classes, or the background is needed but not among them.
    """
    names, fixed = _class_names(found, options.classes or tables.names_in_folder(root, files))
    share = _unlabeled_share(found.jobs, options)
    rest = options.unlabeled or ("background" if share > _BACKGROUND_SHARE else "ignored")
    background = next((name for name in names if name.lower() in _BACKGROUND), None)
    if rest == "background" and background is None:
        if fixed:
            raise InputError(
                f"{share:.1%} of the pixels have no label, but background is not among the classes {', '.join(names)}: "
                "give --unlabeled ignored, or name all classes with --classes, including background."
            )
        background = "background"
        names = [background, *names]
    if len(names) > IGNORE_INDEX:
        raise InputError(f"the labelme files name {len(names)} classes, but a label of one byte has 255: use fewer.")
    numbers = {name: number for number, name in enumerate(names)}
    unlabeled = numbers[background] if rest == "background" and background else IGNORE_INDEX
    note = f"{share:.1%} of the pixels have no label: they are {rest}. --unlabeled sets background or ignored."
    return names, {IGNORED: IGNORE_INDEX, **numbers}, unlabeled, note


def _read(path: Path) -> dict[str, Any] | None:
    """The content of a labelme file; None for any other file.

    Raises:
        InputError: the file is labelme's but not valid JSON.
    """
    try:
        raw = image_files.read_bytes(path)
    except (OSError, ValueError):
        return None
    if b'"shapes"' not in raw:
        return None
    try:
        content = coco_json.parse(raw)
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}): save it again in labelme.") from error
    if not isinstance(content, dict) or "shapes" not in content or "imagePath" not in content:
        return None
    return content


def _job(root: Path, path: Path, content: dict[str, Any], known: set[Path], by_name: dict[str, list[Path]]) -> _Job:
    """Checks the content of a labelme file.

    Raises:
        InputError: the picture is missing, or a shape is invalid.
    """
    where = f"{root / path}: "
    picture = _picture(where, path, content, known, by_name)
    embedded = picture not in known
    data = _decode_embedded(root / path, content) if embedded else b""
    try:
        if embedded:
            with image_files.open_image(io.BytesIO(data)) as image:
                image.load()
                size, picture = image.size, picture.with_suffix(f".{(image.format or 'png').lower()}")
        else:
            size = image_files.header(root / picture).upright_size
    except image_files.READ_ERRORS as error:
        of = "its imageData" if embedded else f"the picture {root / picture}"
        raise InputError(f"{where}{of} cannot be read ({error}): save it again.") from error
    stated = tuple(content.get(key) for key in ("imageWidth", "imageHeight"))
    if None not in stated and stated != size:
        raise InputError(
            f"{where}imageWidth and imageHeight are {' and '.join(map(coco_json.describe, stated))}, but {picture} has "
            f"{size[0]}x{size[1]} pixels: is it another picture?"
        )
    entries = coco_json.objects(where, content, "shapes")
    shapes = [labelme_shapes.check(f"{where}shapes[{index}]", entry, size) for index, entry in enumerate(entries)]
    return _Job(path, picture, embedded, size, shapes)


def _picture(where: str, path: Path, content: dict[str, Any], known: set[Path], by_name: dict[str, list[Path]]) -> Path:
    """The picture of a JSON: in its own folder, else the only one of this name, else the embedded one."""
    named = content["imagePath"]
    if not isinstance(named, str) or not PureWindowsPath(named).name:
        raise InputError(f"{where}imagePath is {coco_json.describe(named)}: it must be the name of a picture.")
    written = PureWindowsPath(named).as_posix()  # Windows writes backslashes
    sibling = Path(os.path.normpath(path.parent / written))
    if sibling in known:
        return sibling
    name = PurePosixPath(written).name
    found = by_name.get(name, [])
    near = [other for other in found if other.parent == path.parent] or found
    if len(near) == 1:
        return near[0]
    if near:
        raise InputError(f"{where}imagePath may be {near[0]} or {near[1]}: put the picture beside the JSON.")
    if content.get("imageData"):
        if not labelme_shapes.is_line(name):
            raise InputError(
                f"{where}imagePath is {coco_json.describe(named)}, which is not a name for a list: correct it."
            )
        return path.parent / name
    raise InputError(
        f"{where}imagePath is {coco_json.describe(named)}, but there is no such picture: put it beside the JSON."
    )


def _decode_embedded(path: Path, content: dict[str, Any]) -> bytes:
    """The image file embedded in a JSON."""
    try:
        return base64.b64decode(content["imageData"], validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise InputError(f"{path}: its imageData is not base64 ({error}): save it again in labelme.") from error


def _class_names(found: LabelmeFiles, listed: Sequence[str] | None) -> tuple[list[str], bool]:
    """The class names in order, and whether a list sets that order.

    Raises:
        InputError: the name of a shape is not in the list.
    """
    if listed:
        for job in found.jobs:
            for index, shape in enumerate(job.shapes):
                if shape.has_area and shape.label not in (*listed, IGNORED):
                    raise InputError(
                        f"{job.json}: shapes[{index}] is called {shorten(shape.label)}, which is not among the "
                        f"classes {shorten(', '.join(listed))}: correct one of them."
                    )
        return list(listed), True
    first = list(next(iter(found.classes))) if len(found.classes) == 1 else []
    used = {shape.label for job in found.jobs for shape in job.shapes if shape.has_area}
    return first + sorted(used - {*first, IGNORED}, key=_order), bool(first)


def _order(name: str) -> tuple[bool, int, str]:
    """A sort key: the background first, and 2 before 10."""
    return name.lower() not in _BACKGROUND, len(name) * name.isdecimal(), name


def _unlabeled_share(jobs: Sequence[_Job], options: Options) -> float:
    """The share of pixels outside all shapes."""
    bare = total = 0
    for job in jobs:
        numbers = dict.fromkeys((shape.label for shape in job.shapes), 0)
        label = labelme_shapes.draw(job.shapes, job.size, numbers, 1, options.line_width)
        bare, total = bare + int(np.count_nonzero(label)), total + label.size
    return bare / max(1, total)
