"""The rule for writing, and files that are whole or not there. And what to say where the system refuses.

The rule: a command writes below its own output folder, or the file it was told, and never over what it reads or what
an earlier run of the same kind did not make. `check_outputs` refuses before any work. A PNG, a video or another binary
file carries the kind of run that made it in its last bytes, see `whole_file`.
"""

from __future__ import annotations

import errno
import functools
import os
import shutil
import stat
import struct
import tempfile
import zlib
from contextlib import contextmanager, suppress
from typing import BinaryIO, Callable, Iterable, Iterator

from bisenetv1_plugin.errors import InputError

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
    errno.ENXIO: ("nobody reads from this pipe", "start its reader first, or choose a file"),
    errno.EPIPE: ("its reader has gone", "choose a file"),
    errno.EINVAL: ("the system does not take this name", "choose another"),
    errno.EILSEQ: ("the file system does not take this name", "choose another"),
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
def name_in_errors(path: str, hidden: str) -> Iterator[None]:
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


def check_outputs(
    targets: Iterable[str], reads: Iterable[str] = (), is_ours: Callable[[str], bool] = lambda path: False
) -> None:
    """Refuse to write where something would be lost; to be called before any work.

    Files are compared by what they are, not by their names: links, `..`, hard links and, on a file system that folds
    it, case make no difference. Devices and pipes are written to, whatever they are. An empty file is nothing to lose.

    Args:
        targets: the paths of the files that will be written.
        reads: the paths of the files that are read for it.
        is_ours: whether an existing file was made by an earlier run of the same kind, see `made_by`.

    Raises:
        InputError: a target is read, is not ours, or is named twice.
        OSError: a target cannot be looked at; see `refusal`.
    """
    read = {_identity(path): path for path in reads if os.path.exists(path)}
    named: dict[object, str] = {}
    for target in targets:
        if is_stream(target):
            continue
        if os.pardir in target.split(os.sep):  # of a folder that is made on the way, for one
            folder, name = os.path.split(target)
            target = os.path.join(os.path.realpath(folder), name)
        try:
            state = os.stat(target)
        except FileNotFoundError:
            state = None
            _check_name(target)
        if state is not None:
            if stat.S_ISDIR(state.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), target)
            key: object = state.st_dev, state.st_ino
            if key in read:
                raise InputError(f"{target} would be written, and it is read: name another place for the results.")
            if state.st_size and not is_ours(target):
                raise InputError(
                    f"{target} exists, and no earlier run of this command made it: move it away, or name another place "
                    "for the results."
                )
        else:
            key = _place(os.path.realpath(target) if os.path.islink(target) else target)
        other = named.setdefault(key, target)
        if other is not target:
            raise InputError(f"{other} and {target} would be one file: give each result its own name.")


def _check_name(path: str) -> None:
    """Raise OSError where the system takes no such name; below a folder that is not there it does not look at it."""
    folder, name = os.path.split(os.path.abspath(path))
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    try:
        os.lstat(os.path.join(folder, name))
    except FileNotFoundError:
        return
    except OSError as error:
        error.filename = path
        raise


def is_same(path: str, other: str) -> bool:
    """Whether two names lead to one place, whether or not anything is there."""
    return os.path.realpath(path) == os.path.realpath(other)


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a device, a pipe or a file that is open already (/dev/stdout): never replaced, only written."""
    if os.path.abspath(path).startswith(("/dev/fd/", "/dev/std", "/proc/")):
        return True
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def utf8_path(path: str) -> str:
    """The path, for a library in C++ that opens it.

    Raises:
        InputError: its name is not UTF-8; such libraries crash on what Python has for it.
    """
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        shown = path.encode("utf-8", "backslashreplace").decode("utf-8")
        raise InputError(f"the name of {shown} is not UTF-8, and what opens it takes no other: rename it.") from error
    return path


def path_inside(folder: str | os.PathLike[str], name: str) -> str:
    """The path of a name in a folder, where the name comes out of a file.

    Raises:
        InputError: it leads out of the folder, or is none.
    """
    path = os.path.normpath(os.path.join(folder, name))
    inside = os.path.relpath(path, folder)
    if "\0" in name or inside in (os.curdir, os.pardir) or inside.startswith(os.pardir + os.sep) or os.path.isabs(name):
        raise InputError(f"{name!r} names no file inside of {os.fspath(folder)}.")
    return path


def made_by(kind: str | None = None) -> Callable[[str], bool]:
    """For `check_outputs`: whether `whole_file` made a file, for this kind of run; None: for any."""
    mark = _MARK if kind is None else _mark(kind)

    def is_ours(path: str) -> bool:
        with open(path, "rb") as file:
            length = file.seek(0, os.SEEK_END)
            file.seek(max(0, length - _TAIL))
            tail = file.read()
            if mark not in tail or not path.lower().endswith(_JSON):
                return mark in tail
            return tail.endswith(_json_end(file, length - len(tail) + tail.rfind(_KEY)))

    return is_ours


@contextmanager
def whole_file(path: str | os.PathLike[str], kind: str | None = None) -> Iterator[str]:
    """A path beside `path` to write to; it becomes `path` when the block ends, and is removed when the block raises.

    The folder is made if need be. A link stays one, and the file that it leads to is written. A device or a pipe gets
    the content when it is complete.

    Args:
        path (str or path): the file.
        kind (str, optional): of run. The file says so in its last bytes, where no reader of its format minds: a PNG in
            a chunk `tEXt`, an MP4 in a box `free`, a JSON object in a last key, with a checksum of what is before it,
            for programs that edit JSON keep the keys that they do not know; others behind their end.

    Raises:
        OSError: the folder or the file cannot be written, or the disk is full; it names `path`.
    """
    path = os.fspath(path)
    stream = is_stream(path)
    # A link's own name stays; `..` behind a folder that is not there yet leads where it will lead.
    leads = os.path.islink(path) or os.pardir in path.split(os.sep)
    target = os.path.realpath(path) if leads and not stream else path
    folder = tempfile.gettempdir() if stream else os.path.dirname(os.path.abspath(target))
    os.makedirs(folder, exist_ok=True)
    # No leading dot: PyTorch derives a name inside its archive from the file's, and refuses an empty one. The ending
    # stays: OpenCV, matplotlib and PyTorch choose the format by it.
    with name_in_errors(path, os.path.join(folder, "part-")):
        handle, temporary = tempfile.mkstemp(dir=folder, prefix="part-", suffix=os.path.splitext(path)[1])
        try:
            os.close(handle)
            os.chmod(temporary, 0o666 & ~_UMASK)
            yield temporary
            if kind:
                _append_mark(temporary, kind)
            if stream:
                _write_stream(temporary, path)
                os.unlink(temporary)
            else:
                os.replace(temporary, target)
        except BaseException:
            with suppress(FileNotFoundError):  # some libraries remove what they could not finish
                os.unlink(temporary)
            raise


def write(path: str | os.PathLike[str], content: bytes, kind: str | None = None) -> None:
    """Write a file whole or not at all. `kind`: see `whole_file`.

    Raises:
        OSError: as `whole_file`.
    """
    with whole_file(path, kind) as temporary, open(temporary, "wb") as file:
        file.write(content)


_TAIL = 256  # bytes, in which the mark of a kind is
_MARK = b"[bisenetv1-plugin "  # how that of every kind begins
_IEND = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
_JSON = (".json", ".geojson")
_KEY = b',\n"made_by": "'  # before the mark


def _json_end(file: BinaryIO, length: int) -> bytes:
    """What follows the mark in JSON: a checksum of the first bytes of the file, and the brace of its object."""
    file.seek(0)
    checksum = 0
    while length > 0:
        piece = file.read(min(length, 1 << 20))
        if not piece:
            break
        checksum, length = zlib.crc32(piece, checksum), length - len(piece)
    return b' %08x"}' % checksum


def _mark(kind: str) -> bytes:
    return _MARK + f"{kind}]".encode("ascii")


def _append_mark(path: str, kind: str) -> None:
    """Add the mark at the end of a file that is complete."""
    mark = _mark(kind)
    with open(path, "r+b") as file:
        length = file.seek(0, os.SEEK_END)
        if path.lower().endswith(_JSON):
            mark = _KEY + mark + _json_end(file, length - 1)
            file.seek(length - 1)  # over the brace
        elif path.lower().endswith((".mp4", ".mov")):
            mark = struct.pack(">I", 8 + len(mark)) + b"free" + mark
        elif file.tell() > len(_IEND):
            file.seek(-len(_IEND), os.SEEK_END)
            if file.read() == _IEND:
                file.seek(-len(_IEND), os.SEEK_END)
                content = b"tEXtSoftware\0" + mark
                mark = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content)) + _IEND
        file.write(mark)


def _write_stream(source: str, stream: str) -> None:
    """Write a file's content into a device or a pipe; one that nobody reads is an error, not a wait without end."""
    target = os.open(stream, os.O_WRONLY | os.O_APPEND | getattr(os, "O_NONBLOCK", 0))
    try:
        if hasattr(os, "set_blocking"):
            os.set_blocking(target, True)
        with open(source, "rb") as content, os.fdopen(target, "wb", closefd=False) as out:
            shutil.copyfileobj(content, out)
    finally:
        os.close(target)


def _identity(path: str) -> tuple[int, int]:
    state = os.stat(path)
    return state.st_dev, state.st_ino


def _place(path: str) -> tuple[str, str]:
    """Where a file that is not there yet will be: the same for all names that lead there."""
    folder, name = os.path.split(os.path.abspath(path))
    folder, folds = _folder(folder)
    return folder, name.casefold() if folds else name


@functools.lru_cache(maxsize=4096)
def _folder(path: str) -> tuple[str, bool]:
    """A folder's real path, and whether its file system folds case."""
    real = there = os.path.realpath(path)
    while True:
        parent, name = os.path.split(there)
        if os.path.exists(there) and name.swapcase() != name:
            swapped = os.path.join(parent, name.swapcase())
            return real, os.path.exists(swapped) and os.path.samefile(there, swapped)
        if parent == there:
            return real, False
        there = parent


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _umask()  # asked once: between the two calls another thread's files would be open to all
