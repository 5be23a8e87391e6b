"""Files that are whole or not there: written beside, then renamed."""

from __future__ import annotations

import os
import tempfile
from contextlib import contextmanager
from typing import Iterator


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[str]:
    """A path beside `path` to write to; it becomes `path` when the block ends, and is removed when the block raises.

    The folder is made if need be.

    Raises:
        OSError: the folder or the file cannot be written, or the disk is full.
    """
    path = os.fspath(path)
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    # No leading dot: PyTorch derives a name inside its archive from the file's, and refuses an empty one. The ending
    # stays: OpenCV, matplotlib and PyTorch choose the format by it.
    handle, beside = tempfile.mkstemp(dir=folder, prefix="part-", suffix=os.path.splitext(path)[1])
    try:
        os.close(handle)
        os.chmod(beside, 0o666 & ~_umask())
        yield beside
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
