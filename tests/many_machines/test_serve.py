"""examples/ray/serve.py: the masks of `Segmenter`, over HTTP."""

import importlib.util
import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bisenetv1_plugin import Segmenter

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/ray"
# `serve run` in a subprocess, on a free port.
RUN = """
import sys
from ray import serve

serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
from ray.serve.scripts import cli
cli(["run", "serve:app", "exported=" + sys.argv[2], "replicas=1"])
"""

pytestmark = [
    pytest.mark.very_slow,
    pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="pip install '.[ray]'"),
]


@pytest.fixture
def address(dynamic, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "RAY_ADDRESS": "local", "RAY_USAGE_STATS_ENABLED": "0"}
    with open(tmp_path / "serve.log", "wb") as log:
        command = [sys.executable, "-c", RUN, str(port), str(dynamic)]
        process = subprocess.Popen(command, cwd=EXAMPLE, env=environment, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def post(address, content, accept="*/*"):
    request = urllib.request.Request(address, content, {"Accept": accept})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


def test_masks_over_http(address, dynamic, small):
    path = sorted(small.images.iterdir())[0]
    until = time.monotonic() + 240
    while True:
        try:
            status, kind, content = post(address, path.read_bytes())
        except OSError:  # the server has not started yet
            status = None
        if status == 200:
            break
        assert time.monotonic() < until
        time.sleep(0.5)
    expected = Segmenter(dynamic)(path)
    assert kind == "image/png" and np.array_equal(np.asarray(Image.open(io.BytesIO(content))), expected.mask)
    status, _, content = post(address, path.read_bytes(), "application/json")
    assert status == 200 and json.loads(content) == expected.shares
    status, _, content = post(address, b"no picture")
    assert status == 400 and b"not a readable image file" in content
    status, _, content = post(address, bytes(17 << 20))
    assert status == 413 and b"at most 16 megabytes" in content
