"""Which image belongs to which label: the layouts that folders of segmentation data have."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence, Tuple, Union

from bisenetv1_plugin.datasets.own import walk
from bisenetv1_plugin.datasets.own.lists import Names, Pair, Pairs, read_list
from bisenetv1_plugin.errors import InputError

# What folders are called, in small letters and without a split's name; of several with labels, the first counts.
_IMAGES = (
    *("images", "image", "img", "imgs", "jpegimages", "leftimg8bit", "rgb", "photos", "pictures", "frames"),
    *("input", "inputs", "src", "raw", "x"),
)
_LABELS = (
    *("labels", "label", "segmentationclassraw", "segmentationclasspng", "segmentationclass", "masks", "mask"),
    *("annotations", "annotation", "annot", "ann", "anns", "gt", "gts", "ground_truth", "groundtruth", "gtfine"),
    *("segmentation", "segmentations", "seg", "segs", "targets", "target", "semantic", "y"),
)
_SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val"}
_SPLITS.update(test="test", testing="test")
_SPLIT = "|".join(sorted(_SPLITS, key=len, reverse=True))
# `a_mask.png`, `a_L.png` and `a.jpg.png` are labels of `a.jpg`
_LABEL_ENDING = re.compile(r"[_-](?:l|labels?|masks?|gt|seg|segmentation|groundtruth|annotation)$", re.IGNORECASE)
_SHOWN = 3


@dataclass
class Layout:
    """What was found in a folder.

    Attributes:
        kind: the layout, for people.
        pairs: images with their labels by `train` and `val`; or all by ``, where nothing says which are which.
        notes: sentences on what was left out, and why.
        files: every file of the folder, relative to it.
    """

    kind: str
    pairs: Dict[str, List[Pair]]
    notes: List[str] = field(default_factory=list)
    files: Sequence[Path] = ()


class _Place(NamedTuple):
    """Where a file is: `role` image, label or none; `rank` of the folder's name; split; what pairs have in common."""

    path: Path
    role: str
    rank: int
    split: str
    key: Tuple[str, ...]


def find(root: Path, files: Sequence[Path]) -> Layout:
    """Pairs up the images and labels of a folder.

    Lists first: `train.txt` and `val.txt` with an image and a label a line. Then folders by their names, and, where
    lists name images alone (VOC's `ImageSets/Segmentation`), the splits by those. Without folders of labels, files
    such as `a_mask.png` beside `a.jpg`.

    Args:
        root: the folder.
        files: of `walk.files_under`.

    Raises:
        InputError: a list is wrong or empty, or one image could have several labels.
    """
    lists = _lists(root, files)
    ready = {split: listed.pairs for split, listed in lists.items() if isinstance(listed, Pairs)}
    if ready:
        splits = ready if "train" in ready and "val" in ready else {"": [pair for p in ready.values() for pair in p]}
        return Layout("lists of images and labels", splits, files=files)

    places = [_place(path) for path in files if walk.is_picture(root, path)]
    images = [place for place in places if place.role == "image"]
    labels = [place for place in places if place.role == "label"]
    kind = "folders of images and labels"
    if not images:
        images = [place for place in places if not place.role]
    if not labels:
        kind = "labels beside their images"
        labels = [place for place in places if _LABEL_ENDING.search(walk.stem(place.path))]
        images = [place for place in images if place not in labels]
    if any("jpegimages" in map(str.lower, place.path.parts) for place in images):
        kind = "VOC"
    notes: List[str] = []
    matched = _match(images, labels, notes, listed=bool(lists))
    pairs: Dict[str, List[Pair]] = {}
    if lists:
        by_stem = {walk.stem(place.path): (place, label) for place, label in matched}
        for split, names in lists.items():
            found = [by_stem[name] for name in names if name in by_stem]
            _left_out(
                notes,
                [name for name in names if name not in by_stem],
                f"named in {split}.txt and without image or label",
            )
            pairs[split] = [Pair(root / image.path, root / label.path) for image, label in found]
    else:
        for image, label in matched:
            pairs.setdefault(image.split or label.split, []).append(Pair(root / image.path, root / label.path))
    tests = pairs.pop("test", [])
    if tests and not pairs:
        pairs[""] = tests
    elif tests:
        notes.append(f"{len(tests)} images of a test split are left for your own test.")
    if not ("train" in pairs and "val" in pairs):
        pairs = {"": [pair for split in pairs.values() for pair in split]}
    return Layout(kind, pairs, notes, files)


def _lists(root: Path, files: Sequence[Path]) -> Dict[str, Union[Names, Pairs]]:
    """The lists of the folder itself, or else of VOC's `ImageSets/Segmentation`, by split."""
    found: Dict[str, Path] = {}
    for path in files:
        voc = tuple(path.parts[-3:-1]) == ("ImageSets", "Segmentation")
        split = _SPLITS.get(path.stem.lower())
        if path.suffix == ".txt" and split in ("train", "val") and (len(path.parts) == 1 or voc):
            best = found.get(split)
            found[split] = path if best is None or len(path.parts) < len(best.parts) else best
    lists = {split: read_list(root / path, root) for split, path in sorted(found.items())}
    if len({type(listed) for listed in lists.values()}) > 1:
        raise InputError(f"{root}: one of train.txt and val.txt has labels and the other has none: write both alike.")
    return lists


def _place(path: Path) -> _Place:
    role, rank, split, key = "", 0, "", []
    for component in path.parts[:-1]:
        word, named = _word(component)
        split = named or split
        if word in _IMAGES:
            role, rank = "image", _IMAGES.index(word)
        elif word in _LABELS:
            role, rank = "label", _LABELS.index(word)
        elif word:
            key.append(component)
    return _Place(path, role, rank, split, (split, *key))


def _word(component: str) -> Tuple[str, str]:
    """A folder's name without the name of a split in it, and that split: `train_labels` -> `labels`, `train`."""
    lower = component.lower()
    for pattern in (rf"^({_SPLIT})[_\- ]?(.*)$", rf"^(.*?)[_\- ]?({_SPLIT})$"):
        match = re.match(pattern, lower)
        if match:
            split, word = match.groups() if match[1] in _SPLITS else match.groups()[::-1]
            if word in ("", *_IMAGES, *_LABELS):
                return word, _SPLITS[split]
    return lower, ""


def _match(images, labels, notes: List[str], listed: bool) -> List[Tuple[_Place, _Place]]:
    """Every image with the label of its name in the folder that corresponds, or else the only one of that name."""
    by_key: Dict[Tuple[str, ...], List[_Place]] = {}
    loose: Dict[Tuple[str, ...], List[_Place]] = {}
    for label in labels:
        name = walk.stem(label.path)
        by_key.setdefault((*label.key, name), []).append(label)
        for other in {_LABEL_ENDING.sub("", name), walk.stem(Path(name))} - {name}:
            loose.setdefault((*label.key, other), []).append(label)
    pairs, alone, taken = [], [], set()
    for image in images:
        key = (*image.key, walk.stem(image.path))
        candidates = by_key.get(key) or loose.get(key) or []
        if candidates:
            pairs.append((image, _only(image, candidates)))
        else:
            alone.append(image)
    taken = {label.path for _, label in pairs}
    names = [walk.stem(image.path) for image in alone]
    free: Dict[str, List[_Place]] = {}
    for label in labels:
        if label.path not in taken:
            free.setdefault(walk.stem(label.path), []).append(label)
    for image, name in zip(alone, names):
        if len(free.get(name, ())) == 1 and names.count(name) == 1:
            pairs.append((image, free[name][0]))
    pairs.sort(key=lambda pair: pair[0].path)
    for one, other in zip(pairs, pairs[1:]):
        if one[1].path == other[1].path:
            raise InputError(f"{one[0].path} and {other[0].path} both belong to {one[1].path}: remove one of them.")
    if not listed:
        paired = {image.path for image, _ in pairs}
        taken = {label.path for _, label in pairs}
        of_rank = {label.rank for _, label in pairs}
        _left_out(notes, [str(i.path) for i in images if i.path not in paired], "images without a label")
        spare = [str(label.path) for label in labels if label.path not in taken and label.rank in of_rank]
        _left_out(notes, spare, "labels without an image")
        others = [str(label.path) for label in labels if label.rank not in of_rank]
        if pairs:
            _left_out(notes, others, f"pictures like labels, beside those of {pairs[0][1].path.parent}")
    return pairs


def _only(image: _Place, candidates: List[_Place]) -> _Place:
    """The label in the folder whose name comes first in the table; two in one folder are one too many."""
    best = min(label.rank for label in candidates)
    chosen: List[_Place] = [label for label in candidates if label.rank == best]
    if len(chosen) > 1:
        raise InputError(f"{image.path} could have the label {chosen[0].path} or {chosen[1].path}: remove one of them.")
    return chosen[0]


def _left_out(notes: List[str], names: List[str], what: str) -> None:
    if names:
        notes.append(f"{what}, left out: {len(names)} ({', '.join(names[:_SHOWN])}{', ...' * (len(names) > _SHOWN)})")
