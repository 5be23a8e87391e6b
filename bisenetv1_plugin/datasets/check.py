"""Looks at the training and validation data of a PaddleSeg config before a training does.

PaddleSeg opens a file when its turn comes: a missing image stops a training after hours, a label value out of range
becomes a loss of nan or a crash in a CUDA kernel, and a validation image among the training images only makes the score
too good. `check_config` opens every file once, in the way PaddleSeg would, and counts the classes while it is there.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import cv2
import numpy as np
from PIL import Image

from bisenetv1_plugin.datasets.reading import READ_ERRORS

Progress = Optional[Callable[[int, int], None]]  # called with (images done, images in all)


class Problem(NamedTuple):
    """Something that will stop or spoil a training: its kind (`missing`, `leak`, ...), the file, a sentence."""

    kind: str
    file: str
    message: str


@dataclass
class Report:
    """What `check_config` found; per split (`train`, `val`), as far as the config has it.

    Attributes:
        config: the config file.
        problems: what is wrong, in the order of the lists.
        counts: pixels per class, int64 [num_classes].
        ignored: pixels that have the ignore index.
        images: image and label pairs in the list.
        classes: class names by index, from `classes.txt` in `dataset_root`; empty without one.
        notes: what was not checked, and why.
    """

    config: str
    problems: List[Problem] = field(default_factory=list)
    counts: Dict[str, np.ndarray] = field(default_factory=dict)
    ignored: Dict[str, int] = field(default_factory=dict)
    images: Dict[str, int] = field(default_factory=dict)
    classes: Sequence[str] = ()
    notes: List[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True without problems. Classes that never occur are told, but are no problem."""
        return not self.problems

    def to_text(self, shown: int = 5) -> str:
        """A report for people: the problems by kind, at most `shown` of each, then a table of class shares."""
        by_kind: Dict[str, List[str]] = {}
        for problem in self.problems:
            by_kind.setdefault(problem.kind, []).append(problem.message)

        lines = [f"{self.config}: {_count(len(self.problems), 'problem') if self.problems else 'no problems'}"]
        for kind, messages in by_kind.items():
            lines += ["", f"{kind} ({len(messages)})"] + [f"  {message}" for message in messages[:shown]]
            if len(messages) > shown:
                lines.append(f"  ... and {len(messages) - shown} more")
        if self.notes:
            lines += [""] + self.notes
        if self.counts:
            lines += [""] + self._table()
        for split, counts in self.counts.items():
            never = [self._name(index) for index in np.flatnonzero(counts == 0)]
            if never:
                lines += ["", f"never in {split}: {', '.join(never)}"]
        return "\n".join(lines)

    def _table(self) -> List[str]:
        """Shares of the labelled pixels by class, and of all pixels that are ignored."""
        width = max(
            [len("ignored, of all")] + [len(self._name(i)) for c in self.counts.values() for i in range(len(c))]
        )

        def row(name, cells):
            return f"{name:<{width}}" + "".join(f"{cell:>10}" for cell in cells)

        rows = [row("class", self.counts)]
        for index in range(max(len(counts) for counts in self.counts.values())):
            cells = (_share(c[index], c.sum()) if index < len(c) else "-" for c in self.counts.values())
            rows.append(row(self._name(index), cells))
        rows.append(
            row("ignored, of all", (_share(self.ignored[s], c.sum() + self.ignored[s]) for s, c in self.counts.items()))
        )
        rows.append(row("images", (self.images[split] for split in self.counts)))
        return rows

    def _name(self, index: int) -> str:
        return f"{index} {self.classes[index]}" if index < len(self.classes) else str(index)


class _Split(NamedTuple):
    """The files of one split; num_classes is None where the dataset changes labels as it reads them."""

    pairs: List[Tuple[str, Optional[str]]]
    num_classes: Optional[int]
    ignore_index: int


def check_config(config_path, progress: Progress = None) -> Report:
    """Checks every image and label that `train_dataset` and `val_dataset` of a config name.

    `type: Dataset` is checked from its list files; other registered types are constructed, and their `file_list` of
    [image, label] paths is checked. A dataset without such a list makes its images itself: a note says so.

    Args:
        config_path: a YAML file for PaddleSeg, `_base_` included. Relative paths in it count from the current folder,
            as in PaddleSeg's tools.
        progress: called with (images done, images in all).

    Returns:
        The Report, whose problems have the kinds `config`, `list`, `empty`, `missing`, `unreadable`, `size`,
        `label format`, `label values`, `pairing` and `leak`.

    Raises:
        FileNotFoundError: there is no such config.
        ValueError: PaddleSeg does not accept the config.
    """
    config = _read_config(config_path)
    report = Report(str(config_path))
    splits: Dict[str, _Split] = {}
    for name in ("train", "val"):
        cfg = config.dic.get(f"{name}_dataset")
        if not cfg:
            report.notes.append(f"no {name}_dataset in the config: nothing to check for {name}.")
            continue
        split = _listed_files(name, cfg, report) if cfg.get("type") == "Dataset" else _built_files(name, config, report)
        if split:
            splits[name] = split
        report.classes = report.classes or _class_names(cfg.get("dataset_root"))

    total = sum(len(split.pairs) for split in splits.values())
    done = 0
    for name, split in splits.items():
        report.images[name] = len(split.pairs)
        sums = np.zeros(256, np.int64)
        with ThreadPoolExecutor() as pool:  # reading images leaves Python's lock free
            for problems, histogram in pool.map(lambda pair, split=split: _check_pair(*pair, split), split.pairs):
                report.problems += problems
                sums += histogram
                done += 1
                if progress:
                    progress(done, total)
        if split.num_classes is not None:
            report.ignored[name] = int(sums[split.ignore_index]) if 0 <= split.ignore_index < 256 else 0
            counts = report.counts[name] = np.zeros(split.num_classes, np.int64)
            counts[:256] = sums[: split.num_classes]
            if 0 <= split.ignore_index < split.num_classes:
                counts[split.ignore_index] = 0
    if len(splits) == 2:
        report.problems += _leaks(splits["train"].pairs, splits["val"].pairs)
    return report


def _read_config(path):
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no config file {path}")
    import yaml
    from paddleseg.cvlibs import Config

    try:
        return Config(str(path))
    except (
        AssertionError,
        AttributeError,
        KeyError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
        yaml.YAMLError,
    ) as error:
        raise ValueError(f"PaddleSeg does not accept {path}: {error}") from error


def _listed_files(name: str, cfg: dict, report: Report) -> Optional[_Split]:
    """The files of PaddleSeg's own `Dataset`, read from its list by the rules it has."""
    mode = str(cfg.get("mode", "")).lower()
    key = f"{mode}_path"
    where = f"{name}_dataset of {report.config}"
    list_path, root, separator = cfg.get(key), cfg.get("dataset_root"), cfg.get("separator", " ")
    complaint = None
    if mode not in ("train", "val"):
        complaint = f"{where} has mode {cfg.get('mode')!r}: set mode to train or val."
    elif not root or not os.path.isdir(root):
        complaint = f"{where}: dataset_root {root!r} is no folder (seen from {os.getcwd()})."
    elif not list_path or not os.path.isfile(list_path):
        complaint = f"{where}: {key} {list_path!r} is no file (seen from {os.getcwd()}, not from dataset_root)."
    elif "num_classes" not in cfg:
        complaint = f"{where} has no num_classes: set it to the number of classes."
    if complaint:
        report.problems.append(Problem("config", report.config, complaint))
        return None

    pairs: List[Tuple[str, Optional[str]]] = []
    with open(list_path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            items = line.strip().split(separator)
            if len(items) == 2:
                pairs.append((os.path.join(root, items[0]), os.path.join(root, items[1])))
            else:
                found = _count(len(items), "column") if line.strip() else "nothing"
                message = (
                    f"{list_path}, line {number} has {found}: PaddleSeg wants an image and a label in every line, "
                    f"with {separator!r} between them (key separator)."
                )
                report.problems.append(Problem("list", list_path, message))
    if not pairs:
        report.problems.append(Problem("empty", list_path, f"{list_path} lists no images for {name}."))
    return _Split(pairs, cfg["num_classes"], cfg.get("ignore_index", 255))


def _built_files(name: str, config, report: Report) -> Optional[_Split]:
    """The files of any other registered dataset, which is constructed for that."""
    from paddleseg.cvlibs import SegBuilder
    from paddleseg.datasets import Dataset

    cfg = config.dic[f"{name}_dataset"]
    kind = cfg.get("type")
    try:
        dataset = SegBuilder(config).build_component(cfg)
    except RuntimeError as error:
        message = f"{name}_dataset of {report.config} cannot be made: {' '.join(str(error).split())}"
        report.problems.append(Problem("config", report.config, message))
        return None

    pairs = getattr(dataset, "file_list", None)
    if pairs is None or not all(isinstance(pair, (list, tuple)) and isinstance(pair[0], str) for pair in pairs):
        report.notes.append(f"{name}: the images of {kind} are generated, nothing to check on disk.")
        return None
    if not pairs:
        root = cfg.get("dataset_root")
        report.problems.append(Problem("empty", str(root), f"{kind} finds no images for {name} in {root}."))
    if kind == "Cityscapes":  # it pairs images and labels by their rank in two sorted lists
        report.problems += _mispaired(pairs)
    num_classes: Optional[int] = dataset.num_classes
    if type(dataset).__getitem__ is not Dataset.__getitem__:
        num_classes = None
        report.notes.append(f"{name}: {kind} changes labels as it reads them, so their values were not judged.")
    return _Split([tuple(pair) for pair in pairs], num_classes, getattr(dataset, "ignore_index", 255))


def _mispaired(pairs) -> List[Problem]:
    for image, label in pairs:
        if os.path.basename(image).split("_leftImg8bit")[0] != os.path.basename(label).split("_gtFine")[0]:
            cure = "labels are missing, so all that follow are shifted: run `bisenetv1 data prepare cityscapes`."
            return [Problem("pairing", image, f"Cityscapes pairs {image} with {label}: {cure}")]
    return []


def _check_pair(image_path: str, label_path: Optional[str], split: _Split) -> Tuple[List[Problem], np.ndarray]:
    """The problems of one pair, and int64 [256]: the pixels of the label by value."""
    histogram = np.zeros(256, np.int64)
    problems: List[Problem] = []

    def problem(kind, file, message):
        problems.append(Problem(kind, file, message))

    image_size = _image_size(image_path, problem)
    if label_path is None:
        return problems, histogram
    if not os.path.isfile(label_path):
        problem("missing", label_path, f"label {label_path} is not there.")
        return problems, histogram
    try:
        with Image.open(label_path) as image:
            mode, label = image.mode, np.asarray(image)
    except READ_ERRORS as error:
        problem("unreadable", label_path, f"label {label_path} cannot be read ({error}).")
        return problems, histogram

    size = (label.shape[1], label.shape[0])
    if image_size and image_size != size:
        sizes = f"{size[0]}x{size[1]}, its image {image_path} {image_size[0]}x{image_size[1]}"
        problem("size", label_path, f"label {label_path} is {sizes}.")
    if split.num_classes is None:
        return problems, histogram
    if label.ndim != 2 or label.dtype != np.uint8:
        cure = "save it as an 8-bit PNG of class indices with one channel."
        problem("label format", label_path, f"label {label_path} has Pillow's mode {mode}: {cure}")
        return problems, histogram
    histogram += np.bincount(label.ravel(), minlength=256)
    values = np.flatnonzero(histogram)
    wrong = values[(values >= split.num_classes) & (values != split.ignore_index)]
    if wrong.size:
        message = (
            f"label {label_path} has {_count(histogram[wrong].sum(), 'pixel')} of {', '.join(map(str, wrong))}, "
            f"neither a class (0..{split.num_classes - 1}) nor ignore_index ({split.ignore_index}): "
            "correct the label or num_classes."
        )
        problem("label values", label_path, message)
    return problems, histogram


def _image_size(path: str, problem) -> Optional[Tuple[int, int]]:
    """(width, height) as PaddleSeg's OpenCV reads it, which also turns images by their EXIF orientation."""
    if not os.path.isfile(path):
        problem("missing", path, f"image {path} is not there.")
        return None
    image = cv2.imread(path)
    if image is None:
        problem("unreadable", path, f"image {path} cannot be read by OpenCV: damaged, or no image.")
        return None
    if path.lower().endswith((".jpg", ".jpeg")):  # OpenCV paints the rest of a truncated JPEG grey and is content
        try:
            with Image.open(path) as jpeg:
                jpeg.draft("L", (1, 1))
                jpeg.load()
        except READ_ERRORS as error:
            problem("unreadable", path, f"image {path} is damaged ({error}); OpenCV would read part of it.")
    return image.shape[1], image.shape[0]


def _leaks(train, val) -> List[Problem]:
    trained = {os.path.realpath(image) for image, _ in train}
    return [
        Problem("leak", image, f"image {image} is in train and in val: take it out of one of the lists.")
        for image, _ in val
        if os.path.realpath(image) in trained
    ]


def _class_names(root) -> Sequence[str]:
    """The lines of `classes.txt` in the dataset's folder, which `bisenetv1 data prepare` writes."""
    path = Path(root or ".") / "classes.txt"
    return path.read_text(encoding="utf-8").splitlines() if root and path.is_file() else ()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if part else "never" if whole else "-"
