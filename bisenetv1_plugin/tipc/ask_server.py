"""Start `bisenetv1 serve`, let it segment a list of images, several at a time, and stop it."""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

from bisenetv1_plugin.tipc.inputs import read_list
from bisenetv1_plugin.tipc.params import split_command

_CLIENTS = 4
_SECONDS_TO_START, _SECONDS_TO_END = 120, 60


def main() -> int:
    """Return 0 if every response was a mask and the server exited with 0, else 1."""
    parser = argparse.ArgumentParser(prog="python -m bisenetv1_plugin.tipc.ask_server", description=__doc__)
    parser.add_argument("--server", required=True, help="command of the server, without --port")
    parser.add_argument("--image_path", required=True, help="a list of `image label` lines")
    parser.add_argument("--save_dir", required=True, help="folder for the masks, NAME.png")
    args = parser.parse_args()
    images = [image for image, _ in read_list(Path(args.image_path))]
    folder = Path(args.save_dir)
    folder.mkdir(parents=True, exist_ok=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = split_command(args.server, "--server")
    module = [sys.executable, "-m", "bisenetv1_plugin", *command[1:]] if command[0] == "bisenetv1" else command
    # Without the token of the user's own server: this client sends none.
    environment = {name: value for name, value in os.environ.items() if name != "BISENETV1_PLUGIN_TOKEN"}
    server = subprocess.Popen([*module, f"--port={port}"], env=environment)
    try:
        _wait(server, port)
        with ThreadPoolExecutor(_CLIENTS) as pool:
            statuses = list(pool.map(lambda image: _segment(port, image, folder), images))
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(_SECONDS_TO_END)
    print(f"{statuses.count(200)} of {len(images)} images were answered with a mask; the server ended with {code}")
    return 0 if statuses.count(200) == len(images) and code == 0 else 1


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until the server responds.

    Raises:
        RuntimeError: the server has exited, or takes too long.
    """
    end = time.monotonic() + _SECONDS_TO_START
    while server.poll() is None and time.monotonic() < end:
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS_TO_START)) as connection:
                connection.request("GET", "/ready")
                if connection.getresponse().status == 200:
                    return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("the server has not started")


def _segment(port: int, image: Path, folder: Path) -> int:
    """Send an image, write the mask, and return the HTTP status."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=300)) as connection:
        connection.request("POST", "/segment", image.read_bytes(), {"Accept": "image/png"})
        answer = connection.getresponse()
        content = answer.read()
    if answer.status == 200:
        (folder / f"{image.stem}.png").write_bytes(content)
    else:
        print(f"{image}: {answer.status} {content.decode('utf-8', 'replace')}")
    return answer.status


if __name__ == "__main__":
    sys.exit(main())
