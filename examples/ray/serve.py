"""Segment pictures over HTTP with Ray Serve, on one machine or on many.

    pip install '.[deploy,ray]'      # in the folder of the bisenetv1-plugin repository
    serve run serve:app exported=/path/to/exported
    curl --data-binary @street.jpg http://127.0.0.1:8000/ > mask.png

Each replica has one engine and one CPU. Ray Serve starts more replicas under load, up to `replicas`. Every node of a
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

MAX_MEGABYTES = 16  # of a picture


@serve.deployment(ray_actor_options={"num_cpus": 1}, max_ongoing_requests=4, max_queued_requests=64)
class Segmentation:
    """Returns the mask of a posted picture as a PNG, or the shares of the classes with `Accept: application/json`."""

    def __init__(self, exported: str) -> None:
        self._segmenter = Segmenter(exported, cpu_threads=1)

    async def __call__(self, request: Request) -> Response:
        content = bytearray()
        async for piece in request.stream():
            content += piece
            if len(content) > MAX_MEGABYTES << 20:
                return PlainTextResponse(f"a picture has at most {MAX_MEGABYTES} megabytes.\n", 413)
        try:
            result = await run_in_threadpool(self._segmenter, bytes(content))
        except ValueError as error:  # not a picture, or not suitable for this network
            return PlainTextResponse(f"{error}\n", 400)
        if "application/json" in request.headers.get("accept", ""):
            return JSONResponse(result.shares)
        mask = io.BytesIO()
        Image.fromarray(result.mask).save(mask, "PNG")
        return Response(mask.getvalue(), media_type="image/png")


def app(arguments: dict[str, str]) -> serve.Application:
    """The application that `serve run` starts. Arguments: `exported`, the folder, and `replicas`, default 2."""
    replicas = int(arguments.get("replicas", 2))
    scaling = {"min_replicas": 1, "max_replicas": replicas}
    return Segmentation.options(autoscaling_config=scaling).bind(arguments["exported"])
