"""The log of a command: the output that it does not show. It is kept in memory until its folder exists."""

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
from bisenetv1_plugin.inference.pyarrow_files import hide_secret


class Log(io.TextIOBase):
    """Appends to a file. Its folder may be made later, by others. Writing never raises; `fault` has the error.

    Args:
        path: the file, or None for a command without a folder, whose text is only kept in memory.

    Attributes:
        live: whether text is written to the file at once, or only by `finish`.
        fault: a sentence that says why the file is incomplete, or None.
    """

    encoding = "utf-8"

    def __init__(self, path: Path | None) -> None:
        self.path, self.live = path, False
        self.fault: str | None = None
        self._file: int | None = None
        self._held: list[str] = []
        self._lock: ContextManager[Any] = threading.RLock()  # data loaders have threads
        self._is_over = False

    @property
    def is_written(self) -> bool:
        """Whether the file has the whole text."""
        return self._file is not None and self.fault is None

    @property
    def held(self) -> str:
        """The text that is not in the file yet."""
        return "".join(self._held)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self._is_over:  # a `logging` handler, for one, keeps its stream
            return sys.stderr.write(text)
        with self._lock:
            self._held.append(text)
            if self.live:
                self._append()
        return len(text)

    def close(self) -> None:
        """Do nothing: other code has this as `sys.stdout` for a while, and may close it. `finish` closes it."""

    def finish(self, keep: bool) -> None:
        """Close the log; with `keep`, write the text that was held back, if the folder exists."""
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
    """Open a new log, or an existing one of this package.

    Raises:
        InputError: another file has this name.
    """
    ours = not path.is_symlink() and not files.is_stream(path)
    if ours and path.exists():
        with open(path, "rb") as file:
            ours = file.read(4) in (b"", b"=== ")
    if not ours:
        raise InputError(f"{path} exists and is not a log of this command: move it away.")
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)


def _write(file: int, path: Path, content: bytes) -> None:
    """Write all of it, or nothing. It is not buffered, so that the log of a killed process is complete."""
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
    words = " ".join(shlex.quote(hide_secret(word)) for word in sys.argv[1:])
    return f"=== {time.strftime('%Y-%m-%d %H:%M:%S')} bisenetv1 {words} (bisenetv1-plugin {__version__})\n"
