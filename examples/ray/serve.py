"""Segment pictures over HTTP with Ray Serve, on one machine or on many.

    pip install 'bisenetv1-plugin[deploy,ray]'
    serve run serve:app exported=/path/to/exported
    curl --data-binary @street.jpg http://127.0.0.1:8000/ > mask.png

One replica has one engine and one CPU; Ray Serve starts as many as requests need, up to `replicas`. Each node of a
cluster needs the exported folder at the same path.
"""

from __future__ import annotations

import io

from PIL import Image
from ray import serve
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from bisenetv1_plugin import Segmenter

MEGABYTES = 16  # of a picture, at most


@serve.deployment(ray_actor_options={"num_cpus": 1}, max_ongoing_requests=4, max_queued_requests=64)
class Segmentation:
    """The mask of the picture that is posted: a PNG of class numbers, or with `Accept: application/json` the shares."""

    def __init__(self, exported: str) -> None:
        self._segmenter = Segmenter(exported, cpu_threads=1)

    async def __call__(self, request: Request) -> Response:
        content = bytearray()
        async for piece in request.stream():
            content += piece
            if len(content) > MEGABYTES << 20:
                return PlainTextResponse(f"a picture has at most {MEGABYTES} megabytes.\n", 413)
        try:
            result = await run_in_threadpool(self._segmenter, bytes(content))
        except ValueError as error:  # it is no picture, or not one for this network
            return PlainTextResponse(f"{error}\n", 400)
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse(result.shares)
        mask = io.BytesIO()
        Image.fromarray(result.mask).save(mask, "PNG")
        return Response(mask.getvalue(), media_type="image/png")


def app(arguments: dict[str, str]) -> serve.Application:
    """What `serve run` starts: `exported`, the folder; `replicas`, default 2."""
    replicas = int(arguments.get("replicas", 2))
    scaling = {"min_replicas": 1, "max_replicas": replicas}
    return Segmentation.options(autoscaling_config=scaling).bind(arguments["exported"])
