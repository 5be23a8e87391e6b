"""`bisenetv1 serve` in a process of its own, with requests through sockets."""

import base64
import contextlib
import http.client
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from small_network import infer, masks

for name in ("fastapi_offline", "prometheus_client"):
    pytest.importorskip(name, reason="pip install '.[serve]'")

pytestmark = pytest.mark.slow

JSON = {"Accept": "application/json"}


def wait(until, seconds):
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.05)


@contextlib.contextmanager
def serving(exported, folder, *arguments, **environment):
    """A server with its temporary files in `folder`; SIGTERM ends it."""
    folder.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "bisenetv1_plugin", "serve", str(exported), "--port", str(port)]
    log = folder.with_suffix(".log")
    with open(log, "w", encoding="utf-8") as output:
        env = {**os.environ, "TMPDIR": str(folder), "http_proxy": "http://127.0.0.1:9", **environment}
        arguments = ["--cpu_threads", "1", "--backend", "onnxruntime", *arguments]
        process = subprocess.Popen([*command, *arguments], stdout=output, stderr=subprocess.STDOUT, env=env)
    said = lambda: log.read_text(encoding="utf-8")  # noqa: E731
    try:
        wait(lambda: "Listening" in said() or process.poll() is not None, 120)
        assert process.poll() is None, said()
        yield SimpleNamespace(port=port, process=process, said=said, folder=folder)
    finally:
        process.terminate()
        process.wait(60)
    assert process.returncode == 0 and list(folder.iterdir()) == [] and "Traceback" not in said(), said()


def ask(server, method="POST", path="/segment", body=None, headers=None):
    """(status, headers, content)"""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


@pytest.fixture(scope="module")
def server(dynamic, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serve") / "tmp"
    with serving(dynamic, folder, "--max_megabytes", "1", "--queue", "4") as server:
        yield server


@pytest.fixture
def pictures(small):
    return {path.stem: path.read_bytes() for path in sorted(small.images.iterdir())}


def mask_of(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def test_masks_are_those_of_infer(server, dynamic, small, pictures, tmp_path):
    assert infer(dynamic, small, tmp_path, "--backend", "onnxruntime") == 0
    for folder, query in (("", ""), ("color", "?color=true")):
        for name, expected in masks(tmp_path / folder).items():
            status, headers, content = ask(server, path=f"/segment{query}", body=pictures[name])
            assert status == 200 and np.array_equal(mask_of(content), expected)
            assert re.fullmatch(r"waiting;dur=[\d.]+, computing;dur=[\d.]+", headers["server-timing"])
    for name, expected in masks(tmp_path).items():
        status, _, content = ask(server, path="/segment?confidence=true", body=pictures[name], headers=JSON)
        answer = json.loads(content)
        assert np.array_equal(mask_of(base64.b64decode(answer["mask"])), expected) and 0 < answer["confidence"] < 1


def test_many_at_once(server, dynamic, small, pictures, tmp_path):
    """Every request gets its own mask, or a 503."""
    assert infer(dynamic, small, tmp_path, "--backend", "onnxruntime") == 0
    expected = masks(tmp_path)
    names = sorted(pictures) * 20
    with ThreadPoolExecutor(len(names)) as pool:
        answers = list(pool.map(lambda name: ask(server, body=pictures[name]), names))
    assert {status for status, *_ in answers} == {200, 503}
    for name, (status, headers, content) in zip(names, answers):
        if status == 200:
            assert np.array_equal(mask_of(content), expected[name])
        else:
            assert headers["retry-after"] == "1"
    assert ask(server, body=pictures[names[0]])[0] == 200


def raw(server, *parts):
    """The server's answer to these bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        answer = b""
        with contextlib.suppress(ConnectionError):
            for part in parts:
                connection.sendall(part)
            while True:
                some = connection.recv(1 << 16)
                if not some:
                    break
                answer += some
        return answer


def head(server, *lines):
    return "\r\n".join(["POST /segment HTTP/1.1", f"Host: 127.0.0.1:{server.port}", *lines, "", ""]).encode()


def test_invalid_requests(server, pictures):
    content, before = next(iter(pictures.values())), set(server.folder.rglob("*"))
    length = f"Content-Length: {len(content)}"
    chunked = head(server, "Transfer-Encoding: chunked")
    for status, parts in (
        (413, [head(server, "Content-Length: 1000000000"), content]),
        (411, [chunked, b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)]),
        (411, [head(server, "Content-Length: x")]),
        (400, [head(server, length, "Content-Length: 7"), content]),
        (400, [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"]),
    ):
        answer = raw(server, *parts)
        assert answer.startswith(b"HTTP/1.1 %d " % status) or (status == 411 and b" 400 " in answer[:20]), answer
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head(server, length) + content[:10])  # and disconnect
    assert ask(server, body=content)[0] == 200
    assert set(server.folder.rglob("*")) == before


def protocols(app):
    """A factory of the server's protocols, one for each connection, and the state that they share."""
    from bisenetv1_plugin.serve import asgi_server

    config = asgi_server.uvicorn.Config(app, http=asgi_server._Protocol, ws="none", lifespan="off")
    config.load()
    state = asgi_server.uvicorn.server.ServerState()
    return lambda: asgi_server._Protocol(config, state, {}), state


def test_slow_head_is_disconnected(monkeypatch):
    """Of the first request on a connection, and of a later one."""
    import asyncio

    from bisenetv1_plugin.serve import asgi_server

    monkeypatch.setattr(asgi_server, "_SECONDS_FOR_HEAD", 0.5)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    async def asked(first):
        make, _ = protocols(app)
        async with await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0) as listening:
            reader, writer = await asyncio.open_connection(*listening.sockets[0].getsockname())
            writer.write(first)
            await asyncio.sleep(0.2)
            writer.write(b"GET")
            return await asyncio.wait_for(reader.read(), 20)

    assert asyncio.run(asked(b"GET / HT")).startswith(b"HTTP/1.1 408")
    found = asyncio.run(asked(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
    assert found.startswith(b"HTTP/1.1 200") and b"HTTP/1.1 408" in found


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no such limit")
def test_slow_reader_is_disconnected(monkeypatch):
    """uvicorn would keep the connection forever."""
    import asyncio

    from bisenetv1_plugin.serve import server

    monkeypatch.setattr(server, "_SECONDS_TO_READ", 1)

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % (1 << 25))]})
        await send({"type": "http.response.body", "body": bytes(1 << 25)})

    async def connections():
        make, state = protocols(app)
        listening = server.listen("127.0.0.1", None, 8400)
        async with await asyncio.get_running_loop().create_server(make, sock=listening):
            with socket.create_connection(listening.getsockname()) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                while not state.total_requests:
                    await asyncio.sleep(0.1)
                yield len(state.connections)
                while state.connections:
                    await asyncio.sleep(0.1)
                yield 0

    async def counted():
        return [count async for count in connections()]

    assert asyncio.run(asyncio.wait_for(counted(), 20)) == [1, 0]


def test_sigterm_finishes_requests(dynamic, pictures, tmp_path):
    content = next(iter(pictures.values()))
    with serving(dynamic, tmp_path / "tmp", "--queue", "32") as server:
        stopped, statuses, lost = threading.Event(), [], []

        def client():
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
            while not stopped.is_set():
                try:
                    connection.request("POST", "/segment", content)
                except OSError:  # the server has stopped listening
                    return
                try:
                    statuses.append(connection.getresponse().read() and 200)
                except (OSError, http.client.HTTPException) as error:
                    lost.append(error)
                    return

        threads = [threading.Thread(target=client) for _ in range(16)]
        for thread in threads:
            thread.start()
        wait(lambda: len(statuses) > 30, 60)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        stopped.set()
        for thread in threads:
            thread.join()
        assert lost == [] and len(statuses) == server.said().count("POST /segment 200")


def test_token_with_page(dynamic, pictures, tmp_path):
    pytest.importorskip("gradio", reason="pip install '.[app]'")
    with serving(dynamic, tmp_path / "tmp", "--page", BISENETV1_PLUGIN_TOKEN="secret") as server:
        shown = {"Authorization": "Basic " + base64.b64encode(b"me:secret").decode()}
        content = next(iter(pictures.values()))
        assert ask(server, body=content)[0] == ask(server, "GET", "/")[0] == ask(server, "GET", "/config")[0] == 401
        assert ask(server, "GET", "/health")[0] == 200
        assert ask(server, body=content, headers=shown)[0] == 200
        assert b"gradio" in ask(server, "GET", "/", headers=shown)[2]
        assert ask(server, "GET", "/gradio_api/proxy=http://127.0.0.1:9/", headers=shown)[0] == 404
        assert "secret" not in server.said() and "GET other 200" in server.said()


@pytest.mark.parametrize(
    "arguments, environment, why",
    [
        (["--queue", "0"], {}, "whole number from 1 to 400"),
        (["--max_seconds", "0"], {}, "--max_seconds is 0"),
        ([], {"BISENETV1_PLUGIN_TOKEN": ""}, "BISENETV1_PLUGIN_TOKEN is empty"),
        ([], {"BISENETV1_PLUGIN_TOKEN": "a b\n"}, "BISENETV1_PLUGIN_TOKEN is empty, starts"),
        (["--host", "192.0.2.1"], {}, "not an address of this machine"),
    ],
)
def test_refusals(python, arguments, environment, why):
    done = python("-m", "bisenetv1_plugin", "serve", "none", *arguments, **environment)
    assert done.returncode == 2 and why in done.stderr and "Traceback" not in done.stderr


def test_without_its_libraries(python):
    code = "import sys; sys.modules['prometheus_client'] = None; from bisenetv1_plugin.cli import main; "
    done = python("-c", code + "sys.exit(main(['serve', 'none', '--port', '8437']))")
    assert done.returncode == 2 and "pip install '.[serve]'" in done.stderr


def test_neither_paddle_nor_gradio_is_imported(python, dynamic):
    """PaddleSeg is not imported either."""
    code = (
        "import sys\n"
        "from bisenetv1_plugin.cli import serve\n"
        "from bisenetv1_plugin.serve import api, asgi_server, request_log\n"
        "assert not {'paddle', 'paddleseg', 'gradio'} & set(sys.modules)\n"
    )
    done = python("-c", code)
    assert done.returncode == 0, done.stderr
