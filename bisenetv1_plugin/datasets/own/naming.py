"""Unique names for the files that are written below a folder."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from pathlib import Path, PurePath

from bisenetv1_plugin import files

_LONGEST_STEM = 240  # bytes; with a number and a suffix, most file systems allow 255


class UniqueNames:
    """Gives every file a unique name below a folder.

    Names that are equal on some file systems are not unique: names that differ only in case, or in how Unicode writes
    an accent. No file gets the name of a folder.
    """

    def __init__(self) -> None:
        self._files: set = set()
        self._folders: set = set()
        self._numbers: Counter = Counter()

    def assign(self, wanted: PurePath) -> Path:
        """`wanted` with the suffix .png, and a number before it if that name is taken.

        Raises:
            InputError: `wanted` is outside the folder.
        """
        files.path_inside(os.curdir, str(wanted))
        parent = Path(wanted).parent
        stem = wanted.stem if len(os.fsencode(wanted.stem)) <= _LONGEST_STEM else "label"
        first = name = parent / f"{stem}.png"
        while self._is_taken(name):
            self._numbers[first] += 1
            name = parent / f"{stem}.{self._numbers[first]}.png"
        self._files.add(_key(name))
        self._folders.update(map(_key, name.parents))
        return name

    def _is_taken(self, name: Path) -> bool:
        if _key(name) in self._files or _key(name) in self._folders:
            return True
        return any(_key(parent) in self._files for parent in name.parents)


def _key(path: PurePath) -> str:
    return unicodedata.normalize("NFC", str(path)).casefold()
