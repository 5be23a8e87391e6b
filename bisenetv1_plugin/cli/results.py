"""The files of --json for other programs; docs/training.md and docs/deployment.md describe their keys."""

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
    parser.add_argument("--json", metavar="FILE", help="also write the figures to this JSON file")


def check_picture(path: str | None, reads: Sequence[str] = ()) -> None:
    """Like `check`, for the PNG of --picture."""
    if path is not None and os.path.splitext(path)[1].lower() not in ("", ".png"):
        raise InputError(f"--picture {path}: it is written as a PNG; end its name with .png.")
    check_place(path, "--picture")
    from bisenetv1_plugin.drawing import plots

    files.check_outputs([path] if path else [], reads, files.made_by(plots.MADE_BY))


def check(path: str | None, key: str, reads: Sequence[str] = ()) -> None:
    """Check before the work that the file of --json can be written after it.

    Args:
        path: the file of --json.
        key: see `is_ours`.
        reads: the files that the command reads.

    Raises:
        InputError: the file cannot be written, or it would replace one that an earlier run did not make.
    """
    check_place(path, "--json")
    files.check_outputs([path] if path else [], reads, functools.partial(is_ours, key=key))


def is_ours(path: str, key: str) -> bool:
    """Whether a file is a JSON object with this key, or a list of such objects."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (ValueError, RecursionError):
        return False
    first = content[0] if isinstance(content, list) and content else content
    return isinstance(first, dict) and key in first


def check_place(path: str | None, flag: str = "--json") -> None:
    """Like `check`, before it is known which files are read."""
    if path is None or files.is_stream(path):
        return
    if os.path.isdir(path) or not _takes_files(os.path.dirname(os.path.realpath(path))):
        raise InputError(f"{flag} {path}: the file cannot be written there; choose another path.")


def check_folder(path: str, flag: str) -> None:
    """
    Raises:
        InputError: the path is a file, or the folder cannot be made or written into.
    """
    if os.path.lexists(path) and not os.path.isdir(path):
        raise InputError(f"{flag} {path}: it is a file; name a folder.")
    if not _takes_files(os.path.realpath(path)):
        raise InputError(f"{flag} {path}: the folder cannot be written there; choose another path.")


def _takes_files(folder: str) -> bool:
    """Whether files can be written into a folder, which need not exist yet."""
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return os.path.isdir(folder) and os.access(folder, os.W_OK)


def write(path: str, content: Any) -> None:
    """Write the whole file or none. NaN, as for classes without a pixel, becomes null."""
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
    """An `engine.Sink` that collects the figures of all masks for the file of --json."""

    def __init__(self, path: str, regions: RegionFiles | None = None, unknown_below: float | None = None) -> None:
        """`regions` must get each mask before this object does, because its regions are counted here."""
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
        """Write the file; `name` starts with the runtime and the precision, and is empty if nothing ran."""
        runtime, precision = [*name.replace(",", "").split(), None, None][:2]
        how = {"runtime": runtime, "precision": precision, "cpu_threads": cpu_threads, "seconds": seconds, **more}
        if self._unknown_below is not None:
            how["unknown_below"] = self._unknown_below
        write(self._path, {**how, "images": self.images, "faults": list(faults)})


def _of_classes(regions: Sequence[Region]) -> dict[int, dict[str, float]]:
    """By class number: the count of its regions, their pixels, and their mean confidence."""
    classes: dict[int, dict[str, float]] = {}
    for number in sorted({region.number for region in regions}):
        own = [region for region in regions if region.number == number]
        area = sum(region.area for region in own)
        classes[number] = {"count": len(own), "area": area}
        sure = [region.confidence * region.area for region in own if region.confidence is not None]
        if sure:
            classes[number]["confidence"] = round(sum(sure) / area, 6)
    return classes
