"""The log of a command: what it did not show. In memory until there is a folder to put it in."""

from __future__ import annotations

import os
import shlex
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from bisenetv1_plugin import __version__, files
from bisenetv1_plugin.errors import InputError


class Log:
    """Appends to a file of a folder that somebody else makes; never fails, and says what it could not do in `fault`.

    Args:
        path (Path, optional): the file; None for a command that has no folder: the text is kept in memory alone.

    Attributes:
        live (bool): whether it is written as soon as there is something; else at the end, when `close` says so.
        fault (str, optional): why the file is not complete, a sentence.
    """

    def __init__(self, path: Path | None) -> None:
        self.path, self.live = path, False
        self._file = None
        self._lock = threading.RLock()
        self._held: list[str] = []
        self.fault: str | None = None

    @property
    def is_written(self) -> bool:
        """Whether the file has all that there was."""
        return self._file is not None and self.fault is None

    @property
    def held(self) -> str:
        """What no file has."""
        return "".join(self._held)

    def add(self, text: str) -> None:
        with self._lock:  # readers of data have threads
            self._held.append(text)
            if self.live:
                self._write()

    def close(self, keep: bool) -> None:
        """End it; with `keep`, what was held until now is written, if the folder is there."""
        if keep:
            self._write()
        if self._file is not None:
            os.close(self._file)

    def _write(self) -> None:
        if self.path is None or self.fault or not self._held or not self.path.parent.is_dir():
            return
        try:
            with files.naming(str(self.path), str(self.path)):
                if self._file is None:
                    self._file = _open(self.path)
                    self._held.insert(0, _header())
                _append(self._file, self.held.encode("utf-8", "backslashreplace"))
        except InputError as error:
            self.fault = str(error)
        except OSError as error:
            self.fault = files.refusal(error) or f"{self.path}: {error}."
            if self._file is not None and os.path.getsize(self.path) == 0:
                with suppress(OSError):
                    os.unlink(self.path)
        else:
            self._held.clear()


def _open(path: Path) -> int:
    """A log of this package, or a new one; nothing is added to another file that has this name.

    Raises:
        InputError: there is one.
    """
    if path.is_symlink() or (path.exists() and (files.is_stream(path) or not _is_log(path))):
        raise InputError(f"{path} exists and is no log of this command: move it away.")
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)


def _is_log(path: Path) -> bool:
    with open(path, "rb") as file:
        return file.read(4) in (b"", b"=== ")


def _append(file: int, content: bytes) -> None:
    """All of it, or nothing. Each call writes to the file itself: processes that are killed leave what they said."""
    before = os.fstat(file).st_size
    try:
        while content:
            content = content[os.write(file, content) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, before)
        raise


def _header() -> str:
    words = " ".join(map(shlex.quote, sys.argv[1:]))
    return f"=== {time.strftime('%Y-%m-%d %H:%M:%S')} bisenetv1 {words} (bisenetv1-plugin {__version__})\n"
