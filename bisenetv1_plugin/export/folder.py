"""The folder of an export, which is replaced completely or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import contextmanager
from typing import Iterator, Sequence

from bisenetv1_plugin import files
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference import probe

# The names of all files in an export.
_NAMES = (
    *("deploy.yaml", probe.NAME, "model.json", "model.pdmodel", "model.pdiparams"),
    *("model.onnx", "picture.onnx", "model.xml", "model.bin"),
)
_ROOM = bytes(1 << 16)  # written to test whether the disk is full


def check_folder(save_dir: str, reads: Sequence[str] = ()) -> None:
    """Raise an error if an export would replace files of something else. Call this before any work.

    Args:
        save_dir: the folder.
        reads: the input files of the export.

    Raises:
        InputError: the folder has a file with a name of an export, but no `deploy.yaml`; or the file is in `reads`.
        OSError: the folder cannot be read.
    """
    files.utf8_path(save_dir)
    targets = [os.path.join(save_dir, name) for name in _NAMES]
    files.check_outputs(targets, reads, lambda path: _is_export(save_dir))


def _is_export(folder: str) -> bool:
    try:
        with open(os.path.join(folder, "deploy.yaml"), encoding="utf-8") as file:
            return any(line.startswith("Deploy:") for line in file)
    except (OSError, UnicodeDecodeError):
        return False


@contextmanager
def temporary_folder(save_dir: str) -> Iterator[str]:
    """Create a temporary folder in `save_dir`, for `move_files`. Errors in it name `save_dir`."""
    check_folder(save_dir)
    os.makedirs(save_dir, exist_ok=True)
    hidden = os.path.join(os.path.abspath(save_dir), ".export-")
    with files.name_in_errors(save_dir, hidden), tempfile.TemporaryDirectory(
        dir=os.path.dirname(hidden), prefix=os.path.basename(hidden)
    ) as folder:
        try:
            yield folder
        except (InputError, OSError):
            raise
        except Exception:
            # On a full disk, C++ libraries raise unrelated errors such as "iostream error". This write fails clearly.
            with open(os.path.join(folder, "room"), "wb") as file:
                file.write(_ROOM)
            raise


def move_files(folder: str, save_dir: str) -> None:
    """Move a complete export to its destination. If that fails, restore the files that were there.

    `deploy.yaml` names the other files. It is removed first and added last: if the process is killed, there is none,
    rather than one that names files of two exports.

    Args:
        folder: the folder of the new files, on the same disk.
        save_dir: the destination. Files with the same names are replaced.

    Raises:
        OSError: a file is truncated because the disk is full, or the system refuses the move.
    """
    names = sorted(os.listdir(folder), key=lambda name: (name == "deploy.yaml", name))
    for name in names:
        check_written(os.path.join(folder, name))
    earlier = tempfile.mkdtemp(dir=folder)
    moved: list[tuple[str, str]] = []
    try:
        for name in reversed(names):
            target = os.path.join(save_dir, name)
            if os.path.isdir(target):  # not a file of an export
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
            if os.path.lexists(target):
                _rename(target, os.path.join(earlier, name), moved)
        for name in names:
            _rename(os.path.join(folder, name), os.path.join(save_dir, name), moved)
    except BaseException:
        for source, target in reversed(moved):
            os.rename(target, source)
        raise


def _rename(source: str, target: str, moved: list[tuple[str, str]]) -> None:
    os.rename(source, target)
    moved.append((source, target))


def check_written(path: str) -> None:
    """Raise an error if the disk is full: Paddle's C++ writer truncates the file then, without an error.

    If the disk was full, it still is, and appending to the file fails.

    Raises:
        OSError: the disk is full.
    """
    whole = os.path.getsize(path)
    with open(path, "ab") as file:
        file.write(_ROOM)
        file.flush()
        file.truncate(whole)
