"""The addresses of `bisenetv1 serve`: /segment, /model, /health, /ready, /metrics and /docs."""

from __future__ import annotations

import asyncio
import io
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Callable, TypeVar

import fastapi
import fastapi_offline
import numpy as np
import prometheus_client
from fastapi import Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from bisenetv1_plugin import __version__
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.inference.image_arguments import to_pixels
from bisenetv1_plugin.inference.segmenter import Segmenter
from bisenetv1_plugin.serve import answers, pictures
from bisenetv1_plugin.serve.guard import Refusal, UploadSlots
from bisenetv1_plugin.serve.request_log import add_to_log
from bisenetv1_plugin.serve.worker import Worker

T = TypeVar("T")

# These need no token: they only say that the server is running.
OPEN_PATHS = ("/health", "/ready")
PATHS = ("/segment", "/model", "/metrics", "/docs", "/openapi.json", *OPEN_PATHS)
_DOCS = "/static-offline-docs/"
# Bytes of a form in addition to its picture.
_FORM_BYTES = 1 << 16
# Bytes of a form field that is not a file.
_FIELD_BYTES = 1 << 12
# This many more pictures are decoded at a time than there are threads.
_EXTRA_DECODERS = 4
_PICTURE = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"type": "object", "properties": {"picture": _PICTURE["schema"]}, "required": ["picture"]}
_BODY = {
    "required": True,
    "content": {
        **dict.fromkeys(("image/jpeg", "image/png", "image/webp", "image/bmp"), _PICTURE),
        "multipart/form-data": {"schema": _FORM},
    },
}
_SEE_DOCS = "See /docs."


@dataclass(frozen=True)
class Limits:
    """Limits of a request.

    Attributes:
        megabytes: size of a picture's file.
        megapixels: million pixels of a picture.
        seconds: time for a picture to arrive, and again for its answer.
        queue: pictures at a time, from the first byte of the request to the last byte of the answer.
    """

    megabytes: int
    megapixels: int
    seconds: int
    queue: int


def is_api_path(path: str) -> bool:
    """Whether the API answers requests to this path."""
    return path in PATHS or path.startswith(_DOCS)


class Service:
    """Segments over HTTP.

    Args:
        segmenter: segments the pictures.
        limits: limits of a request.
        threads: number of threads that decode and encode.
        registry: the metrics that /metrics shows.

    Attributes:
        app (fastapi.FastAPI): the ASGI application; wrap it in a `Guard`.
        uploads (UploadSlots): the uploads to /segment.
    """

    def __init__(
        self, segmenter: Segmenter, limits: Limits, threads: int, registry: prometheus_client.CollectorRegistry
    ) -> None:
        self._segmenter, self._limits, self._worker = segmenter, limits, Worker(segmenter)
        self.uploads = UploadSlots((limits.megabytes << 20) + _FORM_BYTES, limits.queue, limits.seconds)
        self._decoders = asyncio.Semaphore(threads + _EXTRA_DECODERS)
        self._pool = ThreadPoolExecutor(threads + _EXTRA_DECODERS)
        self._registry = registry
        in_progress = prometheus_client.Gauge("bisenetv1_pictures", "Pictures in progress.", registry=registry)
        in_progress.set_function(lambda: self.uploads.in_progress)
        self._computing = prometheus_client.Histogram(
            "bisenetv1_computing_seconds", "Seconds for a picture, without waiting for others.", registry=registry
        )
        self.app = fastapi_offline.FastAPIOffline(title="bisenetv1 serve", version=__version__, redoc_url=None)
        _add_error_handlers(self.app)
        self._add_routes()

    def _add_routes(self) -> None:
        self.app.post(
            "/segment",
            summary="The mask of a picture",
            response_class=Response,
            responses={200: {"model": answers.Answer, "content": {answers.PNG: _PICTURE}}},
            openapi_extra={"requestBody": _BODY},
        )(self.segment)
        self.app.get("/model", summary="The model")(self.model)
        self.app.get("/health", summary="Whether the server works", response_class=PlainTextResponse)(self.health)
        self.app.get("/ready", summary="Whether there is room for another picture", response_class=PlainTextResponse)(
            self.ready
        )
        self.app.get("/metrics", summary="Metrics for Prometheus", response_class=PlainTextResponse)(self.metrics)

    async def segment(self, request: Request, options: Annotated[answers.Options, Query()]) -> Response:
        """Send the picture's file as the body, or in a form. The answer is the mask as a gray PNG, in which every pixel
        is the number of its class; or JSON, if `Accept` asks for it."""
        kind = answers.media_type(request.headers.get("accept") or "*/*")
        if kind == answers.PNG and (options.regions or options.confidence):
            raise InputError(f"regions and confidence are for JSON: send `Accept: {answers.JSON}`.")
        content = await self._content(request)
        try:
            return await asyncio.wait_for(self._answer(request, content, kind, options), self._limits.seconds)
        except asyncio.TimeoutError:
            sentence = f"This picture was not finished after {self._limits.seconds} seconds; try again later."
            raise Refusal(503, sentence, retry_after=self._limits.seconds) from None

    async def model(self) -> Response:
        """The names and colors of the classes, the runtime, its precision and device, and the limits."""
        runtime, precision, *gpu = self._segmenter.name.split(" ", 2)
        colors = self._segmenter.colors.tolist()
        return JSONResponse(
            {
                "version": __version__,
                "runtime": runtime,
                "precision": precision,
                "device": "gpu" if gpu else "cpu",
                "classes": [
                    {"number": number, "name": name, "color": color}
                    for number, (name, color) in enumerate(zip(self._segmenter.classes, colors))
                ],
                "limits": asdict(self._limits),
            }
        )

    async def health(self) -> str:
        """Needs no token."""
        if not self._worker.is_alive:
            raise Refusal(503, "The thread that segments has ended: restart the server.")
        return "ok\n"

    async def ready(self) -> str:
        """Needs no token."""
        if self.uploads.in_progress >= self.uploads.count:
            raise Refusal(503, f"{self.uploads.in_progress} pictures are in progress; try again.", retry_after=1)
        return await self.health()

    async def metrics(self) -> Response:
        """Requests and their seconds, pictures in progress, and the server's process."""
        return Response(
            prometheus_client.generate_latest(self._registry), media_type=prometheus_client.CONTENT_TYPE_LATEST
        )

    def warm_up(self, height: int, width: int) -> None:
        """Segment a few pictures, one alone and several together, because the first calls of a runtime are slow."""
        pixels = np.zeros((height, width, 3), "uint8")
        for count in (1, 8):
            for future in [self._worker.submit(pixels) for _ in range(count)]:
                with suppress(InputError):  # the picture does not fit the export
                    future.result()

    async def _content(self, request: Request) -> bytes:
        """The picture's file.

        Raises:
            Refusal: the request was interrupted, contains no picture, or is too long.
        """
        try:
            if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
                content = await request.body()
            else:
                # Fields are decoded with the request's charset, and Punycode takes minutes for a megabyte.
                parser = MultiPartParser(
                    request.headers, request.stream(), max_files=1, max_fields=8, max_part_size=_FIELD_BYTES
                )
                parser.spool_max_size = self.uploads.max_bytes  # in memory, not in a file
                form = await parser.parse()
                files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
                content = await files[0].read() if files else b""
        except ClientDisconnect:
            raise Refusal(400, "The request was interrupted.") from None
        except MultiPartException as error:
            raise Refusal(400, f"The form cannot be read: {error.message}") from error
        add_to_log(request, f"{len(content)} bytes")
        if not content:
            raise Refusal(400, "The request contains no picture: send the file as the body, or in a form.")
        if len(content) > self._limits.megabytes << 20:
            raise Refusal(413, f"A picture may have {self._limits.megabytes} MB.")
        return content

    async def _answer(self, request: Request, content: bytes, kind: str, options: answers.Options) -> Response:
        arrived = time.perf_counter()
        async with self._decoders:
            began = time.perf_counter()
            pixels = await self._in_thread(self._decode, content)
            result = await asyncio.wrap_future(self._worker.submit(pixels, options.needs_confidence))
            done = time.perf_counter()
            self._computing.observe(done - began)
            milliseconds = {"waiting": (began - arrived) * 1000, "computing": (done - began) * 1000}
            height, width = result.mask.shape
            add_to_log(
                request,
                f"{width} x {height} pixels",
                *(f"{name} {value:.1f} ms" for name, value in milliseconds.items()),
            )
            body = await self._in_thread(answers.encode, result, kind, options, milliseconds)
        timing = ", ".join(f"{name};dur={value:.1f}" for name, value in milliseconds.items())
        return Response(body, media_type=kind, headers={"server-timing": timing})

    def _decode(self, content: bytes) -> np.ndarray:
        pictures.check(io.BytesIO(content), "the picture", self._limits.megapixels, "this server")
        return to_pixels(content)

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


def _add_error_handlers(app: fastapi.FastAPI) -> None:
    """Answer every error with one sentence of plain text."""

    async def refused(request: Request, error: Exception) -> Response:
        headers = {key.decode(): value.decode() for key, value in getattr(error, "headers", ())}
        return PlainTextResponse(str(error), getattr(error, "status", 422), headers)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = [f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors()]
        return PlainTextResponse(f"{'; '.join(faults)}. {_SEE_DOCS}", 422)

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return PlainTextResponse(f"{error.detail}. {_SEE_DOCS}", error.status_code, error.headers)

    async def failed(request: Request, error: Exception) -> Response:
        logging.getLogger(__name__).error("a request failed", exc_info=error)
        return PlainTextResponse("", 500)

    for kind, handler in (
        (Refusal, refused),
        (InputError, refused),
        (RequestValidationError, invalid),
        (HTTPException, unknown),
        (Exception, failed),
    ):
        app.add_exception_handler(kind, handler)
