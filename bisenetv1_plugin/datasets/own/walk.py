"""The files of a folder, and which of them are pictures."""

from __future__ import annotations

import os
from pathlib import Path

from bisenetv1_plugin import image_files
from bisenetv1_plugin.errors import InputError

# What Pillow or OpenCV call an image, and what neither reads but people have, so that it is named, not overlooked.
SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
        ".pgm",
        ".pbm",
        ".jp2",
        ".gif",
        ".heic",
        ".heif",
        ".avif",
    ]
)
_SYSTEM = ("__MACOSX", "@eaDir")  # beside hidden folders


def files_under(root: Path) -> list[Path]:
    """Every file below a folder, relative to it and sorted; hidden ones and those of operating systems are left out.

    Links to folders are followed, and each folder is entered once: by its own name where it has one here. A link that
    leads nowhere counts as a file, so that whoever needs it says that it cannot be read.

    Raises:
        InputError: `root` is no folder, a folder cannot be listed, or the name of a picture is not UTF-8.
    """
    if not os.path.isdir(root):
        raise InputError(f"{root} is no folder, so it has neither train.txt and val.txt nor images/ and labels/.")
    found: list[Path] = []
    seen: set[str] = set()
    waiting: list[Path] = [root]
    links: list[Path] = []
    while waiting or links:
        folder = waiting.pop() if waiting else links.pop(0)
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise InputError(f"the folder {folder} cannot be listed ({error}): give it back its rights.") from error
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _SYSTEM:
                continue
            if os.path.isdir(entry.path):
                (links if entry.is_symlink() else waiting).append(Path(entry.path))
            else:
                found.append(Path(entry.path).relative_to(root))
    for path in found:
        if path.suffix.lower() in SUFFIXES:
            fault = image_files.text_fault(root / path)
            if fault:
                raise InputError(fault)
    return sorted(found)


def is_picture(root: Path, path: Path) -> bool:
    """Whether a file is called like an image or, where its name has no ending, is one."""
    if path.suffix:
        return path.suffix.lower() in SUFFIXES
    try:
        return bool(image_files.header(root / path).format)
    except image_files.READ_ERRORS:
        return False


def stem(path: Path) -> str:
    """The name without the ending of an image; `frame.0001` keeps its own dot."""
    return path.stem if path.suffix.lower() in SUFFIXES else path.name
