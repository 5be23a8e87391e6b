"""What --json writes, for other programs; docs/training.md and docs/deployment.md describe the shapes."""

from __future__ import annotations

import functools
import json
import math
import os
from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any, Iterable, Sequence

from bisenetv1_plugin import files
from bisenetv1_plugin.errors import InputError

if TYPE_CHECKING:
    from bisenetv1_plugin.inference.engine import SegmentedPicture
    from bisenetv1_plugin.inference.region_files import RegionFiles
    from bisenetv1_plugin.inference.regions import Region


def add_argument(parser: ArgumentParser) -> None:
    parser.add_argument("--json", metavar="FILE", help="also write the figures here")


def check_picture(path: str | None, reads: Sequence[str] = ()) -> None:
    """As `check`, for the PNG of --picture."""
    if path is not None and os.path.splitext(path)[1].lower() not in ("", ".png"):
        raise InputError(f"--picture {path}: it is a PNG; end its name with .png.")
    check_place(path, "--picture")
    from bisenetv1_plugin.drawing import plots

    files.check_outputs([path] if path else [], reads, files.made_by(plots.MADE_BY))


def check(path: str | None, key: str, reads: Sequence[str] = ()) -> None:
    """Raise before the work is done what would be raised after it.

    Args:
        path (str, optional): of --json.
        key (str): see `is_ours`.
        reads (sequence[str]): the files that the command reads.

    Raises:
        InputError: no such file can be written, or it would replace one that an earlier run did not make.
    """
    check_place(path, "--json")
    files.check_outputs([path] if path else [], reads, functools.partial(is_ours, key=key))


def is_ours(path: str, key: str) -> bool:
    """Whether a file holds JSON of the kind of which each, or each of a list, has this key."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (ValueError, RecursionError):
        return False
    first = content[0] if isinstance(content, list) and content else content
    return isinstance(first, dict) and key in first


def check_place(path: str | None, flag: str = "--json") -> None:
    """As `check`, where it is not known yet what is read."""
    if path is None or files.is_stream(path):
        return
    if os.path.isdir(path) or not _takes_files(os.path.dirname(os.path.realpath(path))):
        raise InputError(f"{flag} {path}: no file can be written there; choose another path.")


def check_folder(path: str, flag: str) -> None:
    """
    Raises:
        InputError: it is no folder, and none can be made or written into there.
    """
    if os.path.lexists(path) and not os.path.isdir(path):
        raise InputError(f"{flag} {path}: it is a file; name a folder.")
    if not _takes_files(os.path.realpath(path)):
        raise InputError(f"{flag} {path}: no folder can be written there; choose another path.")


def _takes_files(folder: str) -> bool:
    """Whether files can be written into a folder, which is made, with those above it, where it is not there."""
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return os.path.isdir(folder) and os.access(folder, os.W_OK)


def write(path: str, content: Any) -> None:
    """The whole file or none; figures that are no numbers, of classes without a pixel, are null."""
    files.write(path, json.dumps(_plain(content), indent=1, allow_nan=False).encode())


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):  # NumPy's scalars
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


class JsonFigures:
    """Takes masks as `engine.Sink` does, and notes what is in them for the file of --json."""

    def __init__(self, path: str, regions: RegionFiles | None = None, unknown_below: float | None = None) -> None:
        """`regions` takes every mask before this does; pixels of less confidence than `unknown_below` are 255."""
        self._path, self._regions, self._unknown_below = path, regions, unknown_below
        self.images: list[dict[str, Any]] = []

    def write(self, found: SegmentedPicture) -> None:
        import numpy as np

        values, counts = np.unique(found.mask, return_counts=True)
        shares = {int(value): round(count / found.mask.size, 6) for value, count in zip(values, counts)}
        image: dict[str, Any] = {"name": found.picture.name, "shares": shares}
        if found.confidence is not None:
            image["confidence"] = round(float(found.confidence.mean(dtype="float64")), 6)
        if self._regions:
            image["regions"] = _of_classes(self._regions.found)
        self.images.append(image)

    def write_json(
        self, name: str, cpu_threads: int, seconds: float, faults: Iterable[str], more: dict[str, int]
    ) -> None:
        """Write the file; `name` is the runtime's and its precision's, maybe with more words; empty if none ran."""
        runtime, precision = [*name.replace(",", "").split(), None, None][:2]
        how = {"runtime": runtime, "precision": precision, "cpu_threads": cpu_threads, "seconds": seconds, **more}
        if self._unknown_below is not None:
            how["unknown_below"] = self._unknown_below
        write(self._path, {**how, "images": self.images, "faults": list(faults)})


def _of_classes(regions: Sequence[Region]) -> dict[int, dict[str, float]]:
    """By the number of a class: how many regions it has, of how many pixels, and their mean confidence."""
    classes: dict[int, dict[str, float]] = {}
    for number in sorted({region.number for region in regions}):
        own = [region for region in regions if region.number == number]
        area = sum(region.area for region in own)
        classes[number] = {"count": len(own), "area": area}
        sure = [region.confidence * region.area for region in own if region.confidence is not None]
        if sure:
            classes[number]["confidence"] = round(sum(sure) / area, 6)
    return classes
