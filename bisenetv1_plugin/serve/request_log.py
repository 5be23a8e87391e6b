"""A log line for every request, and the metrics that /metrics shows."""

from __future__ import annotations

import logging
import time
from typing import Any, Callable

import prometheus_client

from bisenetv1_plugin.errors import line
from bisenetv1_plugin.serve.guard import Application, Message, Receive, Scope, Send

LOGGER = logging.getLogger("bisenetv1_plugin.serve.requests")
_NOTES = "bisenetv1.notes"


def add_to_log(request: Any, *words: str) -> None:
    """Add to the log line of a request."""
    request.scope.get(_NOTES, []).extend(words)


class RequestLog:
    """An ASGI wrapper that logs every request.

    Args:
        app: the ASGI application.
        is_known_path: whether a path is one of the server's own. Others are logged as `other`, because they may contain
            secrets of a visitor.
        registry: receives the metrics.
    """

    def __init__(
        self, app: Application, is_known_path: Callable[[str], bool], registry: prometheus_client.CollectorRegistry
    ) -> None:
        self._app, self._is_known_path = app, is_known_path
        self._requests = prometheus_client.Counter(
            "bisenetv1_requests", "Answered requests.", ["path", "status"], registry=registry
        )
        self._seconds = prometheus_client.Histogram(
            "bisenetv1_request_seconds", "From the head of a request to its answer.", ["path"], registry=registry
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status = time.perf_counter(), 0
        notes: list[str] = []

        async def send_and_record(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app({**scope, _NOTES: notes}, receive, send_and_record)
        finally:
            seconds = time.perf_counter() - began
            path = scope["path"] if self._is_known_path(scope["path"]) else "other"
            self._requests.labels(path, status).inc()
            self._seconds.labels(path).observe(seconds)
            client = (scope.get("client") or ("?",))[0]
            words = [f"{client} {scope['method'][:16]} {path} {status}", f"{seconds * 1000:.1f} ms", *notes]
            LOGGER.info("%s", line(", ".join(words)))
