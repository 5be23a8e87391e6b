"""A line for every request in the log, and the figures that /metrics shows."""

from __future__ import annotations

import logging
import time
from typing import Any, Callable

import prometheus_client

from bisenetv1_plugin.errors import line
from bisenetv1_plugin.serve.guard import Application, Message, Receive, Scope, Send

LOGGER = logging.getLogger("bisenetv1_plugin.serve.requests")
_NOTES = "bisenetv1.notes"


def note(request: Any, *words: str) -> None:
    """Add to the line of a request."""
    request.scope.get(_NOTES, []).extend(words)


class RequestLog:
    """ASGI: passes on, and notes what became of it. Addresses that are not named are noted as `other`.

    Args:
        app: ASGI, which answers.
        is_named (callable): whether a path is one of the server's own. Another may have a visitor's secrets in it.
        registry (prometheus_client.CollectorRegistry): gets the figures.
    """

    def __init__(
        self, app: Application, is_named: Callable[[str], bool], registry: prometheus_client.CollectorRegistry
    ) -> None:
        self._app, self._is_named = app, is_named
        self._requests = prometheus_client.Counter(
            "bisenetv1_requests", "Requests that were answered.", ["path", "status"], registry=registry
        )
        self._seconds = prometheus_client.Histogram(
            "bisenetv1_request_seconds", "From the head of a request to its answer.", ["path"], registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status = time.perf_counter(), 0
        notes: list[str] = []

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app({**scope, _NOTES: notes}, receive, noting)
        finally:
            seconds = time.perf_counter() - began
            path = scope["path"] if self._is_named(scope["path"]) else "other"
            self._requests.labels(path, status).inc()
            self._seconds.labels(path).observe(seconds)
            client = (scope.get("client") or ("?",))[0]
            words = [f"{client} {scope['method'][:16]} {path} {status}", f"{seconds * 1000:.1f} ms", *notes]
            LOGGER.info("%s", line(", ".join(words)))
