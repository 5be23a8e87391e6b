"""Matches labels to images, and names in lists and COCO's JSON to files, by one rule."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from typing import Callable, Dict, Iterable, List, NamedTuple, Sequence, Tuple

from bisenetv1_plugin.datasets.own import walk
from bisenetv1_plugin.datasets.own.path_words import PathInfo, is_year, path_info
from bisenetv1_plugin.errors import InputError

# `a_mask.png`, `a_L.png` and `a.jpg.png` are labels of `a.jpg`
LABEL_ENDING = re.compile(r"[_-](?:l|labels?|masks?|gt|seg|segmentation|groundtruth|annotation)$", re.IGNORECASE)

_CLEAR_RATIO = 4  # times as many
_Folder = Tuple[str, Tuple[str, ...]]  # split, and the folders that images and labels have in common

_Grouped = Dict[_Folder, List[PathInfo]]


class Pairing(NamedTuple):
    """The result of `pair`.

    Attributes:
        pairs: (image, label), sorted by the images' paths.
        unclear: images that could have several labels, or share one with another image; they are not in `pairs`.
        same_names: whether labels have the names of their images, in folders of equal names.
    """

    pairs: list[tuple[PathInfo, PathInfo]]
    unclear: list[PathInfo]
    same_names: bool


def pair(images: Sequence[PathInfo], labels: Sequence[PathInfo]) -> Pairing:
    """Finds the label of every image. Images without a certain label are omitted, never guessed.

    The rule compares the split, the folders and the name of each path. Folder names such as `images`, `masks` and
    `train_labels` are not compared: they say which pictures are images or labels. An image and a label match if

    1. their names are equal. Or the label's name has a suffix (`a_mask.png`, `a.jpg.png`), if this finds labels for
       every image that equal names do, or for many times as many. If both ways find many, all images are unclear:
       `1_l` may be the label of `1` or of another picture.
    2. They have the same split, and folders of equal names. If no pair has, one's folders may be part of the other's,
       in the same order, and one may have no split (`images/train/cam/a.jpg`, `labels/cam/a.png`); the label with the
       most common folders is used. If there is still no pair, folders that all images share, and folders that all
       labels share, are not compared (`images/10k/a.jpg`, `labels/sem_seg/a.png`).
    3. If a folder has several kinds of labels (`labels`, `masks`), only the first kind with a match is used.

    So `cam1/a` never gets the label of `cam2/a`.

    Raises:
        InputError: a folder has two files of one name, `a.jpg` and `a.png`; the message says to remove one.
    """
    none: tuple[str, ...] = ()
    cuts = [len(os.path.commonprefix([one.folders for one in some] or [none])) for some in (images, labels)]
    kinds: list[Sequence[PathInfo]] = [labels]
    if any(len({label.rank for label in some}) > 1 for some in _by_folder(labels, 0).values()):
        kinds = [[label for label in labels if label.rank == rank] for rank in sorted({one.rank for one in labels})]
    for cut, fits in ((False, _equal_folders), (False, _nested_folders), (True, _equal_folders)):
        for kind in kinds:
            of_images, of_labels = (_by_folder(some, n * cut) for some, n in zip((images, kind), cuts))
            folders = fits(of_images, of_labels)
            exact, stripped = (
                _match(of_images, of_labels, folders, names) for names in (_exact_names, _stripped_names)
            )
            found = _choose(exact, stripped)
            if found.clash:
                raise InputError(found.clash)
            if found.pairs or found.unclear:
                pairs = sorted(found.pairs, key=lambda pair: pair[0].path)
                return Pairing(pairs, found.unclear, found is exact and fits is _equal_folders and not cut)
    return Pairing([], [], True)


def _by_folder(places: Sequence[PathInfo], cut: int) -> _Grouped:
    grouped: _Grouped = defaultdict(list)
    for one in places:
        grouped[one.split, one.folders[cut:]].append(one)
    return grouped


def _equal_folders(images: Iterable[_Folder], labels: Iterable[_Folder]) -> dict[_Folder, list[list[_Folder]]]:
    """The label folders for each image folder, in groups with the best first: here only the equal folder."""
    known = set(labels)
    return {folder: [[folder]] for folder in images if folder in known}


def _nested_folders(images: Iterable[_Folder], labels: Iterable[_Folder]) -> dict[_Folder, list[list[_Folder]]]:
    """As `_equal_folders`, for folders where one is part of the other; those with most in common come first."""
    # Looked up by the rarest component of a path, because comparing all with all is slow for thousands of scenes
    count = Counter(component for _, folders in labels for component in set(folders))
    having: dict[str, list[_Folder]] = defaultdict(list)
    rarest: dict[str, list[_Folder]] = defaultdict(list)
    for label in labels:
        for component in set(label[1]):
            having[component].append(label)
        rarest[min(label[1], key=count.__getitem__, default="")].append(label)
    found = {}
    for split, folders in images:
        longer = having[min(folders, key=count.__getitem__)] if folders else labels
        shorter = [label for component in {"", *folders} for label in rarest.get(component, ())]
        groups: dict[int, list[_Folder]] = defaultdict(list)
        for label in {*longer, *shorter}:
            short, long = sorted((folders, label[1]), key=len)
            if (split == label[0] or not (split and label[0])) and _is_part(short, long):
                groups[len(short)].append(label)
        found[split, folders] = [groups[common] for common in sorted(groups, reverse=True)]
    return found


def _is_part(short: Sequence[str], long: Sequence[str]) -> bool:
    rest = iter(long)
    return all(component in rest for component in short)


def _exact_names(label: PathInfo) -> list[str]:
    return [label.name]


def _without_year(folders: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(folder for folder in folders if not is_year(folder))


def _stripped_names(label: PathInfo) -> list[str]:
    return list({LABEL_ENDING.sub("", label.name), walk.stem(Path(label.name))} - {label.name})


class _Attempt(NamedTuple):
    """Pairs, unclear images, and an error message if one of two files must be removed."""

    pairs: list[tuple[PathInfo, PathInfo]]
    unclear: list[PathInfo]
    clash: str = ""


def _choose(exact: _Attempt, stripped: _Attempt) -> _Attempt:
    """Chooses between labels with the names of their images and labels with a suffix; unclear if both are many."""
    by_exact, by_stripped = ({image.path for image, _ in found.pairs} for found in (exact, stripped))
    more_exact, more_stripped = len(by_exact - by_stripped), len(by_stripped - by_exact)
    if more_exact >= _CLEAR_RATIO * more_stripped and (exact.pairs or exact.unclear or exact.clash):
        return exact
    if more_stripped >= _CLEAR_RATIO * more_exact:
        return stripped
    images = {image.path: image for found in (exact, stripped) for image, _ in found.pairs}
    images.update((image.path, image) for found in (exact, stripped) for image in found.unclear)
    return _Attempt([], list(images.values()))


def _match(
    images: _Grouped,
    labels: _Grouped,
    folders: dict[_Folder, list[list[_Folder]]],
    names: Callable[[PathInfo], list[str]],
) -> _Attempt:
    """Matches labels to images of the same name, for the `names` that a label may have."""
    by_name: dict[tuple[_Folder, str], list[PathInfo]] = defaultdict(list)
    for folder, some in labels.items():
        for label in some:
            for name in names(label):
                by_name[folder, name].append(label)
    users: dict[Path, list[tuple[PathInfo, PathInfo]]] = defaultdict(list)
    unclear: list[PathInfo] = []
    clash = ""
    for folder, some in images.items():
        for image in some:
            found: list[PathInfo] = []
            for group in folders.get(folder, ()):
                found = found or [label for other in group for label in by_name.get((other, image.name), ())]
            if len(found) == 1:
                users[found[0].path].append((image, found[0]))
            elif found and len({label.path.parent for label in found}) == 1:
                clash = f"{image.path} could have the label {found[0].path} or {found[1].path}: remove one of them."
            elif found:
                unclear.append(image)
    pairs = []
    for path, using in users.items():
        if len(using) > 1 and len({image.path.parent for image, _ in using}) == 1:
            clash = f"{using[0][0].path} and {using[1][0].path} both belong to {path}: remove one of them."
        elif len(using) > 1:
            unclear += [image for image, _ in using]
        else:
            pairs += using
    return _Attempt(pairs, unclear, clash)


class PictureFinder:
    """Finds pictures by the names in a list or in COCO's JSON, which may have folders and suffixes.

    A name with folders means the picture in those folders, relative to the data folder or the list: `cam1/a` is
    `images/cam1/a.jpg` or `cam1/images/a.jpg`, never `cam2/a.jpg` or `x/cam1/a.jpg`. A name without folders means any
    picture with that name. Of several, one in the list's own split comes first, then one with no other folders, then
    one in a folder of images.
    """

    def __init__(self, root: Path, pictures: Sequence[PathInfo], splits: Iterable[str] = ()) -> None:
        """`splits`: further splits that have folders of their own, even without pictures in them."""
        self._root = root
        self._splits = {one.split for one in pictures} | set(splits)
        self._by_name: dict[str, list[PathInfo]] = defaultdict(list)
        self._by_place: dict[tuple[str, tuple[str, ...]], list[PathInfo]] = defaultdict(list)
        for one in pictures:
            self._by_name[one.name].append(one)
            for folders in {one.folders, _without_year(one.folders)}:
                self._by_place[one.name, folders].append(one)

    def find(
        self, names: Sequence[str], list_path: Path, split: str, with_suffix: bool = False
    ) -> list[list[PathInfo]]:
        """The pictures that each name may mean: one, several if it is unclear, or none.

        Args:
            names: as written, with `/`; they may begin with the name of the data folder.
            list_path: the file with the names, relative to the data folder.
            split: the split of that file; if it has a folder of its own, pictures of other splits are excluded.
            with_suffix: the names have suffixes, which must match.
        """
        own, base = split if split in self._splits else "", path_info(list_path).folders
        found = {}
        for name in set(names):
            written = Path(*(part for part in PurePosixPath(name.lstrip("/")).parts if part != "."))
            found[name] = self._find(path_info(written), base, own, with_suffix)
            found[name] = found[name] or self._find(path_info(self._below_root(written)), base, own, with_suffix)
        return [found[name] for name in names]

    def _find(self, wanted: PathInfo, base: tuple[str, ...], own: str, with_suffix: bool) -> list[PathInfo]:
        parts = wanted.path.parts[:-1]
        if not wanted.name or ".." in parts:
            return []
        exact = [one for folders in {wanted.folders, (*base, *wanted.folders)} for one in self._at(wanted, folders)]
        candidates = exact if parts else self._by_name.get(wanted.name, [])
        at = {one.path for one in exact}

        def fits(one: PathInfo) -> bool:
            if (with_suffix and one.path.name != wanted.path.name) or (own and one.split not in ("", own)):
                return False
            return not one.split or wanted.split in ("", one.split)

        def nearness(one: PathInfo) -> tuple[bool, bool, bool, bool]:
            return one.split == own, one.path in at, one.role == "image", one.path.name == wanted.path.name

        found = list(filter(fits, candidates))
        best = max(map(nearness, found), default=None)
        return [one for one in found if nearness(one) == best]

    def _at(self, wanted: PathInfo, folders: tuple[str, ...]) -> list[PathInfo]:
        """Pictures of this name in these folders; without a split, the year of a split may be missing too."""
        found = self._by_place.get((wanted.name, folders), [])
        return [one for one in found if one.folders == folders] if wanted.split else found

    def _below_root(self, path: Path) -> Path:
        """The path without the name of the data folder, with which some lists begin."""
        for count in range(len(path.parts) - 1, 0, -1):
            if path.parts[:count] == self._root.parts[-count:]:
                return Path(*path.parts[count:])
        return path


def images_among(pictures: Iterable[PathInfo]) -> list[PathInfo]:
    """Pictures that may be images: none in a label folder, and none below one if there are images elsewhere."""
    candidates = [one for one in pictures if one.role != "label"]
    elsewhere = any(one.role == "image" and not one.among_labels for one in candidates)
    return [one for one in candidates if not (elsewhere and one.among_labels)]
