"""Open a page in the browser that segments pictures, videos and the camera with an exported model.

By default only this machine can reach the page; --host changes that. There is no password. Ctrl-C stops the server and
deletes the uploaded files.
"""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from socket import socket
from types import ModuleType
from typing import TYPE_CHECKING

from bisenetv1_plugin.cli import flags, terminal

if TYPE_CHECKING:
    from bisenetv1_plugin.inference.sliding_window import SlidingWindows

SUMMARY = "segment pictures, videos and the camera on a page in the browser"

_FIRST_PORT = 7860


def add_arguments(parser: ArgumentParser) -> None:
    flags.add_server_arguments(parser, _FIRST_PORT)
    parser.add_argument("--max_seconds", type=int, default=120, help="longest video, default 120")
    parser.add_argument("--device", choices=["gpu", "cpu"], help="default: the page offers both, if there is a GPU")
    flags.add_cpu_threads_argument(parser)


def run(args: Namespace) -> None:
    from bisenetv1_plugin.serve import server

    windows = flags.server_windows(args)
    with server.listen(args.host, args.port, _FIRST_PORT) as listening, server.until_signal(), server.temporary_folder(
        "app"
    ) as folder:
        _show(args, windows, server, listening, folder)
    print("Stopped; all temporary files are deleted.", flush=True)
    # A picture that is still being segmented would keep the process alive.
    os._exit(0)


def _show(args: Namespace, windows: SlidingWindows | None, server: ModuleType, listening: socket, folder: str) -> None:
    from bisenetv1_plugin.libraries import optional_library, restore_signal_handlers

    optional_library("gradio", "app")
    with terminal.quiet():
        from bisenetv1_plugin.app.limits import Limits
        from bisenetv1_plugin.app.mount import Page
        from bisenetv1_plugin.app.segmenters import Segmenters
        from bisenetv1_plugin.serve import asgi_server
        from bisenetv1_plugin.serve.guard import Guard, names_of

        segmenters = Segmenters(args.exported, args.device, args.cpu_threads, windows)
    restore_signal_handlers()
    print(f"{', '.join(segmenters.names)}; {flags.threads_and_windows(args, windows)}")
    limits = Limits(args.max_megabytes, args.max_megapixels, args.max_seconds)
    page = Page(segmenters, limits, folder)
    guard = Guard(page.app, names_of(args.host, args.allowed_hosts), args.allowed_hosts, page.uploads)
    print(f"Open {server.address(listening)} in a browser; Ctrl-C stops it.", flush=True)
    try:
        asgi_server.run(guard, guard, listening)
    finally:
        page.ending.set()
