"""Segment over HTTP: `POST /segment` with a picture, and its mask comes back as PNG, or JSON with more.

It listens on this machine alone unless --host says otherwise. Where the environment variable BISENETV1_PLUGIN_TOKEN is
set, every request has to show it. Ctrl-C or SIGTERM ends it, when what has begun is answered.
"""

from __future__ import annotations

import logging
import os
import sys
from argparse import ArgumentParser, Namespace
from socket import socket
from types import ModuleType
from typing import TYPE_CHECKING

from bisenetv1_plugin.cli import flags, terminal
from bisenetv1_plugin.errors import InputError

if TYPE_CHECKING:
    from bisenetv1_plugin.app.mount import Page
    from bisenetv1_plugin.inference.sliding_window import SlidingWindows
    from bisenetv1_plugin.serve.guard import Application, Receive, Scope, Send, UploadSlots

SUMMARY = "segment over HTTP"

TOKEN = "BISENETV1_PLUGIN_TOKEN"
_FIRST_PORT = 8000
_LARGEST_VIDEO = 120  # seconds, of --page


def add_arguments(parser: ArgumentParser) -> None:
    flags.add_server_arguments(parser, _FIRST_PORT)
    parser.add_argument(
        "--max_seconds",
        type=int,
        default=30,
        help="until a picture is there, and from then on until its answer, default 30",
    )
    parser.add_argument(
        "--queue", type=flags.queue, default=32, help="pictures that are taken at a time, default 32; more get a 503"
    )
    parser.add_argument("--page", action="store_true", help="the page of `bisenetv1 app` as well, at /")
    parser.add_argument(
        "--backend", default="auto", choices=["auto", "paddle", "onnxruntime", "openvino"], help="as of `infer`"
    )
    parser.add_argument(
        "--precision", choices=["fp32", "bf16", "int8"], help="default: int8 if it is quantized, else fp32"
    )
    parser.add_argument("--device", choices=["gpu", "cpu"], help="default: the GPU if there is one")
    flags.add_cpu_threads_argument(parser)


def run(args: Namespace) -> None:
    from bisenetv1_plugin.serve import server

    windows = flags.server_windows(args)
    token = _token()
    with server.listen(args.host, args.port, _FIRST_PORT) as listening, server.until_signal(
        args.max_seconds
    ), server.temporary_folder("serve") as folder:
        _serve(args, windows, server, listening, folder, token)
    print("Ended; no file is left.", flush=True)
    # A picture that is still being computed would hold the process, and nobody waits for it.
    os._exit(0)


def _token() -> str | None:
    token = os.environ.get(TOKEN)
    if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token and token):
        raise InputError(f"{TOKEN} is empty, or has other letters than ASCII's: set another, or unset it.")
    return token


def _serve(
    args: Namespace,
    windows: SlidingWindows | None,
    server: ModuleType,
    listening: socket,
    folder: str,
    token: str | None,
) -> None:
    from bisenetv1_plugin.libraries import optional_library

    for name in ("fastapi", "uvicorn", "python_multipart", "fastapi_offline", "prometheus_client"):
        optional_library(name, "serve")
    if args.page:
        optional_library("gradio", "app")
    with terminal.quiet():
        import prometheus_client

        from bisenetv1_plugin.inference.exported_model import load_export
        from bisenetv1_plugin.inference.segmenter import Segmenter
        from bisenetv1_plugin.serve import api, asgi_server
        from bisenetv1_plugin.serve.guard import Guard, names_of
        from bisenetv1_plugin.serve.request_log import RequestLog

        options = [args.backend, args.device, args.precision, args.cpu_threads]
        options += [windows.crop_size, windows.stride] if windows else []
        segmenter = Segmenter(args.exported, *options)
        registry = prometheus_client.CollectorRegistry()
        prometheus_client.ProcessCollector(registry=registry)
        limits = api.Limits(args.max_megabytes, args.max_megapixels, args.max_seconds, args.queue)
        service = api.Service(segmenter, limits, args.cpu_threads, registry)
        service.warm_up(*(size or 256 for size in load_export(args.exported).input_shape[2:]))
        page = _page(args, windows, folder) if args.page else None
    server.restore_signal_handlers()
    _log_requests()

    def uploads(path: str) -> UploadSlots | None:
        if path == "/segment":
            return service.uploads
        return page.uploads(path) if page else None

    guard = Guard(
        *(_with_page(service.app, page), names_of(args.host, args.allowed_hosts), args.allowed_hosts, uploads),
        *(token, api.OPEN_PATHS, (500, "This request failed; the server's log says why.")),
    )
    secured = "with a token" if token else "without a token"
    print(f"{segmenter.name}; {flags.threads_and_windows(args, windows)}; {secured}")
    print(f"Listening at {server.address(listening)}, see /docs there; Ctrl-C ends this.", flush=True)
    try:
        asgi_server.run(
            RequestLog(guard, api.PATHS.__contains__, registry),
            guard,
            listening,
            is_busy=lambda: service.uploads.in_progress > 0,
            seconds_to_finish=args.max_seconds,
        )
    finally:
        if page:
            page.ending.set()


def _page(args: Namespace, windows: SlidingWindows | None, folder: str) -> Page:
    from bisenetv1_plugin.app.limits import Limits
    from bisenetv1_plugin.app.mount import Page
    from bisenetv1_plugin.app.segmenters import Segmenters

    limits = Limits(args.max_megabytes, args.max_megapixels, _LARGEST_VIDEO)
    return Page(Segmenters(args.exported, args.device, args.cpu_threads, windows), limits, folder)


def _with_page(service: Application, page: Page | None) -> Application:
    """ASGI: the page, where it is there, has the addresses that the service has not."""
    if page is None:
        return service
    from bisenetv1_plugin.serve.api import is_api_path

    app = page.app

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        use_service = scope["type"] == "http" and is_api_path(scope["path"])
        await (service if use_service else app)(scope, receive, send)

    return both


def _log_requests() -> None:
    """A line each on stdout; nobody is told where that cannot be written."""
    logging.raiseExceptions = False
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("bisenetv1_plugin.serve")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
