"""Listening, stopping at a signal, and temporary files that are removed at the end."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
import time
from contextlib import contextmanager, suppress
from typing import Iterator

from bisenetv1_plugin.errors import InputError

# The number of ports to try.
_PORTS = 100
# A connection is closed if its client reads nothing of an answer for this long.
_SECONDS_TO_READ = 60
# After a signal, the process ends after this long, even if a library hangs.
_SECONDS_TO_END = 10
_folders: list[str] = []  # to remove when the process ends


def listen(host: str, port: int | None, first: int) -> socket.socket:
    """A listening socket.

    Args:
        host: a name or an address of this machine; '0.0.0.0' or '::' for all its addresses.
        port: default: the first free one of a hundred.
        first: the first of that hundred.

    Raises:
        InputError: the port is taken or reserved, or the host is not this machine.
    """
    if port is not None and not 0 < port < 1 << 16:
        raise InputError(f"--port {port}: a port is a number from 1 to 65535.")
    for candidate in range(first, first + _PORTS) if port is None else [port]:
        try:
            family = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0][0]
            return _with_read_timeout(socket.create_server((host, candidate), family=family, backlog=128))
        except (socket.gaierror, UnicodeError) as error:
            raise InputError(f"--host {host}: this name is not known; give 127.0.0.1 or 0.0.0.0.") from error
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise InputError(
                    f"--host {host} is not an address of this machine; give 127.0.0.1 or 0.0.0.0."
                ) from error
            if error.errno == errno.EACCES:
                raise InputError(f"--port {port} is reserved for root; give one of at least 1024.") from error
            if error.errno != errno.EADDRINUSE:
                raise
    if port is None:
        raise InputError(f"all ports from {first} to {first + _PORTS - 1} are taken; give a free one with --port.")
    raise InputError(f"port {port} is taken; give another, or omit --port for the next free one.")


def _with_read_timeout(listening: socket.socket) -> socket.socket:
    """Set a timeout that connections inherit, because uvicorn waits forever for a client that does not read."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SECONDS_TO_READ * 1000)
    return listening


def address(listening: socket.socket) -> str:
    """The server's URL for a browser on this machine."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def until_signal(seconds_to_finish: float = 0) -> Iterator[None]:
    """End this block at Ctrl-C, at SIGTERM, or when the terminal closes, with a KeyboardInterrupt that is suppressed.

    Later signals are ignored: a second Ctrl-C must not interrupt the removal of temporary files.

    A library that hangs in the main thread can keep Python from handling the signal. If the block has not ended after
    ten seconds, another thread removes the temporary files and ends the process.

    Args:
        seconds_to_finish: added to those ten seconds.
    """
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            raise KeyboardInterrupt

    signals = {signal.SIGINT, signal.SIGTERM}
    hangup = getattr(signal, "SIGHUP", None)  # missing on Windows
    if hangup and signal.getsignal(hangup) == signal.SIG_DFL:  # nohup ignores it
        signals.add(hangup)
    for number in signals:
        signal.signal(number, stop)
    # The C signal handler writes the signal's number here at once, even while the main thread hangs.
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    timeout = _SECONDS_TO_END + seconds_to_finish
    threading.Thread(target=_exit_if_hanging, args=(reader, signals, timeout), daemon=True).start()
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()  # ends the thread


def _exit_if_hanging(reader: socket.socket, signals: set[signal.Signals], seconds: float) -> None:
    while True:
        numbers = reader.recv(1)
        if not numbers:
            return
        if numbers[0] in signals:
            break
    reader.settimeout(seconds)
    try:
        while reader.recv(64):
            pass
    except socket.timeout:
        for folder in _folders:
            _remove(folder)
        os._exit(0)


def _remove(folder: str) -> None:
    for _ in range(50):  # a thread may still be writing into it
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            break
        time.sleep(0.1)


@contextmanager
def temporary_folder(name: str) -> Iterator[str]:
    """Put all temporary files of this process into one folder, which is removed when the block ends.

    Enter it before Gradio is imported. Gradio reads its folder then, and whether it may send usage statistics.

    Args:
        name: the server's name, which becomes part of the folder's name.
    """
    # The name is recorded first, because a signal may come right after the folder is made.
    folder = os.path.join(os.path.realpath(tempfile.gettempdir()), f"bisenetv1-{name}-{secrets.token_hex(8)}")
    _folders.append(folder)
    os.environ.update(
        TMPDIR=folder,  # for libraries in C++
        GRADIO_TEMP_DIR=os.path.join(folder, "gradio"),
        GRADIO_ANALYTICS_ENABLED="False",
        HF_HUB_DISABLE_TELEMETRY="1",
    )
    try:
        os.mkdir(folder, 0o700)
        tempfile.tempdir = folder
        yield folder
    finally:
        _remove(folder)
