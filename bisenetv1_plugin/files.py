"""Write files safely: never over the user's own files, and whole or not at all. Also explains the system's errors.

A command writes only into its output folder, or to the file that a flag names. It never overwrites its own input, or
files that an earlier run of the same kind did not make; `check_outputs` refuses that before any work. A PNG, a video or
another binary file has the kind of run that made it in its last bytes, see `whole_file`.
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
_REFUSALS = {  # the errors that a user can cause and cure; all others keep their traceback
    errno.ENOSPC: ("no space left on the device", _ROOM),
    errno.EDQUOT: ("your disk quota is used up", _ROOM),
    errno.EFBIG: ("the file is larger than is allowed here", "raise the limit (ulimit -f), or choose another folder"),
    errno.EACCES: ("permission denied", "ask for permission, or choose another path"),
    errno.EPERM: ("permission denied", "ask for permission, or choose another path"),
    errno.EROFS: ("the file system is read-only", "choose another folder"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter one"),
    errno.EISDIR: ("it is a folder, where a file is needed", "choose another name"),
    errno.ENOTDIR: ("a part of this path is a file, not a folder", "choose another path"),
    errno.EEXIST: ("it exists already", "remove it, or choose another name"),
    errno.ELOOP: ("its symbolic links go in a circle", "name the file itself"),
    errno.ENXIO: ("nobody reads from this pipe", "start its reader first, or choose a file"),
    errno.EPIPE: ("its reader is gone", "choose a file"),
    errno.EINVAL: ("the system does not accept this name", "choose another"),
    errno.EILSEQ: ("the file system does not accept this name", "choose another"),
}


def refusal(error: OSError) -> str | None:
    """A sentence about an error that a user can cause and cure; None for all other errors."""
    if error.errno == errno.ENOENT and str(error.strerror).startswith("No usable temporary directory"):
        return "no temporary file can be written; make room in /tmp, or name another folder in TMPDIR."
    if error.filename is None or error.errno not in _REFUSALS:
        return None
    what, cure = _REFUSALS[error.errno]
    return f"{os.fspath(error.filename)}: {what}; {cure}."


@contextmanager
def name_in_errors(path: str, hidden: str) -> Iterator[None]:
    """Set the file name of OSErrors in this block to `path`.

    A failed write has no file name. A temporary name, which starts with `hidden`, would mean nothing to the user.
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
    """Refuse to overwrite files that matter. Call it before any work.

    It compares files, not names: links, hard links and `..` are followed, and so is case on a file system that ignores
    it. Devices, pipes and empty files may always be written.

    Args:
        targets: the paths of the files that will be written.
        reads: the paths of the files that will be read.
        is_ours: whether an existing file was made by an earlier run of the same kind, see `made_by`.

    Raises:
        InputError: a target is also read, is not ours, or is named twice.
        OSError: a target cannot be examined; see `refusal`.
    """
    read = {_identity(path): path for path in reads if os.path.exists(path)}
    named: dict[object, str] = {}
    for target in targets:
        if is_stream(target):
            continue
        if os.pardir in target.split(os.sep):  # `..` may follow a folder that does not exist yet
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
    """Raise OSError if the system refuses this name; by itself, it ignores names inside a missing folder."""
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
    """Whether two paths are the same with links followed; the file may be missing."""
    return os.path.realpath(path) == os.path.realpath(other)


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a device, a pipe or an open file (/dev/stdout), which is written to but never replaced."""
    if os.path.abspath(path).startswith(("/dev/fd/", "/dev/std", "/proc/")):
        return True
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def utf8_path(path: str) -> str:
    """Return a path that a library in C++ may open.

    Raises:
        InputError: its name is not UTF-8; libraries in C++ crash on Python's form of it.
    """
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        shown = path.encode("utf-8", "backslashreplace").decode("utf-8")
        raise InputError(
            f"the name of {shown} is not UTF-8, which the library that opens it needs: rename it."
        ) from error
    return path


def path_inside(folder: str | os.PathLike[str], name: str) -> str:
    """The path of an untrusted name in a folder.

    Raises:
        InputError: the name leads out of the folder, or is not a file name.
    """
    path = os.path.normpath(os.path.join(folder, name))
    inside = os.path.relpath(path, folder)
    if "\0" in name or inside in (os.curdir, os.pardir) or inside.startswith(os.pardir + os.sep) or os.path.isabs(name):
        raise InputError(f"{name!r} is not the name of a file inside {os.fspath(folder)}: rename it.")
    return path


def made_by(kind: str | None = None) -> Callable[[str], bool]:
    """The `is_ours` of `check_outputs`: whether `whole_file` wrote a file in this kind of run, or in any if None."""
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
    """A temporary path to write to. It replaces `path` when the block ends, and is removed if the block raises.

    The folder is created if it does not exist. If `path` is a link, its target is written. A device or a pipe gets the
    content at the end of the block.

    Args:
        path: the file.
        kind: the kind of run. It is stored in the last bytes of the file, where readers of its format ignore it. A PNG
            has it in a chunk `tEXt`, an MP4 in a box `free`, other formats after their end. A JSON object has it in its
            last key, with a checksum, because programs that edit JSON keep unknown keys.

    Raises:
        OSError: the folder or the file cannot be written, or the disk is full; it names `path`.
    """
    path = os.fspath(path)
    stream = is_stream(path)
    # `realpath` writes the target of a link, and resolves `..` after a folder that does not exist yet.
    is_indirect = os.path.islink(path) or os.pardir in path.split(os.sep)
    target = os.path.realpath(path) if is_indirect and not stream else path
    folder = tempfile.gettempdir() if stream else os.path.dirname(os.path.abspath(target))
    os.makedirs(folder, exist_ok=True)
    # No leading dot, because PyTorch names its archive's root after the file, and refuses an empty name. The ending
    # stays, because OpenCV, matplotlib and PyTorch choose the format by it.
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
            with suppress(FileNotFoundError):  # some libraries remove an unfinished file themselves
                os.unlink(temporary)
            raise


def write(path: str | os.PathLike[str], content: bytes, kind: str | None = None) -> None:
    """Write a file whole or not at all. `kind`: see `whole_file`.

    Raises:
        OSError: see `whole_file`.
    """
    with whole_file(path, kind) as temporary, open(temporary, "wb") as file:
        file.write(content)


_TAIL = 256  # bytes at the end of a file, which have the mark of its kind
_MARK = b"[bisenetv1-plugin "  # the start of every mark
_IEND = struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))
_JSON = (".json", ".geojson")
_KEY = b',\n"made_by": "'  # before the mark


def _json_end(file: BinaryIO, length: int) -> bytes:
    """The end of a JSON file after its mark: a checksum of the file's first `length` bytes, and the closing brace."""
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
    """Add the mark at the end of a finished file."""
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
    """Write a file's content into a device or a pipe; without a reader it raises instead of waiting forever."""
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
    """The place of a file that does not exist yet; it is the same for all its names."""
    folder, name = os.path.split(os.path.abspath(path))
    folder, folds = _folder(folder)
    return folder, name.casefold() if folds else name


@functools.lru_cache(maxsize=4096)
def _folder(path: str) -> tuple[str, bool]:
    """A folder's real path, and whether its file system ignores case."""
    real = existing = os.path.realpath(path)
    while True:
        parent, name = os.path.split(existing)
        if os.path.exists(existing) and name.swapcase() != name:
            swapped = os.path.join(parent, name.swapcase())
            return real, os.path.exists(swapped) and os.path.samefile(existing, swapped)
        if parent == existing:
            return real, False
        existing = parent


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


_UMASK = _umask()  # read once: between the two calls of `os.umask`, other threads' files would be open to all
