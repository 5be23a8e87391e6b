"""Checks the training and validation data of a PaddleSeg config before a training.

PaddleSeg opens files as it needs them: a missing image stops a training after hours, a label value out of range becomes
a loss of nan or a crash in a CUDA kernel, and a validation image among the training images makes the score too good.
`check_config` opens every file once, as PaddleSeg would, and counts the classes. `quick_check` takes seconds: it
reads every header, and the pixels of as many files as there is time for.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from typing import TYPE_CHECKING, Iterator

import numpy as np

from bisenetv1_plugin.datasets.check import copies
from bisenetv1_plugin.datasets.check.pairs import PixelCheck, check_headers, check_pixels, single_class_warnings
from bisenetv1_plugin.datasets.check.report import Problem, Report, count_of
from bisenetv1_plugin.datasets.check.splits import Split, normalize_mismatch, read_config, split_of
from bisenetv1_plugin.datasets.classes import named_classes
from bisenetv1_plugin.datasets.text import first_few
from bisenetv1_plugin.progress import Progress, silent

if TYPE_CHECKING:
    from paddleseg.cvlibs import Config

__all__ = ["Problem", "Report", "check_config", "quick_check"]

THREADS = 8  # a thread holds one image: of 48 million pixels, 150 MB
_LEAST = 1.0  # seconds for copies, if pixels took all the time
_GOLDEN = 0.6180339887498949  # any number of its multiples fill a circle evenly


def check_config(config_path: str | os.PathLike[str], progress: Progress = silent) -> Report:
    """Checks every image and label in `train_dataset` and `val_dataset` of a config.

    `type: Dataset` is checked from its list files; other registered types are constructed, and their `file_list` of
    [image, label] paths is checked. A dataset without a `file_list` generates its images, and a note says so.

    Args:
        config_path: a YAML file for PaddleSeg, `_base_` included. Relative paths in it count from the current folder,
            as in PaddleSeg's tools.
        progress: see `progress.Progress`.

    Returns:
        The Report; kinds of problems are `config`, `list`, `empty`, `missing`, `unreadable`, `size`,
        `label format`, `label values`, `orientation`, `pairing` and `leak`.

    Raises:
        FileNotFoundError: the config does not exist.
        ValueError: PaddleSeg does not accept the config.
    """
    config = read_config(config_path)
    report = Report(str(config_path))
    splits = _splits(config, report)
    total = sum(len(split.pairs) for split in splits.values())
    digests: dict[str, bytes | None] = {}
    unclear: list[str] = []
    sums = {name: np.zeros(256, np.int64) for name in splits}
    for name, image, check in progress(_check_all_pixels(splits), desc="check", unit="file", total=total):
        report.problems += check.problems
        sums[name] += check.histogram
        digests[image] = check.digest
        unclear += [image] if check.ambiguous and check.turn is None else []
    for name, split in splits.items():
        if name == "train":
            report.warnings += single_class_warnings(split, sums[name], True)
        if split.num_classes is not None:
            report.ignored[name] = int(sums[name][split.ignore_index]) if 0 <= split.ignore_index < 256 else 0
            counts = report.counts[name] = np.zeros(split.num_classes, np.int64)
            counts[:256] = sums[name][: split.num_classes]
            if 0 <= split.ignore_index < split.num_classes:
                counts[split.ignore_index] = 0
    if unclear:
        report.notes.append(
            f"EXIF turns {count_of(len(unclear), 'image')} without a change of size, and edges do not show whether "
            f"their labels are upright ({first_few(unclear)}): check them, and save these images upright."
        )
    if len(splits) == 2:
        train, val = ([image for image, _ in splits[name].pairs] for name in ("train", "val"))
        same = copies.leaks(train, val)
        equal = copies.pixel_copies(train, val, digests)
        report.problems += [*same, *copies.exclude_files(equal, same)]
    return report


def _check_all_pixels(splits: dict[str, Split]) -> Iterator[tuple[str, str, PixelCheck]]:
    """Checks every pair in threads; yields its split, its image and the result."""
    with ThreadPoolExecutor(THREADS) as pool:  # reading images releases Python's lock
        for name, split in splits.items():
            found = pool.map(check_pixels, split.pairs, repeat(split))
            for (image, _), check in zip(split.pairs, found):
                yield name, image, check


def quick_check(cfg: Config, seconds: float = 10.0) -> Report:
    """A quick check of a configuration's data, just before a training.

    It checks all lists, and every file's header: the file exists and is an image, and image and label have the same
    size. For 10,000 pairs this takes about two seconds on two cores. In the remaining time it decodes pairs spread over
    the lists, at least 8, and checks label values. Then it compares the bytes of train and val images to find copies,
    for at least one second.

    Args:
        cfg: the loaded configuration.
        seconds: time limit, which only the headers may exceed.

    Returns:
        The Report, as from `check_config` but without counts; a note says how many pairs had their pixels read.
    """
    end = time.monotonic() + seconds
    report = Report("the configuration")
    splits = _splits(cfg, report)
    jobs = [(pair, split) for split in splits.values() for pair in split.pairs]
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda job: check_headers(*job), jobs))
        report.problems += [problem for problems in found for problem in problems]
        sound = [job for job, problems in zip(jobs, found) if not problems]
        order = sorted(range(len(sound)), key=lambda index: index * _GOLDEN % 1)
        count = 0
        checks: list[PixelCheck] = []
        while count < len(order) and (count == 0 or time.monotonic() < end):
            some = [sound[index] for index in order[count : count + THREADS]]
            checks += pool.map(lambda job: check_pixels(*job), some)
            count += len(some)
    trained = [check.histogram for index, check in zip(order, checks) if sound[index][1] is splits.get("train")]
    if trained:
        report.warnings += single_class_warnings(
            splits["train"], np.sum(trained, axis=0), len(trained) == len(splits["train"].pairs)
        )
    if count < len(sound):
        report.notes.append(f"the pixels of {count} of {len(jobs)} pairs were read, and the headers of all.")
    # A single label may seem turned by chance, but most labels do not
    sides = [check.turn for check in checks if check.ambiguous and check.turn is not None]
    doubt = 2 * sum(sides) > len(sides)
    report.problems += [p for check in checks for p in check.problems if doubt or p.kind != "orientation"]
    if len(splits) == 2:
        train, val = ([image for image, _ in splits[name].pairs] for name in ("train", "val"))
        same = copies.leaks(train, val)
        equal, all_compared = copies.file_copies(train, val, max(end, time.monotonic() + _LEAST))
        report.problems += [*same, *copies.exclude_files(equal, same)]
        if not all_compared:
            report.notes.append("not all images were compared for copies in train and val.")
    return report


def _splits(config: Config, report: Report) -> dict[str, Split]:
    """The files of train and val, if there are any; adds their numbers and the class names to the report."""
    splits = {}
    for name in ("train", "val"):
        split = split_of(name, config, report)
        if split:
            splits[name] = split
            report.images[name] = len(split.pairs)
    if len(splits) == 2:
        report.warnings += normalize_mismatch(config)
    report.classes = named_classes(config).names
    return splits
