"""The files of a folder, and which of them are pictures."""

from __future__ import annotations

import os
from pathlib import Path

from bisenetv1_plugin import image_files
from bisenetv1_plugin.errors import InputError

# Formats that Pillow or OpenCV read, and common ones that neither reads, so that they are reported, not overlooked.
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
_SYSTEM = ("__MACOSX", "@eaDir")  # besides hidden folders


def files_under(root: Path) -> list[Path]:
    """Every file below a folder, relative to it and sorted, without hidden files and system folders.

    Links to folders are followed, but each folder is read once, preferably by its own name. A broken link counts as a
    file, so that reading it reports the error.

    Raises:
        InputError: `root` is not a folder, a folder cannot be listed, or the name of a picture is not UTF-8.
    """
    if not os.path.isdir(root):
        raise InputError(f"{root} is not a folder: name the folder with your images and labels.")
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
            raise InputError(f"the folder {folder} cannot be listed ({error}): correct its permissions.") from error
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
    """Whether a file has an image's suffix or, without a suffix, an image's content."""
    if path.suffix:
        return path.suffix.lower() in SUFFIXES
    try:
        return bool(image_files.header(root / path).format)
    except image_files.READ_ERRORS:
        return False


def stem(path: Path) -> str:
    """The name without an image's suffix; `frame.0001` stays whole."""
    return path.stem if path.suffix.lower() in SUFFIXES else path.name
