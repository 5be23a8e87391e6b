"""The log of a command: what it did not show. In memory until there is a folder to put it in."""

from __future__ import annotations

import io
import os
import shlex
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, ContextManager

from bisenetv1_plugin import __version__, files
from bisenetv1_plugin.errors import InputError


class Log(io.TextIOBase):
    """Appends to a file of a folder that somebody else makes; never fails, and says what it could not do in `fault`.

    Args:
        path (Path, optional): the file; None for a command that has no folder: the text is kept in memory alone.

    Attributes:
        live (bool): whether it is written as soon as there is something; else at the end, when `finish` says so.
        fault (str, optional): why the file is not complete, a sentence.
    """

    encoding = "utf-8"

    def __init__(self, path: Path | None) -> None:
        self.path, self.live = path, False
        self.fault: str | None = None
        self._file: int | None = None
        self._held: list[str] = []
        self._lock: ContextManager[Any] = threading.RLock()  # readers of data have threads
        self._is_over = False

    @property
    def is_written(self) -> bool:
        """Whether the file has all that there was."""
        return self._file is not None and self.fault is None

    @property
    def held(self) -> str:
        """What no file has."""
        return "".join(self._held)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._is_over:  # some keep a stream for good, as a handler of `logging` does
            return sys.stderr.write(text)
        with self._lock:
            self._held.append(text)
            if self.live:
                self._append()
        return len(text)

    def close(self) -> None:
        """Not for others, who have it as their `sys.stdout` for a while: `finish` ends it."""

    def finish(self, keep: bool) -> None:
        """End it; with `keep`, what was held until now is written, if the folder is there."""
        if keep:
            self._append()
        self._is_over = True
        if self._file is not None:
            os.close(self._file)

    def _append(self) -> None:
        if self.path is None or self.fault or not self._held or not self.path.parent.is_dir():
            return
        try:
            with files.name_in_errors(str(self.path), str(self.path)):
                if self._file is None:
                    self._file = _open(self.path)
                    self._held.insert(0, _header())
                _write(self._file, self.path, self.held.encode("utf-8", "backslashreplace"))
        except InputError as error:
            self.fault = str(error)
        except OSError as error:
            self.fault = files.refusal(error) or f"{self.path}: {error}."
        else:
            self._held.clear()


def _open(path: Path) -> int:
    """A log of this package, or a new one; nothing is added to another file that has this name.

    Raises:
        InputError: there is one.
    """
    ours = not path.is_symlink() and not files.is_stream(path)
    if ours and path.exists():
        with open(path, "rb") as file:
            ours = file.read(4) in (b"", b"=== ")
    if not ours:
        raise InputError(f"{path} exists and is no log of this command: move it away.")
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)


def _write(file: int, path: Path, content: bytes) -> None:
    """All of it, or nothing. Each call writes to the file itself: processes that are killed leave what they said."""
    before = os.fstat(file).st_size
    try:
        while content:
            content = content[os.write(file, content) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, before)
            if not before:
                os.unlink(path)
        raise


def _header() -> str:
    words = " ".join(map(shlex.quote, sys.argv[1:]))
    return f"=== {time.strftime('%Y-%m-%d %H:%M:%S')} bisenetv1 {words} (bisenetv1-plugin {__version__})\n"
