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
from bisenetv1_plugin.serve.guard import Bodies, Refused
from bisenetv1_plugin.serve.request_log import note
from bisenetv1_plugin.serve.worker import Worker

T = TypeVar("T")

# Without a token as well: they say nothing but that the server is there.
OPEN_PATHS = ("/health", "/ready")
PATHS = ("/segment", "/model", "/metrics", "/docs", "/openapi.json", *OPEN_PATHS)
_DOCS = "/static-offline-docs/"
# Of a request, beside the picture in its form.
_ENVELOPE = 1 << 16
# Bytes of a field that is no file.
_FIELD = 1 << 12
# Pictures that are decoded at a time, beside one a core.
_MORE = 4
_PICTURE = {"schema": {"type": "string", "format": "binary"}}
_FORM = {"type": "object", "properties": {"picture": _PICTURE["schema"]}, "required": ["picture"]}
_BODY = {
    "required": True,
    "content": {
        **dict.fromkeys(("image/jpeg", "image/png", "image/webp", "image/bmp"), _PICTURE),
        "multipart/form-data": {"schema": _FORM},
    },
}
_SEE = "/docs has what there is."


@dataclass(frozen=True)
class Limits:
    """Of what is asked.

    Attributes:
        megabytes (int): of a picture's file.
        megapixels (int): of a picture.
        seconds (int): until a picture is there, and from then on until it is answered.
        queue (int): pictures at a time, from the first byte of the request to the last of the answer.
    """

    megabytes: int
    megapixels: int
    seconds: int
    queue: int


def is_of_api(path: str) -> bool:
    """Whether an address is one of these."""
    return path in PATHS or path.startswith(_DOCS)


class Service:
    """Segments over HTTP.

    Args:
        segmenter (Segmenter): what segments.
        limits (Limits): what is taken.
        threads (int): that decode and encode.
        registry (prometheus_client.CollectorRegistry): what /metrics shows.

    Attributes:
        app (fastapi.FastAPI): ASGI, to be put behind a `Guard`.
        bodies (Bodies): what /segment takes.
    """

    def __init__(
        self, segmenter: Segmenter, limits: Limits, threads: int, registry: prometheus_client.CollectorRegistry
    ) -> None:
        self._segmenter, self._limits, self._worker = segmenter, limits, Worker(segmenter)
        self.bodies = Bodies((limits.megabytes << 20) + _ENVELOPE, limits.queue, limits.seconds)
        self._desks = asyncio.Semaphore(threads + _MORE)
        self._pool = ThreadPoolExecutor(threads + _MORE)
        self._registry = registry
        waiting = prometheus_client.Gauge("bisenetv1_pictures", "Pictures that are under way.", registry=registry)
        waiting.set_function(lambda: self.bodies.under_way)
        self._computing = prometheus_client.Histogram(
            "bisenetv1_computing_seconds", "Of a picture, without waiting for others.", registry=registry
        )
        self.app = fastapi_offline.FastAPIOffline(title="bisenetv1 serve", version=__version__, redoc_url=None)
        _refuse_with_sentences(self.app)
        self._add_routes()

    def _add_routes(self) -> None:
        self.app.post(
            "/segment",
            summary="The mask of a picture",
            response_class=Response,
            responses={200: {"model": answers.Answer, "content": {answers.PNG: _PICTURE}}},
            openapi_extra={"requestBody": _BODY},
        )(self.segment)
        self.app.get("/model", summary="What segments")(self.model)
        self.app.get("/health", summary="Whether the server works", response_class=PlainTextResponse)(self.health)
        self.app.get("/ready", summary="Whether it takes one more picture", response_class=PlainTextResponse)(
            self.ready
        )
        self.app.get("/metrics", summary="For Prometheus", response_class=PlainTextResponse)(self.metrics)

    async def segment(self, request: Request, options: Annotated[answers.Options, Query()]) -> Response:
        """The body is the picture's file, or a form with it. `Accept` chooses the PNG of the mask, gray, the number of
        the class of every pixel, or JSON."""
        kind = answers.media_type(request.headers.get("accept") or "*/*")
        if kind == answers.PNG and (options.regions or options.confidence):
            raise InputError(f"regions and confidence are for JSON: send `Accept: {answers.JSON}`.")
        content = await self._content(request)
        try:
            return await asyncio.wait_for(self._answer(request, content, kind, options), self._limits.seconds)
        except asyncio.TimeoutError:
            sentence = f"This picture was not done after {self._limits.seconds} seconds; try again later."
            raise Refused(503, sentence, retry_after=self._limits.seconds) from None

    async def model(self) -> Response:
        """Its classes, their colors, the runtime that computes it, and what is taken."""
        runtime, precision, *on = self._segmenter.name.split(" ", 2)
        colors = self._segmenter.colors.tolist()
        return JSONResponse(
            {
                "version": __version__,
                "runtime": runtime,
                "precision": precision,
                "device": "gpu" if on else "cpu",
                "classes": [
                    {"number": number, "name": name, "color": color}
                    for number, (name, color) in enumerate(zip(self._segmenter.classes, colors))
                ],
                "limits": asdict(self._limits),
            }
        )

    async def health(self) -> str:
        """Needs no token."""
        if not self._worker.lives:
            raise Refused(503, "The thread that segments has ended: start the server anew.")
        return "ok\n"

    async def ready(self) -> str:
        """Needs no token."""
        if self.bodies.under_way >= self.bodies.at_a_time:
            raise Refused(503, f"{self.bodies.under_way} pictures are under way; try again.", retry_after=1)
        return await self.health()

    async def metrics(self) -> Response:
        """Requests, their seconds, pictures under way, and this process."""
        return Response(
            prometheus_client.generate_latest(self._registry), media_type=prometheus_client.CONTENT_TYPE_LATEST
        )

    def warm_up(self, height: int, width: int) -> None:
        """Segment a few pictures, alone and together: what a runtime does when it is first asked is done then."""
        pixels = np.zeros((height, width, 3), "uint8")
        for count in (1, 8):
            for future in [self._worker.submit(pixels) for _ in range(count)]:
                with suppress(InputError):  # of a picture that does not fit
                    future.result()

    async def _content(self, request: Request) -> bytes:
        """The picture's file.

        Raises:
            Refused: none came.
        """
        try:
            if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
                content = await request.body()
            else:
                # Fields are read in the charset that the request names: Punycode's takes minutes for a megabyte.
                parser = MultiPartParser(
                    request.headers, request.stream(), max_files=1, max_fields=8, max_part_size=_FIELD
                )
                parser.spool_max_size = self.bodies.max_bytes  # in memory, not in a file
                form = await parser.parse()
                files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
                content = await files[0].read() if files else b""
        except ClientDisconnect:
            raise Refused(400, "The request was broken off.") from None
        except MultiPartException as error:
            raise Refused(400, f"The form cannot be read: {error.message}") from error
        note(request, f"{len(content)} bytes")
        if not content:
            raise Refused(400, "There is no picture in the request: its body is the file, or a form with one.")
        if len(content) > self._limits.megabytes << 20:
            raise Refused(413, f"A picture may have {self._limits.megabytes} MB.")
        return content

    async def _answer(self, request: Request, content: bytes, kind: str, options: answers.Options) -> Response:
        came = time.perf_counter()
        async with self._desks:
            began = time.perf_counter()
            pixels = await self._in_thread(self._decode, content)
            result = await asyncio.wrap_future(self._worker.submit(pixels, options.needs_confidence))
            done = time.perf_counter()
            self._computing.observe(done - began)
            milliseconds = {"waiting": (began - came) * 1000, "computing": (done - began) * 1000}
            height, width = result.mask.shape
            note(
                request,
                f"{width} x {height} pixels",
                *(f"{name} {value:.1f} ms" for name, value in milliseconds.items()),
            )
            body = await self._in_thread(answers.body, result, kind, options, milliseconds)
        timing = ", ".join(f"{name};dur={value:.1f}" for name, value in milliseconds.items())
        return Response(body, media_type=kind, headers={"server-timing": timing})

    def _decode(self, content: bytes) -> np.ndarray:
        pictures.check(io.BytesIO(content), "the picture", self._limits.megapixels, "this server")
        return to_pixels(content)

    async def _in_thread(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


def _refuse_with_sentences(app: fastapi.FastAPI) -> None:
    """All refusals are plain text, one sentence."""

    async def refused(request: Request, error: Exception) -> Response:
        headers = {key.decode(): value.decode() for key, value in getattr(error, "headers", ())}
        return PlainTextResponse(str(error), getattr(error, "status", 422), headers)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        faults = [f"{fault['loc'][-1]}: {fault['msg']}" for fault in error.errors()]
        return PlainTextResponse(f"{'; '.join(faults)}. {_SEE}", 422)

    async def unknown(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return PlainTextResponse(f"{error.detail}. {_SEE}", error.status_code, error.headers)

    async def failed(request: Request, error: Exception) -> Response:
        logging.getLogger(__name__).error("a request failed", exc_info=error)
        return PlainTextResponse("", 500)

    for kind, handler in (
        (Refused, refused),
        (InputError, refused),
        (RequestValidationError, invalid),
        (HTTPException, unknown),
        (Exception, failed),
    ):
        app.add_exception_handler(kind, handler)
