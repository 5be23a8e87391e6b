"""Labels from COCO's annotations: instances with polygons or RLE, and panoptic segmentations."""

import json
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence

import cv2
import numpy as np
from PIL import Image

from bisenetv1_plugin.datasets import reading
from bisenetv1_plugin.datasets.classes import IGNORE_INDEX
from bisenetv1_plugin.datasets.own.layouts import Layout
from bisenetv1_plugin.datasets.own.lists import Pair
from bisenetv1_plugin.errors import InputError

_MANY = 20  # with more JSON files than this, only those that are called like COCO's are opened
_SPLIT_WORDS = (("train", "train"), ("val", "val"))


class Annotations(NamedTuple):
    """A JSON of COCO's form: its path, its content, whether it is panoptic, and the split its name speaks of."""

    path: Path
    content: Dict[str, Any]
    panoptic: bool
    split: str


def find(root: Path, files: Sequence[Path]) -> List[Annotations]:
    """The annotations of a folder, one for each split; of several for a split, panoptic, then instances come first."""
    candidates = [path for path in files if path.suffix.lower() == ".json"]
    if len(candidates) > _MANY:
        candidates = [p for p in candidates if any(w in p.name.lower() for w in ("instances", "panoptic", "coco"))]
    found: Dict[str, Annotations] = {}
    for path in sorted(candidates, key=lambda path: ("panoptic" not in path.name, "instances" not in path.name, path)):
        content = _read(root / path)
        if content is not None:
            split = next((split for word, split in _SPLIT_WORDS if word in path.as_posix().lower()), "")
            if "test" in path.name.lower():
                continue
            annotations = content["annotations"]
            panoptic = bool(annotations) and "segments_info" in annotations[0]
            found.setdefault(split, Annotations(root / path, content, panoptic, split))
    if len({annotations.panoptic for annotations in found.values()}) > 1:
        found = {split: one for split, one in found.items() if one.panoptic}
    return list(found.values())


def write_labels(found: Sequence[Annotations], root: Path, files: Sequence[Path], folder: Path, progress=None):
    """Draws a label PNG into `folder` for every image of COCO annotations.

    Instances: class 0 is the background, then the categories by their ids; small objects are drawn over large ones.
    Panoptic: the categories by their ids, and 255 where no segment is.

    Args:
        found: of `find`.
        root, files: the folder, and the files in it, in which the images are looked for by their names.
        folder: where the labels go.
        progress: called with (images done, images in all).

    Returns:
        The Layout of images and new labels, and the names of the classes.

    Raises:
        InputError: pycocotools is not installed and needed, or the annotations are not what COCO's are.
    """
    if not any(annotations.panoptic for annotations in found):
        _masks()  # before anything is drawn
    categories = sorted({(int(c["id"]), str(c["name"])) for one in found for c in one.content["categories"]})
    panoptic = found[0].panoptic
    names = ([] if panoptic else ["background"]) + [name for _, name in categories]
    if len(names) > IGNORE_INDEX:
        raise InputError(f"{found[0].path} has {len(names)} categories, and a label of one byte has 255: choose fewer.")
    index_of = {number: index + (not panoptic) for index, (number, _) in enumerate(categories)}
    places = _Places(root, files)
    pairs: Dict[str, List[Pair]] = {}
    missing: List[str] = []
    total, done = sum(len(one.content["images"]) for one in found), 0
    for one in found:
        of_image: Dict[Any, List[Dict[str, Any]]] = {}
        for annotation in one.content["annotations"]:
            of_image.setdefault(annotation["image_id"], []).append(annotation)
        pairs[one.split] = []
        for image in one.content["images"]:
            path = places.of(image["file_name"])
            if path is None:
                missing.append(image["file_name"])
            elif image["id"] in of_image or not panoptic:
                try:
                    draw = _draw_panoptic if panoptic else _draw_instances
                    label = draw(one, image, of_image.get(image["id"], []), index_of, places)
                except (IndexError, KeyError, TypeError, ValueError) as error:
                    raise InputError(f"{one.path}: image {image['file_name']} cannot be drawn ({error}).") from error
                target = (
                    folder
                    / Path(one.split)
                    / Path(image["file_name"].lstrip("/").replace("..", "_")).with_suffix(".png")
                )
                target.parent.mkdir(parents=True, exist_ok=True)
                cv2.imencode(".png", label)[1].tofile(str(target))
                pairs[one.split].append(Pair(root / path, target))
            done += 1
            if progress:
                progress(done, total)
    notes = []
    if missing:
        more = ", ..." * (len(missing) > 3)
        notes.append(
            f"images of the annotations that are not there, left out: {len(missing)} ({', '.join(missing[:3])}{more})"
        )
    if not ("train" in pairs and "val" in pairs):
        pairs = {"": [pair for split in pairs.values() for pair in split]}
    return Layout(f"COCO ({'panoptic' if panoptic else 'instances'})", pairs, notes, files), names


class _Places:
    """Finds files by the end of their path."""

    def __init__(self, root: Path, files: Sequence[Path]) -> None:
        self.root = root
        self._by_name: Dict[str, List[Path]] = {}
        for path in files:
            self._by_name.setdefault(path.name, []).append(path)

    def of(self, name: str, within: Optional[str] = None) -> Optional[Path]:
        wanted = Path(name.lstrip("/")).parts
        found = [path for path in self._by_name.get(wanted[-1], []) if path.parts[-len(wanted) :] == wanted]
        if within:
            found = [path for path in found if within in path.parts]
        return found[0] if found else None


def _read(path: Path) -> Optional[Dict[str, Any]]:
    """The JSON of a file where it has images, annotations with segmentations and categories; None otherwise."""
    try:
        content = json.loads(path.read_text("utf-8-sig"))
        annotations = content["annotations"]
        content["images"], content["categories"]
        drawn = not annotations or any("segmentation" in a or "segments_info" in a for a in annotations[:100])
    except (KeyError, OSError, TypeError, ValueError):  # ValueError: no JSON, or no text
        return None
    return content if drawn else None


def _masks():
    try:
        from pycocotools import mask
    except ImportError as error:
        raise InputError(
            f"COCO's polygons and RLE need pycocotools ({error}): pip install 'bisenetv1-plugin[coco]'."
        ) from error
    return mask


def _draw_instances(one: Annotations, image, annotations, index_of, places) -> np.ndarray:
    """uint8 [H, W]: 0, and the class of every object."""
    mask = _masks()
    height, width = int(image["height"]), int(image["width"])
    label = np.zeros((height, width), np.uint8)

    def area(annotation) -> float:
        return float(annotation.get("area") or 0)

    for annotation in sorted(annotations, key=area, reverse=True):
        shape = annotation.get("segmentation")
        if not shape:
            continue
        if isinstance(shape, list):
            rle = mask.merge(mask.frPyObjects(shape, height, width))
        elif isinstance(shape["counts"], list):
            rle = mask.frPyObjects(shape, height, width)
        else:
            rle = shape
        label[mask.decode(rle).astype(bool)] = index_of[int(annotation["category_id"])]
    return label


def _draw_panoptic(one: Annotations, image, annotations, index_of, places: _Places) -> np.ndarray:
    """uint8 [H, W]: the class of every segment, 255 where there is none."""
    name = annotations[0]["file_name"]
    path = places.of(name, within=one.path.stem) or places.of(name)
    try:
        with Image.open(places.root / (path or name)) as png:
            segments = np.asarray(png.convert("RGB"))
    except reading.READ_ERRORS as error:
        raise InputError(
            f"{one.path} names {name}, which cannot be read ({error}): unpack it beside the JSON."
        ) from error
    ids = (
        segments[..., 0].astype(np.uint32)
        | segments[..., 1].astype(np.uint32) << 8
        | segments[..., 2].astype(np.uint32) << 16
    )
    known = {int(s["id"]): index_of[int(s["category_id"])] for s in annotations[0]["segments_info"]}
    values, places_of = np.unique(ids, return_inverse=True)
    table = np.array([known.get(int(value), IGNORE_INDEX) for value in values], np.uint8)
    return table[places_of].reshape(ids.shape)
