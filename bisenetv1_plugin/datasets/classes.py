"""Names and colors of classes: Cityscapes' 19 by train id, choices among them, and those of users' data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple, Sequence, Tuple, Union

import numpy as np

from bisenetv1_plugin.datasets.text import numbered_lines, parse_color
from bisenetv1_plugin.errors import InputError

IGNORE_INDEX = 255


class StreetClass(NamedTuple):
    """A Cityscapes class; its position in `CITYSCAPES_CLASSES` is its train id."""

    name: str
    color: tuple[int, int, int]  # RGB


CITYSCAPES_CLASSES = (
    StreetClass("road", (128, 64, 128)),
    StreetClass("sidewalk", (244, 35, 232)),
    StreetClass("building", (70, 70, 70)),
    StreetClass("wall", (102, 102, 156)),
    StreetClass("fence", (190, 153, 153)),
    StreetClass("pole", (153, 153, 153)),
    StreetClass("traffic light", (250, 170, 30)),
    StreetClass("traffic sign", (220, 220, 0)),
    StreetClass("vegetation", (107, 142, 35)),
    StreetClass("terrain", (152, 251, 152)),
    StreetClass("sky", (70, 130, 180)),
    StreetClass("person", (220, 20, 60)),
    StreetClass("rider", (255, 0, 0)),
    StreetClass("car", (0, 0, 142)),
    StreetClass("truck", (0, 0, 70)),
    StreetClass("bus", (0, 60, 100)),
    StreetClass("train", (0, 80, 100)),
    StreetClass("motorcycle", (0, 0, 230)),
    StreetClass("bicycle", (119, 11, 32)),
)
CLASS_NAMES = tuple(c.name for c in CITYSCAPES_CLASSES)
(ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION, TERRAIN) = range(10)
(SKY, PERSON, RIDER, CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE) = range(10, 19)

# Cityscapes' own categories without `object` (thin poles and plates) and `human`. A network learns these five in
# minutes; those two, and road from sidewalk, take longer.
DEMO_CLASSES = (
    ("flat", (ROAD, SIDEWALK)),
    ("construction", (BUILDING, WALL, FENCE)),
    ("nature", (VEGETATION, TERRAIN)),
    ("sky", (SKY,)),
    ("vehicle", (CAR, TRUCK, BUS, TRAIN, MOTORCYCLE, BICYCLE)),
)

ClassChoice = Sequence[Union[str, Tuple[str, Sequence[int]]]]


def class_groups(classes: ClassChoice) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """A choice of classes in the form of `DEMO_CLASSES`: `((name, train ids), ...)`.

    Args:
        classes: Each item is one of Cityscapes' 19 names, or a pair of a free name and the train ids merged under it.

    Raises:
        ValueError: The choice is empty, a name or train id is not Cityscapes', or one is chosen twice.
    """
    groups = []
    for item in classes:
        if isinstance(item, str):
            if item not in CLASS_NAMES:
                raise ValueError(
                    "classes: '{}' is not a Cityscapes class. Choose among {} or give a pair (name, train ids).".format(
                        item, ", ".join(CLASS_NAMES)
                    )
                )
            item = (item, (CLASS_NAMES.index(item),))
        name, ids = item
        groups.append((name, tuple(ids)))
    if not groups:
        raise ValueError("classes: the choice is empty. Name at least one class.")
    chosen = [train_id for _, ids in groups for train_id in ids]
    for train_id in chosen:
        if train_id not in range(len(CITYSCAPES_CLASSES)):
            raise ValueError(f"classes: {train_id!r} is not a train id. Use the integers 0 to 18.")
        if chosen.count(train_id) > 1:
            raise ValueError(
                f"classes: '{CLASS_NAMES[train_id]}' (train id {train_id}) is chosen {chosen.count(train_id)} times. "
                "Choose it once."
            )
    return tuple(groups)


def remap(label: np.ndarray, classes: ClassChoice) -> np.ndarray:
    """Renumber a label of train ids: 0 for the first of `classes`, 1 for the second; other classes become 255.

    Args:
        label: uint8, any shape, train ids 0..18 and 255.
        classes: See `class_groups`, which also says what raises ValueError.

    Returns:
        uint8, the shape of `label`.
    """
    table = np.full(256, IGNORE_INDEX, np.uint8)
    for index, (_, ids) in enumerate(class_groups(classes)):
        table[list(ids)] = index
    return table[label]


def class_colors(classes: ClassChoice = CLASS_NAMES) -> list[tuple[int, int, int]]:
    """RGB color of every chosen class, from the Cityscapes palette; a merged class has the color of its first."""
    return [CITYSCAPES_CLASSES[ids[0]].color for _, ids in class_groups(classes)]


class NamedClasses(NamedTuple):
    """Class names by index, and their colors, RGB 0..255; `colors` is empty if they have none."""

    names: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]


CITYSCAPES = NamedClasses(CLASS_NAMES, tuple(class_colors()))


def named_classes(source: Any, num_classes: int | None = None) -> NamedClasses:
    """The class names and colors of a dataset.

    Args:
        source: its folder, or a PaddleSeg `Config` with the folder in `val_dataset` or `train_dataset`. The folder's
            `classes.txt` has a name per line, its `colors.txt` a line `name r g b` for each. PaddleSeg's `Cityscapes`,
            and scenes with all its classes, need neither.
        num_classes: number of classes; default: the configuration's, or the number of names. Classes without a name
            are called by their number.

    Returns:
        One name for each class, and one color for each class or none.

    Raises:
        InputError: a file of the folder is not UTF-8 text.
    """
    root, kind = source, None
    if hasattr(source, "val_dataset_cfg"):
        dataset = source.val_dataset_cfg or source.train_dataset_cfg or {}
        dataset = dataset if isinstance(dataset, dict) else {}  # reported elsewhere
        root, kind = dataset.get("dataset_root"), dataset.get("type")
        num_classes = num_classes or dataset.get("num_classes") or source.model_cfg.get("num_classes")
    colors = filter(None, map(_color, _lines(root, "colors.txt")))
    named = NamedClasses(tuple(_lines(root, "classes.txt")), tuple(colors))
    if not named.names and kind in ("Cityscapes", "SyntheticStreetScenes") and num_classes in (None, len(CLASS_NAMES)):
        named = CITYSCAPES
    count = num_classes or len(named.names)
    names = (*named.names[:count], *map(str, range(len(named.names), count)))
    return NamedClasses(names, named.colors if len(named.colors) == count else ())


def read_classes(path: Any) -> NamedClasses:
    """The names in a text file, one per line; if every line is `name r g b`, the colors as well.

    Raises:
        InputError: the file does not exist, is empty, or is not UTF-8 text.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise InputError(f"there is no {path}: name a text file with a class name per line, or cityscapes.")
    lines = _lines(path.parent, path.name)
    if not lines:
        raise InputError(f"{path} is empty: write a class name per line.")
    colors = tuple(filter(None, map(_color, lines)))
    if len(colors) == len(lines) and all(len(line.split()) > 3 for line in lines):
        return NamedClasses(tuple(line.rsplit(maxsplit=3)[0] for line in lines), colors)
    return NamedClasses(tuple(lines), ())


def _color(line: str) -> tuple[int, int, int] | None:
    """The color at the end of a line `name r g b`; None for other lines."""
    return parse_color(line.split()[-3:])


def _lines(root: Any, name: str) -> list[str]:
    """The non-empty lines of a file in the folder; an empty list without the folder or the file."""
    if not root or not isinstance(root, (str, Path)) or not os.path.isfile(Path(root, name)):
        return []
    return [line for _, line in numbered_lines(Path(root) / name, "file")]
