"""The page's server: where it listens, what it lets in, and that it leaves no file behind."""

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
from typing import TYPE_CHECKING, Iterable, Iterator

from bisenetv1_plugin.app.guard import Guard, names_of
from bisenetv1_plugin.app.limits import Uploads
from bisenetv1_plugin.errors import InputError

if TYPE_CHECKING:  # it looks up its folders when it is imported, see `passing_folder`
    import gradio

FIRST_PORT, LAST_PORT = 7860, 7959
# A page that is open somewhere holds a connection; who ends the server does not wait for that.
_SECONDS_TO_FINISH = 2
# After a signal; what hangs in a library then is left to the system.
_SECONDS_TO_END = 10
# Of a request, beside the file that is in it.
_ENVELOPE = 1 << 20
# Connections; a browser holds two or three. Files may be open as well, and 1024 are usual for both together.
_CONNECTIONS = 512
_SWEEP_SECONDS = 60
_folders: list[str] = []  # those that go when the process ends


def listen(host: str, port: int | None = None) -> socket.socket:
    """A socket that listens.

    Args:
        host (str): a name or an address of this machine; '0.0.0.0' or '::' for all that it has.
        port (int, optional): default: the first free one from 7860 to 7959.

    Raises:
        InputError: the port is taken or reserved, or the host is not this machine.
    """
    if port is not None and not 0 < port < 1 << 16:
        raise InputError(f"--port {port}: a port is a number from 1 to 65535.")
    for candidate in range(FIRST_PORT, LAST_PORT + 1) if port is None else [port]:
        try:
            family = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0][0]
            return socket.create_server((host, candidate), family=family, backlog=128)
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
        raise InputError(f"all ports from {FIRST_PORT} to {LAST_PORT} are taken; give a free one with --port.")
    raise InputError(f"port {port} is taken; give another, or leave --port away for the next free one.")


def address(listening: socket.socket) -> str:
    """Where a browser on this machine finds it."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


@contextmanager
def until_told() -> Iterator[None]:
    """Ctrl-C, SIGTERM and the end of the terminal end this block, all as a KeyboardInterrupt that goes no further.

    The first alone does: another, of who is impatient, would break off the removal of the files.

    Where the block has not ended ten seconds later, since the thread that signals come to is inside of a library that
    hangs, the temporary files are removed and the process ends.
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
    threading.Thread(target=_end_in_time, args=(heard, ends), daemon=True).start()
    try:
        with suppress(KeyboardInterrupt):
            yield
    finally:
        signal.set_wakeup_fd(before)
        told.close()  # which ends the thread


def take_signals_back() -> None:
    """Paddle takes SIGTERM for itself when it is imported, in the system and without telling Python."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.getsignal(number))


def _end_in_time(heard: socket.socket, ends: set[signal.Signals]) -> None:
    while True:
        numbers = heard.recv(1)
        if not numbers:
            return
        if numbers[0] in ends:
            break
    heard.settimeout(_SECONDS_TO_END)
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
def passing_folder() -> Iterator[str]:
    """All temporary files of this process in one folder, which goes when the block ends.

    To be entered before Gradio is imported: it looks up its folder then, and whether it may telephone.
    """
    # Named before it is made: a signal may come between.
    folder = os.path.join(os.path.realpath(tempfile.gettempdir()), f"bisenetv1-app-{secrets.token_hex(8)}")
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


def uploads_in(folder: str, max_bytes: int) -> Uploads:
    """The files of visitors below a `passing_folder`; what is old is removed every minute.

    Args:
        folder (str): the folder.
        max_bytes (int): of all files that may lie there at a time.
    """
    uploads = Uploads(os.path.join(folder, "gradio"), max_bytes)

    def sweep() -> None:
        while os.path.exists(folder):
            time.sleep(_SWEEP_SECONDS)
            uploads.sweep()

    threading.Thread(target=sweep, daemon=True).start()
    return uploads


def serve(
    page: gradio.Blocks,
    words: gradio.I18n,
    listening: socket.socket,
    host: str,
    allowed: Iterable[str],
    uploads: Uploads,
    max_bytes: int,
) -> None:
    """Answer until a signal ends it, as a KeyboardInterrupt.

    Args:
        page (gradio.Blocks): what to show.
        words (gradio.I18n): its texts.
        listening (socket.socket): from `listen`; it is closed.
        host (str): what it listens on, as `listen` took it.
        allowed (list[str]): more names by which it may be called.
        uploads (Uploads): the files of visitors.
        max_bytes (int): of an upload.

    Raises:
        InputError: the server did not start.
    """
    import fastapi
    import gradio
    import uvicorn

    from bisenetv1_plugin.app.routes import Routes, takes_upload

    # Mounted, not launched: `launch` asks for its own address through the user's proxy, if there is one, and gives up.
    app = gradio.mount_gradio_app(
        fastapi.FastAPI(docs_url=None, redoc_url=None, openapi_url=None),
        page,
        path="/",
        i18n=words,
        max_file_size=max_bytes,
        # The system's fonts: others would come from elsewhere.
        theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        ssr_mode=False,
        pwa=False,
    )
    guarded = Guard(
        Routes(app, page, uploads), names_of(host, allowed), allowed, uploads, max_bytes + _ENVELOPE, takes_upload
    )
    config = uvicorn.Config(
        guarded,
        callback_notify=_every_second,
        timeout_notify=1,
        loop="asyncio",  # uvloop would take the signals' socket for itself
        ws="none",
        log_level="critical",
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_SECONDS_TO_FINISH,
    )
    server = uvicorn.Server(config)
    server.run(sockets=[listening])
    if not server.started:
        raise InputError("the page's server did not start: is Gradio whole? pip install --force-reinstall gradio.")


async def _every_second() -> None:
    take_signals_back()  # of a runtime that a visitor has chosen
