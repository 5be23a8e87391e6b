"""Where a TIPC chain may write and remove: below test_tipc/ of the working directory, and there what TIPC has made."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Callable, Iterable

from bisenetv1_plugin.tipc.params import TipcError

_ROOT = "test_tipc"


def check(path: str | Path, where: str) -> None:
    """Refuse a path that is not below test_tipc/, links followed.

    Args:
        path: of a file or folder that would be written or removed.
        where: who names it, for the sentence.
    """
    root = os.path.join(os.path.realpath(os.curdir), _ROOT)
    if not os.path.realpath(path).startswith(root + os.sep):
        raise TipcError(
            f"{where}: {path} is not below {root}, links followed. TIPC writes and removes files nowhere else: name a "
            "place there."
        )


def clear(folder: Path, reads: Iterable[str | Path]) -> None:
    """Remove what an earlier run left in its folder.

    Args:
        folder: the folder.
        reads: what the chain will read, which must not be in it.

    Raises:
        TipcError: it is another place, or no earlier run has made it.
    """
    check(folder, "the folder of the results")
    if not os.path.lexists(folder):
        return
    real = os.path.realpath(folder)
    for read in reads:
        if os.path.realpath(read).startswith(real + os.sep):
            raise TipcError(f"{read} is in {folder}, which every run removes first: move it to another folder.")
    if folder.is_symlink() or not folder.is_dir():
        raise TipcError(f"{folder} is no folder, and the results go there: move it away.")
    if any(folder.iterdir()) and not any(path.is_file() for path in folder.glob("results_*.log")):
        raise TipcError(f"{folder} has no results_*.log, so no earlier run has made it: move it away.")
    shutil.rmtree(folder)


def check_export(path: Path, folder: Path, where: str) -> None:
    """Refuse a folder to export into that is another place, or a file of the export that is not there.

    Args:
        path: the file by which the chain knows that the export is done.
        folder: the folder that it exports into.
        where: who names them, for the sentence.
    """
    check(folder, where)
    if os.path.realpath(path) != os.path.join(os.path.realpath(folder), path.name):
        raise TipcError(f"{where}: {path} is not in {folder}, where the export goes.")


def is_new(path: Path) -> Callable[[], bool]:
    """A function that tells whether a step has written the file since: an earlier run's must not stand in."""
    before = _stamp(path)
    return lambda: path.is_file() and _stamp(path) != before


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        state = os.stat(path)
    except OSError:
        return None
    return state.st_ino, state.st_mtime_ns, state.st_size
