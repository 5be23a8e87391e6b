"""Finds the files of a configuration's datasets."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from bisenetv1_plugin.datasets.check.columns import order_fault
from bisenetv1_plugin.datasets.check.report import Problem, Report, count_of
from bisenetv1_plugin.datasets.text import all_lines
from bisenetv1_plugin.errors import InputError

if TYPE_CHECKING:
    from paddleseg.cvlibs import Config

FilePair = Tuple[str, Optional[str]]  # an image, and its label if it has one
_HALF = (0.5, 0.5, 0.5)  # mean and std of PaddleSeg's `Normalize`, by default


class Split(NamedTuple):
    """The files of one split; num_classes is None if the dataset changes labels as it reads them."""

    pairs: list[FilePair]
    num_classes: int | None
    ignore_index: int


def read_config(path: str | os.PathLike[str]) -> Config:
    """Loads PaddleSeg's `Config`; FileNotFoundError without the file, ValueError if PaddleSeg refuses it."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"there is no config file {path}")
    from bisenetv1_plugin.configuration import Configuration

    try:
        return Configuration(str(path))
    except Exception as error:  # PaddleSeg and YAML raise many kinds
        raise ValueError(f"PaddleSeg does not accept {path}: {error}") from error


def split_of(name: str, config: Config, report: Report) -> Split | None:
    """The files of `train` or `val`; without any, None, and a note or problem in the report."""
    cfg = config.dic.get(f"{name}_dataset")
    if cfg and not isinstance(cfg, dict):
        sentence = f"{name}_dataset of {report.config} is {cfg!r}: it needs keys, such as type and dataset_root."
        report.problems.append(Problem("config", report.config, sentence))
        return None
    if not cfg:
        report.notes.append(f"no {name}_dataset in the config: nothing to check for {name}.")
        return None
    return _listed_files(name, cfg, report) if cfg.get("type") == "Dataset" else _built_files(name, config, report)


def normalize_mismatch(config: Config) -> list[str]:
    """A warning if `Normalize` differs between train and val, so that the network sees other colors."""
    found = []
    for name in ("train", "val"):
        transforms = config.dic[f"{name}_dataset"].get("transforms") or []
        normalize = [one for one in transforms if isinstance(one, dict) and one.get("type") == "Normalize"]
        found.append([[np.ravel(one.get(key, _HALF)).tolist() for key in ("mean", "std")] for one in normalize])
    if found[0] == found[1]:
        return []
    message = (
        f"Normalize of train_dataset has mean and std {_numbers(found[0])}, of val_dataset {_numbers(found[1])}: give "
        "both the same, or validation has other colors than training."
    )
    return [message]


def _numbers(normalize: list[list[list[Any]]]) -> str:
    return " and ".join(str(numbers) for pair in normalize for numbers in pair) or "none"


def _listed_files(name: str, cfg: dict[str, Any], report: Report) -> Split | None:
    """The files of PaddleSeg's own `Dataset`, read from its list by PaddleSeg's rules."""
    mode = str(cfg.get("mode", "")).lower()
    key = f"{mode}_path"
    where = f"{name}_dataset of {report.config}"
    list_path: Any = cfg.get(key)
    root: Any = cfg.get("dataset_root")
    separator: Any = cfg.get("separator", " ")
    complaint = None
    numbers = {wanted: cfg.get(wanted, 255) for wanted in ("num_classes", "ignore_index")}
    wrong = [wanted for wanted, value in numbers.items() if isinstance(value, bool) or not isinstance(value, int)]
    texts = {"dataset_root": root, key: list_path, "separator": separator}
    if mode not in ("train", "val"):
        complaint = f"{where} has mode {cfg.get('mode')!r}: set mode to train or val."
    elif any(not isinstance(text, (str, type(None))) for text in texts.values()) or not separator:
        complaint = (
            f"{where}: dataset_root, {key} and separator must be texts, not {', '.join(map(repr, texts.values()))}."
        )
    elif not root or not os.path.isdir(root):
        complaint = f"{where}: dataset_root {root!r} is not a folder (seen from {os.getcwd()})."
    elif not list_path or not os.path.isfile(list_path):
        complaint = f"{where}: {key} {list_path!r} is not a file (seen from {os.getcwd()}, not from dataset_root)."
    elif "num_classes" not in cfg:
        complaint = f"{where} has no num_classes: set it to the number of classes."
    elif wrong or not 1 <= cfg["num_classes"] <= 256:
        key = wrong[0] if wrong else "num_classes"
        complaint = f"{where}: {key} is {numbers[key]!r}: it must be a whole number, and num_classes 1 to 256."
    if complaint:
        report.problems.append(Problem("config", report.config, complaint))
        return None

    pairs: list[FilePair] = []
    try:
        lines = all_lines(list_path, "list")
    except InputError as error:
        report.problems.append(Problem("list", list_path, str(error)))
        return None
    for number, line in enumerate(lines, start=1):
        items = line.split(separator)
        if len(items) == 2:
            pairs.append((os.path.join(root, items[0]), os.path.join(root, items[1])))
        else:
            found = count_of(len(items), "column") if line else "nothing"
            message = (
                f"{list_path}, line {number} has {found}: PaddleSeg wants an image and a label in every line, "
                f"with {separator!r} between them (key separator)."
            )
            report.problems.append(Problem("list", list_path, message))
    if not pairs:
        report.problems.append(Problem("empty", list_path, f"{list_path} lists no images for {name}."))
    complaint = order_fault(list_path, pairs)
    if complaint:
        report.problems.append(Problem("list", list_path, complaint))
        return None
    return Split(pairs, cfg["num_classes"], cfg.get("ignore_index", 255))


def _built_files(name: str, config: Config, report: Report) -> Split | None:
    """The files of any other registered dataset, which is constructed to get them."""
    from paddleseg.cvlibs import SegBuilder
    from paddleseg.datasets import Dataset

    cfg = config.dic[f"{name}_dataset"]
    kind = cfg.get("type")
    try:
        dataset = SegBuilder(config).build_component(cfg)
    except Exception as error:  # noqa: BLE001 - the class may raise anything
        message = f"{name}_dataset of {report.config} cannot be constructed: {' '.join(str(error).split())}"
        report.problems.append(Problem("config", report.config, message))
        return None

    pairs = getattr(dataset, "file_list", None)
    if pairs is None or not all(map(_is_pair, pairs)):
        report.notes.append(f"{name}: {kind} generates its images, so there are no files to check.")
        return None
    if not pairs:
        root = cfg.get("dataset_root")
        report.problems.append(Problem("empty", str(root), f"{kind} finds no images for {name} in {root}."))
    if kind in ("Cityscapes", "CocoStuff", "EG1800", "SUPERVISELY"):
        report.problems += _pairing_problems(kind, pairs)
    num_classes: int | None = dataset.num_classes
    if type(dataset).__getitem__ is not Dataset.__getitem__:
        num_classes = None
        report.notes.append(f"{name}: {kind} changes labels as it reads them, so their values were not checked.")
    return Split([(pair[0], pair[1]) for pair in pairs], num_classes, getattr(dataset, "ignore_index", 255))


def _is_pair(pair: object) -> bool:
    return isinstance(pair, (list, tuple)) and len(pair) == 2 and isinstance(pair[0], str)


def _pairing_problems(kind: str, pairs: Sequence[Sequence[str]]) -> list[Problem]:
    """The first wrong pair of a dataset type that pairs images and labels by their order in sorted lists."""
    for image, label in pairs:
        stem = os.path.splitext(os.path.basename(image))[0].split("_leftImg8bit")[0]
        rest = os.path.basename(label)[len(stem) :]
        if not os.path.basename(label).startswith(stem) or rest[:1] not in (".", "_", "-"):
            cure = "images or labels are missing, so all that follow are shifted"
            cure += ": run `bisenetv1 data prepare cityscapes`." if kind == "Cityscapes" else ": complete them."
            return [Problem("pairing", image, f"{kind} pairs {image} with {label}: {cure}")]
    return []
