"""Files that are whole or not there: written beside, then renamed. And what to say where the system refuses."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import contextmanager, suppress
from typing import Iterator

_ROOM = "make room there, or choose another folder"
_REFUSALS = {  # those that a user can cause and cure; all others are ours to explain
    errno.ENOSPC: ("no space left on the device", _ROOM),
    errno.EDQUOT: ("your share of the space there is used up", _ROOM),
    errno.EFBIG: ("the file is larger than is allowed here", "raise the limit (ulimit -f), or choose another folder"),
    errno.EACCES: ("permission denied", "ask for the right to it, or choose another path"),
    errno.EPERM: ("permission denied", "ask for the right to it, or choose another path"),
    errno.EROFS: ("the file system is read-only", "choose another folder"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter one"),
    errno.EISDIR: ("it is a folder, where a file is needed", "choose another name"),
    errno.ENOTDIR: ("a part of this path is a file, not a folder", "choose another path"),
    errno.EEXIST: ("it exists already", "remove it, or choose another name"),
    errno.ELOOP: ("its symbolic links go in a circle", "name the file itself"),
}


def refusal(error: OSError) -> str | None:
    """The sentence for what the system refused a user; None for errors that are nobody's but a programmer's."""
    if error.errno == errno.ENOENT and str(error.strerror).startswith("No usable temporary directory"):
        return "no temporary file can be written; make room in /tmp, or name another folder in TMPDIR."
    if error.filename is None or error.errno not in _REFUSALS:
        return None
    what, cure = _REFUSALS[error.errno]
    return f"{os.fspath(error.filename)}: {what}; {cure}."


@contextmanager
def naming(path: str, hidden: str) -> Iterator[None]:
    """Let the system's errors in this block name `path`.

    A write that fails names no file at all, and one under a passing name (they begin with `hidden`) means nothing to
    a reader.
    """
    try:
        yield
    except OSError as error:
        if error.errno and (error.filename is None or str(error.filename).startswith(hidden)):
            error.filename = path
            error.filename2 = None
        raise


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[str]:
    """A path beside `path` to write to; it becomes `path` when the block ends, and is removed when the block raises.

    The folder is made if need be.

    Raises:
        OSError: the folder or the file cannot be written, or the disk is full; it names `path`.
    """
    path = os.fspath(path)
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    # No leading dot: PyTorch derives a name inside its archive from the file's, and refuses an empty one. The ending
    # stays: OpenCV, matplotlib and PyTorch choose the format by it.
    with naming(path, os.path.join(folder, "part-")):
        handle, beside = tempfile.mkstemp(dir=folder, prefix="part-", suffix=os.path.splitext(path)[1])
        try:
            os.close(handle)
            os.chmod(beside, 0o666 & ~_UMASK)
            yield beside
            os.replace(beside, path)
        except BaseException:
            with suppress(FileNotFoundError):  # some libraries remove what they could not finish
                os.unlink(beside)
            raise


def write(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        OSError: as `whole_file`.
    """
    with whole_file(path) as beside, open(beside, "wb") as file:
        file.write(content)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _umask()  # asked once: between the two calls another thread's files would be open to all
