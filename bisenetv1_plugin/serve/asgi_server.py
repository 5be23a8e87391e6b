"""uvicorn, as a server here runs it."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Callable

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.serve.guard import Application, Guard
from bisenetv1_plugin.serve.server import restore_signal_handlers

# Connections; a browser holds two or three. Files may be open as well, and 1024 are usual for both together.
_CONNECTIONS = 512
# After a signal, until connections are closed on which nothing is asked: what is on its way arrives.
_SECONDS_TO_ARRIVE = 0.5
# A page that is open somewhere holds a connection; who ends the server does not wait for that.
_SECONDS_TO_CLOSE = 2
# Until the head of a request is there, from its first byte or the connection's beginning on.
_SECONDS_TO_ASK = 20
_TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class _Protocol(H11Protocol):
    """Waits for the head of a request only so long; uvicorn waits for ever, and takes so many connections alone."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._expect_nothing()

    def _expect_head(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._expect_nothing()
        elif self._late is None:
            self._late = self.loop.call_later(_SECONDS_TO_ASK, self._refuse)

    def _expect_nothing(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self) -> None:
        if not self.transport.is_closing():
            self.transport.write(_TOO_LATE)
            self.transport.close()


class _Server(uvicorn.Server):
    """Answers what has arrived when it is told to end; uvicorn closes a connection whose request it has not read."""

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
    """Answer until a signal ends it, as a KeyboardInterrupt.

    Args:
        app: ASGI, which answers.
        guard (Guard): the one in it, which hears of the end.
        listening (socket.socket): from `server.listen`; it is closed.
        is_busy (callable): whether there is anything that the end waits for.
        seconds_to_finish (float): for which it waits at most.

    Raises:
        InputError: the server did not start.
    """
    config = uvicorn.Config(
        app,
        callback_notify=_every_second,
        timeout_notify=1,
        http=_Protocol,
        loop="asyncio",  # uvloop would take the signals' socket for itself
        ws="none",
        log_level="critical",
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_SECONDS_TO_CLOSE,
    )
    server = _Server(config, guard, is_busy, seconds_to_finish)
    server.run(sockets=[listening])
    if not server.started:
        raise InputError("the server did not start: is uvicorn whole? pip install --force-reinstall uvicorn.")


async def _every_second() -> None:
    restore_signal_handlers()  # of a runtime that a visitor has chosen
