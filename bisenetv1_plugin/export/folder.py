"""The folder of an export: complete, or as it was before."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import contextmanager
from typing import Iterator, Sequence

from bisenetv1_plugin import files
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference import probe

# All names that an export gives.
_NAMES = (
    *("deploy.yaml", probe.NAME, "model.json", "model.pdmodel", "model.pdiparams"),
    *("model.onnx", "picture.onnx", "model.xml", "model.bin"),
)
_ROOM = bytes(1 << 16)  # what must still fit on a disk that is not full


def check_folder(save_dir: str, reads: Sequence[str] = ()) -> None:
    """Refuse a folder where an export would replace what is none; to be called before any work.

    Args:
        save_dir (str): the folder.
        reads (sequence[str]): the files that the export is made from.

    Raises:
        InputError: a file of one of an export's names is there, and no `deploy.yaml`; or it is one of `reads`.
        OSError: the folder cannot be looked into.
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
    """A folder inside `save_dir`, to write an export into and `move_files` from; errors there name `save_dir`."""
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
            # On a full disk, libraries in C++ say "iostream error", or choke on what they could not write before.
            with open(os.path.join(folder, "room"), "wb") as file:
                file.write(_ROOM)
            raise


def move_files(folder: str, save_dir: str) -> None:
    """Put a complete export in its place, or, where that fails, everything back as it was.

    `deploy.yaml` names the other files, so it is removed first and written last. If the process is killed in between,
    there is no `deploy.yaml`, rather than one that names files of two exports.

    Args:
        folder (str): of the new files, on the same disk.
        save_dir (str): where they go. Files of the same names there are replaced.

    Raises:
        OSError: a file is cut off because the disk is full, or the system refuses the move.
    """
    names = sorted(os.listdir(folder), key=lambda name: (name == "deploy.yaml", name))
    for name in names:
        check_written(os.path.join(folder, name))
    earlier = tempfile.mkdtemp(dir=folder)
    moved: list[tuple[str, str]] = []
    try:
        for name in reversed(names):
            target = os.path.join(save_dir, name)
            if os.path.isdir(target):  # nobody's export: not ours to put aside
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
    """Raise what libraries swallow: Paddle's writer in C++ cuts a file off where the disk is full, and says nothing.

    A disk that was full is full now, so the file cannot grow.

    Raises:
        OSError: the disk is full.
    """
    whole = os.path.getsize(path)
    with open(path, "ab") as file:
        file.write(_ROOM)
        file.flush()
        file.truncate(whole)
