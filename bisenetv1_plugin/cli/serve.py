"""Segment pictures over HTTP: `POST /segment` with a picture returns its mask as a PNG, or JSON with more.

By default only this machine can reach the server; --host changes that. If the environment variable
BISENETV1_PLUGIN_TOKEN is set, every request but those of /health and /ready must send it. Ctrl-C or SIGTERM stops the
server after it has answered the requests that are under way.
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

SUMMARY = "serve an exported model over HTTP"

TOKEN = "BISENETV1_PLUGIN_TOKEN"
_FIRST_PORT = 8000
_LONGEST_VIDEO = 120  # seconds, with --page


def add_arguments(parser: ArgumentParser) -> None:
    flags.add_server_arguments(parser, _FIRST_PORT)
    parser.add_argument(
        "--max_seconds",
        type=int,
        default=30,
        help="time limit of an upload, and of its answer after that, default 30",
    )
    parser.add_argument(
        "--queue",
        type=flags.queue,
        default=32,
        help="largest number of pictures at a time, default 32; further requests get a 503",
    )
    parser.add_argument("--page", action="store_true", help="also serve the page of `bisenetv1 app`, at /")
    parser.add_argument(
        "--backend", default="auto", choices=["auto", "paddle", "onnxruntime", "openvino"], help="as in `infer`"
    )
    parser.add_argument(
        "--precision", choices=["fp32", "bf16", "int8"], help="default: int8 for a quantized export, else fp32"
    )
    parser.add_argument("--device", choices=["gpu", "cpu"], help="where to run; default: gpu if there is one")
    flags.add_cpu_threads_argument(parser)


def run(args: Namespace) -> None:
    from bisenetv1_plugin.serve import server

    windows = flags.server_windows(args)
    token = _token()
    with server.listen(args.host, args.port, _FIRST_PORT) as listening, server.until_signal(
        args.max_seconds
    ), server.temporary_folder("serve") as folder:
        _serve(args, windows, server, listening, folder, token)
    print("Stopped; all temporary files are deleted.", flush=True)
    # A picture that is still being segmented would keep the process alive.
    os._exit(0)


def _token() -> str | None:
    token = os.environ.get(TOKEN)
    if token is not None and not (token.isascii() and token.isprintable() and token.strip() == token and token):
        raise InputError(
            f"{TOKEN} is empty, starts or ends with a space, or is not printable ASCII: set another, or unset it."
        )
    return token


def _serve(
    args: Namespace,
    windows: SlidingWindows | None,
    server: ModuleType,
    listening: socket,
    folder: str,
    token: str | None,
) -> None:
    from bisenetv1_plugin.libraries import optional_library, restore_signal_handlers

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
    restore_signal_handlers()
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
    print(f"Listening at {server.address(listening)}, see /docs there; Ctrl-C stops it.", flush=True)
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

    limits = Limits(args.max_megabytes, args.max_megapixels, _LONGEST_VIDEO)
    return Page(Segmenters(args.exported, args.device, args.cpu_threads, windows), limits, folder)


def _with_page(service: Application, page: Page | None) -> Application:
    """An ASGI application: the service's addresses, and with --page the page at all others."""
    if page is None:
        return service
    from bisenetv1_plugin.serve.api import is_api_path

    app = page.app

    async def both(scope: Scope, receive: Receive, send: Send) -> None:
        use_service = scope["type"] == "http" and is_api_path(scope["path"])
        await (service if use_service else app)(scope, receive, send)

    return both


def _log_requests() -> None:
    """Log one line per request on stdout; errors of writing it are ignored."""
    logging.raiseExceptions = False
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger = logging.getLogger("bisenetv1_plugin.serve")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
