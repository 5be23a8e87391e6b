"""A server: where it listens, how it ends, and that it leaves no file behind."""

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

# How many ports are tried, one after the other.
_PORTS = 100
# Until a connection is closed whose other end takes nothing of an answer.
_SECONDS_TO_TAKE = 60
# After a signal; what hangs in a library then is left to the system.
_SECONDS_TO_END = 10
_folders: list[str] = []  # those that go when the process ends


def listen(host: str, port: int | None, first: int) -> socket.socket:
    """A socket that listens.

    Args:
        host (str): a name or an address of this machine; '0.0.0.0' or '::' for all that it has.
        port (int, optional): default: the first free one of a hundred.
        first (int): the first of these.

    Raises:
        InputError: the port is taken or reserved, or the host is not this machine.
    """
    if port is not None and not 0 < port < 1 << 16:
        raise InputError(f"--port {port}: a port is a number from 1 to 65535.")
    for candidate in range(first, first + _PORTS) if port is None else [port]:
        try:
            family = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0][0]
            return _limited(socket.create_server((host, candidate), family=family, backlog=128))
        except (socket.gaierror, UnicodeError) as error:
            raise InputError(f"--host {host}: no such name is known here; give 127.0.0.1 or 0.0.0.0.") from error
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise InputError(f"--host {host} is no address of this machine; give 127.0.0.1 or 0.0.0.0.") from error
            if error.errno == errno.EACCES:
                raise InputError(f"--port {port} is reserved for root; give one from 1024 on.") from error
            if error.errno != errno.EADDRINUSE:
                raise
    if port is None:
        raise InputError(f"all ports from {first} to {first + _PORTS - 1} are taken; give a free one with --port.")
    raise InputError(f"port {port} is taken; give another, or omit --port for the next free one.")


def _limited(listening: socket.socket) -> socket.socket:
    """The same, with a limit that its connections inherit: uvicorn has none for a client that does not read."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux has it
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _SECONDS_TO_TAKE * 1000)
    return listening


def address(listening: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def until_signal(seconds_to_finish: float = 0) -> Iterator[None]:
    """Ctrl-C, SIGTERM and the end of the terminal end this block, all as a KeyboardInterrupt that goes no further.

    The first alone does: another, of who is impatient, would break off the removal of the files.

    Where the block has not ended ten seconds later, since the thread that signals come to is inside of a library that
    hangs, the temporary files are removed and the process ends.

    Args:
        seconds_to_finish (float): that the block may take beside those ten.
    """
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        if not ended:
            ended = True
            raise KeyboardInterrupt

    ends = {signal.SIGINT, signal.SIGTERM}
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup and signal.getsignal(hangup) == signal.SIG_DFL:  # nohup ignores it
        ends.add(hangup)
    for number in ends:
        signal.signal(number, end)
    # The system writes the signal's number here at once, whatever this thread is doing.
    heard, told = socket.socketpair()
    told.setblocking(False)
    before = signal.set_wakeup_fd(told.fileno(), warn_on_full_buffer=False)
    threading.Thread(target=_end_in_time, args=(heard, ends, _SECONDS_TO_END + seconds_to_finish), daemon=True).start()
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.set_wakeup_fd(before)
        told.close()  # which ends the thread


def restore_signal_handlers() -> None:
    """Paddle takes SIGTERM for itself when it is imported, in the system and without telling Python."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.getsignal(number))


def _end_in_time(heard: socket.socket, ends: set[signal.Signals], seconds: float) -> None:
    while True:
        numbers = heard.recv(1)
        if not numbers:
            return
        if numbers[0] in ends:
            break
    heard.settimeout(seconds)
    try:
        while heard.recv(64):
            pass
    except socket.timeout:
        for folder in _folders:
            _remove(folder)
        os._exit(0)


def _remove(folder: str) -> None:
    for _ in range(50):  # a thread that has not ended yet may write while we remove
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            break
        time.sleep(0.1)


@contextmanager
def temporary_folder(name: str) -> Iterator[str]:
    """All temporary files of this process in one folder, which goes when the block ends.

    To be entered before Gradio is imported: it looks up its folder then, and whether it may telephone.

    Args:
        name (str): of the server, which the folder's has in it.
    """
    # Named before it is made: a signal may come between.
    folder = os.path.join(os.path.realpath(tempfile.gettempdir()), f"bisenetv1-{name}-{secrets.token_hex(8)}")
    _folders.append(folder)
    os.environ.update(
        TMPDIR=folder,  # of libraries in C++
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
