"""A page in the browser: drop a picture or a video, or use the camera, and see what an exported model makes of it.

It listens on this machine alone unless --host says otherwise, and asks nobody for a password. Ctrl-C ends it; no file
that was given to it is left then.
"""

from __future__ import annotations

import ipaddress
import os
import re
from argparse import ArgumentParser, Namespace
from socket import socket
from types import ModuleType
from typing import TYPE_CHECKING

from bisenetv1_plugin.cli import flags, terminal
from bisenetv1_plugin.errors import InputError

if TYPE_CHECKING:
    from bisenetv1_plugin.inference.windows import Windows

SUMMARY = "a page in the browser, for pictures, videos and the camera"


def add_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("exported", help="the exported folder, or its deploy.yaml")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on, default 127.0.0.1; 0.0.0.0 for all")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 to 7959")
    flags.add_window_arguments(parser)
    parser.add_argument(
        "--max_megabytes", type=int, help="of a file that is given to it, default 16, with --is_slide 32"
    )
    parser.add_argument(
        "--max_megapixels", type=int, help="million pixels of a picture, default 16, with --is_slide 64"
    )
    parser.add_argument("--max_seconds", type=int, default=120, help="of a video, default 120")
    parser.add_argument(
        "--allowed_hosts", nargs="+", default=[], metavar="NAME", help="more names of this server, as of one before it"
    )
    parser.add_argument("--device", choices=["gpu", "cpu"], help="default: both, if there is a GPU")
    flags.add_cpu_threads_argument(parser)


def run(args: Namespace) -> None:
    from bisenetv1_plugin.app import server

    windows = flags.windows(args)
    if args.max_megabytes is None:
        args.max_megabytes = 32 if windows else 16
    if args.max_megapixels is None:  # with windows they need a tenth of the memory
        args.max_megapixels = 64 if windows else 16
    for name in ("max_megabytes", "max_megapixels", "max_seconds"):
        if getattr(args, name) < 1:
            raise InputError(f"--{name} is {getattr(args, name)}; it must be 1 or more.")
    for name in args.allowed_hosts:
        if not (re.fullmatch(r"[\w.-]+", name) or _is_address(name)):
            raise InputError(
                f"--allowed_hosts {name}: give a name alone, such as seg.example.com, without https:// and port."
            )
    with server.listen(args.host, args.port) as listening, server.until_told(), server.passing_folder() as folder:
        _show(args, windows, server, listening, folder)
    print("Ended; no file is left.", flush=True)
    # A picture that is still being computed would hold the process, and nobody waits for it.
    os._exit(0)


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text))
    except ValueError:
        return False


def _show(args: Namespace, windows: Windows | None, server: ModuleType, listening: socket, folder: str) -> None:
    import threading

    from bisenetv1_plugin.libraries import optional_library

    optional_library("gradio", "app")
    path = os.path.join(args.exported, "deploy.yaml") if os.path.isdir(args.exported) else args.exported
    with terminal.quiet():
        from bisenetv1_plugin.app.limits import KEPT_SECONDS, Limits
        from bisenetv1_plugin.app.page import build
        from bisenetv1_plugin.app.segmenters import Segmenters
        from bisenetv1_plugin.app.words import words

        segmenters = Segmenters(path, args.device, args.cpu_threads, windows)
    server.take_signals_back()
    window = "; window {} x {}, stride {} x {}".format(*windows.crop_size, *windows.stride) if windows else ""
    print(f"{', '.join(segmenters.names)}; {args.cpu_threads} threads{window}")
    limits = Limits(args.max_megabytes, args.max_megapixels, args.max_seconds)
    uploads = server.uploads_in(folder, limits.kept_bytes)
    texts = words(minutes=KEPT_SECONDS // 60, **vars(limits))
    title = os.path.basename(os.path.dirname(os.path.abspath(path)))
    ending = threading.Event()
    page = build(title, segmenters, limits, uploads, texts, ending)
    print(f"Open {server.address(listening)} in a browser; Ctrl-C ends this.", flush=True)
    try:
        server.serve(page, texts, listening, args.host, args.allowed_hosts, uploads, limits.bytes)
    finally:
        ending.set()
