"""Functions that all preparations use: reading labels, writing folders and lists, and reporting problems."""

from __future__ import annotations

import secrets
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Sequence, Tuple

import cv2
import numpy as np

from bisenetv1_plugin import files, image_files
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.image_files import READ_ERRORS

Splits = Dict[str, List[Tuple[Path, Path]]]  # (image, label) by split
UNKNOWN = 254  # in a lookup table: a value that labels may not have
_SHOWN = 20  # problems in a message


class Prepared(NamedTuple):
    """The result of a preparation: the folder, the number of images per split, and the class names by index."""

    root: Path
    counts: dict[str, int]
    classes: tuple[str, ...]


def all_pairs(splits: Splits) -> list[tuple[str, Path, Path]]:
    """Every (split, image, label)."""
    return [(split, image, label) for split, found in splits.items() for image, label in found]


@contextmanager
def all_or_nothing(dst: Path) -> Iterator[Path]:
    """A new folder beside `dst` to fill: it becomes `dst` when the block ends, and is removed when the block raises."""
    if dst.exists() and (not dst.is_dir() or any(dst.iterdir())):
        raise FileExistsError(f"{dst} exists and is not an empty folder: name another one, or remove it first.")
    # A random name, which nobody else uses, and a short one, because the name of `dst` may have the greatest length
    work = dst.with_name(f".part-{secrets.token_hex(8)}")
    work.mkdir(parents=True)
    try:
        yield work
        if dst.exists():
            dst.rmdir()
        work.rename(dst)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def raise_together(problems: Sequence[str], summary: str) -> None:
    """Raises one ValueError for all problems, if any."""
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(f"{summary}: {'; '.join(problems[:_SHOWN])}{more}.")


def image_size(path: Path, whole: bool = True) -> tuple[int, int]:
    """(width, height); with `whole`, every byte is decoded, which finds truncated files."""
    try:
        with image_files.open_image(path) as image:
            if whole:
                image.load()
            return image.size
    except READ_ERRORS as error:
        raise ValueError(f"image {path} cannot be read ({error})") from error


def read_label(path: Path, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W] for indices (also of a palette PNG) or [H, W, 3 or 4] for colors; ValueError for anything else."""
    try:
        with image_files.open_image(path) as image:
            label = np.array(image)
    except READ_ERRORS as error:
        raise ValueError(f"label {path} cannot be read ({error})") from error
    if label.dtype != np.uint8 or (label.ndim == 3 and label.shape[2] < 3):
        raise ValueError(f"label {path} is neither 8-bit indices nor RGB colors")
    height, width = label.shape[:2]
    if (width, height) != size:
        raise ValueError(f"label {path} is {width}x{height}, its image {size[0]}x{size[1]}")
    return label


def look_up(table: np.ndarray, label: np.ndarray, path: Path, allowed: str) -> np.ndarray:
    """table[label]; ValueError if the label has unknown values, or colors instead of values."""
    if label.ndim != 2:
        raise ValueError(f"label {path} has colors where indices {allowed} were expected")
    result = table[label]
    unknown = np.unique(label[result == UNKNOWN])
    if unknown.size:
        raise ValueError(f"label {path} has values {', '.join(map(str, unknown))}, expected {allowed}")
    return result


def write_png(path: Path, label: np.ndarray) -> None:
    files.write(path, cv2.imencode(".png", label)[1].tobytes())


def write_lists(root: Path, lines: dict[str, list[str]], classes: Sequence[str]) -> None:
    """Writes `SPLIT.txt` for every split, and `classes.txt`, in UTF-8 with a line feed after every line."""
    for path, content in _lists(root, lines, classes).items():
        files.write(path, content)


def check_lists(root: Path, lines: dict[str, list[str]], classes: Sequence[str]) -> None:
    """Checks in advance that `write_lists` would not replace files with other content.

    Raises:
        InputError: a file exists with other content.
    """
    for path, content in _lists(root, lines, classes).items():
        try:
            with image_files.open_regular(path) as file:
                same = file.read(len(content) + 1) == content
        except FileNotFoundError:
            same = not path.is_symlink()  # a broken link would be written to its target
        except OSError:
            same = False
        if not same:
            raise InputError(f"{path} exists with other content: move it away, or name another folder.")


def list_line(image: str, label: str) -> str:
    """A line of a list with columns separated by a space.

    Raises:
        ValueError: the list cannot contain a name.
    """
    for name in (image, label):
        fault = image_files.text_fault(name)
        if fault:
            raise ValueError(fault.rstrip("."))
        if len(name.split()) != 1 or name != name.strip():
            raise ValueError(f"{name!r} has a space in its name, which these lists cannot contain: rename it")
    return f"{image} {label}"


def _lists(root: Path, lines: dict[str, list[str]], classes: Sequence[str]) -> dict[Path, bytes]:
    content = {**lines, "classes": classes}
    return {root / f"{name}.txt": "".join(f"{line}\n" for line in of).encode("utf-8") for name, of in content.items()}
