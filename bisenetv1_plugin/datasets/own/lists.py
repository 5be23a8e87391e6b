"""Lists of images, with or without their labels."""

from pathlib import Path
from typing import List, NamedTuple, Optional

from bisenetv1_plugin.datasets.own import walk
from bisenetv1_plugin.errors import InputError

_SEPARATORS = "\t,; "


class Pair(NamedTuple):
    """An image and its label; `split` is train, val or, where nothing says which, empty."""

    image: Path
    label: Path
    split: str = ""


class Pairs(NamedTuple):
    """A list that names images and labels."""

    pairs: List[Pair]


class Names(list):
    """A list that names images alone: their names without folder and ending."""


def read_list(path: Path, root: Path):
    """`Pairs` or `Names` of a list file, whatever separates its columns (tab, comma, semicolon or space).

    A line is divided where an image and a label come out that are there, so names may have spaces. Names that stand
    alone may have folders and endings.

    Args:
        path: the list, UTF-8.
        root: the folder that its names are relative to.

    Raises:
        InputError: the list is empty or no text, or a line names files that are not there.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the list {path} cannot be read as UTF-8 text ({error}): save it as such.") from error
    numbered = [(number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip()]
    if not numbered:
        raise InputError(f"the list {path} is empty: write a line `image label` for each pair, or remove the list.")
    pairs = [_divide(line, root) for _, line in numbered]
    if not any(pairs):
        if not any(_columns(line) for _, line in numbered):
            return Names(walk.stem(Path(line.split("/")[-1])) for _, line in numbered)
        pairs = [None]  # which names the first line
    for (number, line), pair in zip(numbered, pairs):
        if pair is None:
            raise InputError(
                f"{path}, line {number}: '{line}' names no image and label that are there, seen from {root}: "
                "correct the line or remove it."
            )
    return Pairs([pair for pair in pairs if pair])


def _divide(line: str, root: Path) -> Optional[Pair]:
    for separator in _SEPARATORS:
        parts = line.split(separator)
        for cut in range(1, len(parts)):
            image, label = (separator.join(half).strip(" \t\"'") for half in (parts[:cut], parts[cut:]))
            paths = [_inside(root, name) for name in (image, label) if name]
            if len(paths) == 2 and all(path.is_file() for path in paths):
                return Pair(*paths)
    return None


def _inside(root: Path, name: str) -> Path:
    """Of a name in a list; some lists let names in the folder begin with a slash."""
    path = root / name
    return path if path.is_file() else root / name.lstrip("/")


def _columns(line: str) -> bool:
    """Whether a line has several columns: the first ends like an image's name."""
    return any(
        Path(line.split(separator)[0]).suffix.lower() in walk.SUFFIXES for separator in _SEPARATORS if separator in line
    )
