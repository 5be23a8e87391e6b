"""uvicorn, with the limits and the shutdown that servers here need."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Callable

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.libraries import restore_signal_handlers
from bisenetv1_plugin.serve.guard import Application, Guard

# A browser opens two or three connections. A process may usually open 1024 files, and connections count as files.
_CONNECTIONS = 512
# After a signal, idle connections stay open this long, for requests that are on their way.
_SECONDS_TO_ARRIVE = 0.5
# A page that is open in a browser holds a connection, and must not delay the end of the server.
_SECONDS_TO_CLOSE = 2
# Time for the head of a request, from its first byte or from the start of the connection.
_SECONDS_FOR_HEAD = 20
_TIMEOUT_RESPONSE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class _Protocol(H11Protocol):
    """Closes connections that send no request head in time; uvicorn would keep them open forever."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._update_timer()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._update_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timer()

    def _update_timer(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._stop_timer()
        elif self._head_timer is None:
            self._head_timer = self.loop.call_later(_SECONDS_FOR_HEAD, self._close_late)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _close_late(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_TIMEOUT_RESPONSE)
            self.transport.close()


class _Server(uvicorn.Server):
    """Answers the requests that have arrived before it stops; uvicorn would close connections with unread requests."""

    def __init__(self, config: uvicorn.Config, guard: Guard, is_busy: Callable[[], bool], seconds: float) -> None:
        super().__init__(config)
        self._guard, self._is_busy, self._seconds = guard, is_busy, seconds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        self._guard.ending = True
        end = time.monotonic() + self._seconds
        if self.server_state.connections:
            await asyncio.sleep(_SECONDS_TO_ARRIVE)
        while self._is_busy() and time.monotonic() < end:
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)


def run(
    app: Application,
    guard: Guard,
    listening: socket.socket,
    is_busy: Callable[[], bool] = lambda: False,
    seconds_to_finish: float = 0,
) -> None:
    """Serve until a signal raises a KeyboardInterrupt.

    Args:
        app: the ASGI application.
        guard: the guard inside `app`; its `ending` is set when the server stops.
        listening: from `server.listen`; it is closed at the end.
        is_busy: whether requests are still in progress, for which the server waits before it stops.
        seconds_to_finish: the longest that it waits for them.

    Raises:
        InputError: the server did not start.
    """
    config = uvicorn.Config(
        app,
        callback_notify=_every_second,
        timeout_notify=1,
        http=_Protocol,
        loop="asyncio",  # uvloop would replace the wakeup socket of `server.until_signal`
        ws="none",
        log_level="critical",
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_SECONDS_TO_CLOSE,
    )
    server = _Server(config, guard, is_busy, seconds_to_finish)
    server.run(sockets=[listening])
    if not server.started:
        raise InputError("the server did not start: reinstall uvicorn (pip install --force-reinstall uvicorn).")


async def _every_second() -> None:
    restore_signal_handlers()  # a visitor may have chosen Paddle as the runtime, which is imported then
