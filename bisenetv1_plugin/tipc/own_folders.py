"""Ensure that a TIPC chain writes and removes only its own files, below test_tipc/ of the working directory."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Callable, Iterable

from bisenetv1_plugin.tipc.params import TipcError

_ROOT = "test_tipc"


def check(path: str | Path, where: str) -> None:
    """Raise TipcError if a path, with links resolved, is not below test_tipc/.

    Args:
        path: a file or folder that would be written or removed.
        where: the source of the path, for the message.
    """
    root = os.path.join(os.path.realpath(os.curdir), _ROOT)
    if not os.path.realpath(path).startswith(root + os.sep):
        raise TipcError(
            f"{where}: {path} is not below {root} (with links resolved). TIPC writes and removes files only there: "
            "name a path there."
        )


def clear(folder: Path, reads: Iterable[str | Path]) -> None:
    """Remove the folder of an earlier run.

    Args:
        folder: the folder.
        reads: inputs of the chain, which must not be in the folder.

    Raises:
        TipcError: the folder is not below test_tipc/, is not from an earlier run, or has inputs.
    """
    check(folder, "the folder of the results")
    if not os.path.lexists(folder):
        return
    real = os.path.realpath(folder)
    for read in reads:
        if os.path.realpath(read).startswith(real + os.sep):
            raise TipcError(f"{read} is in {folder}, which every run removes: move it to another folder.")
    if folder.is_symlink() or not folder.is_dir():
        raise TipcError(f"{folder} is not a folder, but results are written there: move it away.")
    if any(folder.iterdir()) and not any(path.is_file() for path in folder.glob("results_*.log")):
        raise TipcError(f"{folder} has no results_*.log, so it is not from an earlier run: move it away.")
    shutil.rmtree(folder)


def check_export(path: Path, folder: Path, where: str) -> None:
    """Raise TipcError if an export folder is not below test_tipc/, or the expected file is not in it.

    Args:
        path: the file that the export must write.
        folder: the folder of the export.
        where: the source of both, for the message.
    """
    check(folder, where)
    if os.path.realpath(path) != os.path.join(os.path.realpath(folder), path.name):
        raise TipcError(f"{where}: {path} is not in {folder}, the folder of the export.")


def is_new(path: Path) -> Callable[[], bool]:
    """Return a function that tells whether the file has been written since this call."""
    before = _stamp(path)
    return lambda: path.is_file() and _stamp(path) != before


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size
