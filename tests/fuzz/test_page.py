"""`bisenetv1 app`: requests, the bodies of calls, uploaded files, and access."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import av
import cv2
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
from asgi import ask, asked
from hostile import PICTURES, damaged, encoded
from PIL import Image

from bisenetv1_plugin.app.limits import Limits, Uploads
from bisenetv1_plugin.cli import main
from bisenetv1_plugin.errors import InputError
from bisenetv1_plugin.image_files import decode_file
from bisenetv1_plugin.inference import video_reader as frames
from bisenetv1_plugin.inference.segmentation import Segmentation
from bisenetv1_plugin.serve import server
from bisenetv1_plugin.serve.guard import Guard, UploadSlots, names_of

LIMITS = Limits(megabytes=1, megapixels=1, seconds=10)
HASH = "0123456789abcdef" * 4


def video(path, count=4, size=(96, 64), fourcc="MJPG"):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*fourcc), 10, size)
    for i in range(count):
        writer.write(np.full((size[1], size[0], 3), 40 * i % 256, "uint8"))
    writer.release()
    return path


# ---------------------------------------------------------------------------------------------------------- files


@hypothesis.given(damaged(PICTURES))
@hypothesis.example(PICTURES[0])
def test_a_picture_is_checked_or_refused(fuzz, tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "picture"
    path.write_bytes(content)
    with fuzz.in_seconds(20):
        try:
            LIMITS.check_picture(str(path), "a name")
        except InputError as error:
            hypothesis.event("refused")
            assert "a name" in str(error) and "\n" not in str(error)
        else:
            hypothesis.event("taken")
            pixels = decode_file(path)
            assert pixels is None or pixels.shape[0] * pixels.shape[1] <= 1e6


@pytest.fixture(scope="session")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    kinds = (("a.avi", "MJPG"), ("a.mp4", "mp4v"), ("a.webm", "VP80"), ("a.mkv", "mp4v"))
    return [video(folder / name, fourcc=fourcc).read_bytes() for name, fourcc in kinds]


@hypothesis.given(st.data())
def test_a_video_is_checked_or_refused(fuzz, videos, tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / data.draw(st.sampled_from(["v.mp4", "v.avi", "v.webm", "v.mkv"]))
    path.write_bytes(data.draw(damaged(videos)))
    with fuzz.in_seconds(30):
        try:
            LIMITS.check_video(str(path), "a name", lambda: None)
            found = frames.Frames(str(path))
            assert all(picture.shape[0] * picture.shape[1] <= 1e6 for _, picture in found)
        except InputError as error:
            hypothesis.event("refused")
            assert "\n" not in str(error)
        else:
            hypothesis.event("taken")


def test_whole_files_are_taken(videos, tmp_path):
    for number, content in enumerate([*PICTURES[:5], *videos]):
        path = tmp_path / f"{number}.mp4"
        path.write_bytes(content)
        check = LIMITS.check_picture if number < 5 else lambda path, name: LIMITS.check_video(path, name, lambda: None)
        check(str(path), "a name")


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"


class TestListsOfFiles:
    """FFmpeg would open the files that they name."""

    @pytest.fixture
    def secret(self, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        return video(tmp_path / "elsewhere" / "secret.mp4", fourcc="mp4v")

    @pytest.mark.parametrize("ending", frames.VIDEOS)
    @pytest.mark.parametrize(
        "text",
        [
            HLS.format("file://{0}"),
            HLS.format("{0}"),
            HLS.format("elsewhere/secret.mp4"),
            "ffconcat version 1.0\nfile elsewhere/secret.mp4\n",
        ],
    )
    def test_refused_as_videos(self, secret, tmp_path, text, ending):
        path = tmp_path / f"list{ending}"
        path.write_text(text.format(secret))
        with pytest.raises(InputError, match="not MP4, MOV, MKV, WebM or AVI"):
            frames.Frames(str(path))
        with pytest.raises(InputError, match="not MP4, MOV, MKV, WebM or AVI"):
            LIMITS.check_video(str(path), "a name", lambda: None)

    def test_refused_by_ffmpeg(self, secret, tmp_path, monkeypatch):
        """FFmpeg is given a list of formats, for files whose first bytes look like a video."""
        monkeypatch.setattr(frames, "_is_video", lambda head: True)
        (tmp_path / "list.mp4").write_text(HLS.format(secret))
        with pytest.raises(InputError):
            frames.Frames(str(tmp_path / "list.mp4"))
        assert len(list(frames.Frames(str(secret)))) == 4

    def test_a_quicktime_file_whose_frames_are_in_another(self, secret, tmp_path):
        content = secret.read_bytes()
        # `url ` with flag 1: the frames are in this file. Without: in the file of that name.
        at = content.index(b"url \0\0\0\1")
        assert len(list(frames.Frames(str(secret)))) == 4
        name = b"file://" + str(secret).encode() + b"\0"
        entry = (12 + len(name)).to_bytes(4, "big") + b"url \0\0\0\0" + name
        grown = bytearray(content[: at - 4] + entry + content[at + 8 :])
        more = len(entry) - 12
        for kind in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
            where = content.rindex(kind, 0, at) - 4
            grown[where : where + 4] = (int.from_bytes(content[where : where + 4], "big") + more).to_bytes(4, "big")
        hollow = bytes(grown)
        start = hollow.index(b"mdat") + 4
        hollow = hollow[:start] + bytes(hollow.index(b"moov") - 4 - start) + hollow[hollow.index(b"moov") - 4 :]
        (tmp_path / "outer.mov").write_bytes(hollow)
        try:
            shown = [picture for _, picture in frames.Frames(str(tmp_path / "outer.mov"))]
        except InputError:
            shown = []
        assert not any((picture > 60).any() for picture in shown), "the other file's frames"


def test_a_picture_of_another_format_by_a_videos_name(tmp_path):
    """FFmpeg would open it as one of a sequence of pictures, because its name ends with a number."""
    content = b"P6\n#free\n64 48\n255\n" + bytes(64 * 48 * 3)
    assert frames._is_video(content[:12])
    (tmp_path / "a_0001.mp4").write_bytes(content)
    with pytest.raises(InputError, match="cannot open"):
        frames.Frames(str(tmp_path / "a_0001.mp4"))


class TestTooLargeVideos:
    def refused(self, path):
        with pytest.raises(InputError) as refusal:
            LIMITS.check_video(str(path), "a name", lambda: None)
        return str(refusal.value)

    def test_of_many_pixels(self, tmp_path):
        assert "1280 x 800 pixels" in self.refused(video(tmp_path / "a.avi", size=(1280, 800)))

    @pytest.mark.parametrize("size", [(1280, 800), (64, 48)])
    def test_that_change_their_size(self, tmp_path, size):
        with av.open(str(tmp_path / "a.avi"), "w") as container:
            stream = container.add_stream("mjpeg", 10)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuvj420p"
            for time, (width, height) in enumerate([(96, 64)] * 3 + [size] * 3):
                content = io.BytesIO()
                Image.new("RGB", (width, height)).save(content, "JPEG")
                packet = av.Packet(content.getvalue())
                packet.stream, packet.pts, packet.dts = stream, time, time
                container.mux(packet)
        assert f"{size[0]} x {size[1]}" in self.refused(tmp_path / "a.avi")

    def test_that_are_long(self, tmp_path):
        assert "longer than 10 seconds" in self.refused(video(tmp_path / "a.avi", count=101))
        LIMITS.check_video(str(video(tmp_path / "b.avi", count=100)), "a name", lambda: None)

    def test_a_name_that_is_no_text(self, tmp_path):
        """Some libraries crash."""
        folder = os.path.join(os.fsencode(tmp_path), b"\xff\xe9")
        try:
            os.mkdir(folder)
        except OSError:
            pytest.skip("this file system takes text alone")
        path = os.path.join(os.fsdecode(folder), "a.mp4")
        os.rename(video(tmp_path / "a.mp4", fourcc="mp4v"), path)
        code = "import sys\nfrom bisenetv1_plugin.inference.video_reader import Frames\n"
        code += "print(len(list(Frames(sys.argv[1]))))"
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stdout) == (0, "4\n")


@pytest.mark.parametrize("size", [(1001, 1000), (20000, 20000)])
def test_a_picture_of_too_many_pixels(tmp_path, size):
    head = bytearray(PICTURES[4])
    assert head[:2] == b"BM" and int.from_bytes(head[18:22], "little") == 48
    head[18:26] = b"".join(each.to_bytes(4, "little") for each in size)
    (tmp_path / "a.bmp").write_bytes(head)
    with pytest.raises(InputError, match="this page takes 1 million at most: make it smaller"):
        LIMITS.check_picture(str(tmp_path / "a.bmp"), "a name")


def test_a_jpeg_of_many_scans(tmp_path):
    content = encoded("JPEG", progressive=True)
    (tmp_path / "a.jpg").write_bytes(content + b"\xff\xda" * 200)
    with pytest.raises(InputError, match="scans"):
        LIMITS.check_picture(str(tmp_path / "a.jpg"), "a name")


# -------------------------------------------------------------------------------------------- what was uploaded


@pytest.fixture(scope="session")
def uploads(tmp_path_factory):
    folder = tmp_path_factory.mktemp("passing") / "gradio"
    (folder / HASH).mkdir(parents=True)
    (folder / HASH / "a.png").write_bytes(PICTURES[0])
    (folder / "tmp123").write_bytes(b"an upload in progress")
    (folder.parent / "secret.png").write_bytes(PICTURES[0])
    for name, target in (("link.png", "../../secret.png"), ("zero.png", "/dev/zero")):
        os.symlink(target, folder / HASH / name)
    os.mkfifo(folder / HASH / "pipe.png")
    return Uploads(str(folder), 1 << 20)


def hostile_paths(uploads):
    own = os.path.join(uploads.folder, HASH, "a.png")
    parts = [
        *(own, uploads.folder, HASH, "a.png", "link.png", "zero.png", "pipe.png", "tmp123", "..", ".", "", "/", "//"),
        *(
            "/dev/zero",
            "/etc/passwd",
            "file://",
            "http://127.0.0.1:7999/",
            "\0",
            "\udcff",
            "%2e%2e",
            "\\",
            "concat:",
            "|",
        ),
        *("~", "CON", "a" * 300, "/proc/self/fd/0", "secret.png"),
    ]
    return st.lists(st.sampled_from(parts), max_size=5).map("/".join) | st.lists(st.sampled_from(parts)).map("".join)


@hypothesis.given(st.data())
def test_only_uploads_are_opened(fuzz, uploads, data):
    path = data.draw(hostile_paths(uploads) | st.none() | st.integers() | st.lists(st.text()))
    with fuzz.in_seconds(5):
        try:
            found = uploads.own(path)
        except InputError:
            hypothesis.event("refused")
        else:
            hypothesis.event("taken")
            assert found == os.path.join(uploads.folder, HASH, "a.png")


def test_an_upload_is_opened(uploads):
    own = os.path.join(uploads.folder, HASH, "a.png")
    assert uploads.own(own) == own


def test_check_room(tmp_path):
    own = Uploads(str(tmp_path), 1 << 20)
    own.check_room(1 << 20)
    for number in range(16):
        (tmp_path / str(number)).write_bytes(b"short")
    with pytest.raises(InputError, match="no room for more files"):
        own.check_room(1)
    os.utime(tmp_path / "0", (0, 0))
    own.remove_old()
    own.check_room(1)
    assert len(os.listdir(tmp_path)) == 15


def test_remove_old_removes_empty_folders(tmp_path):
    (tmp_path / HASH).mkdir()
    (tmp_path / HASH / "a.png").write_bytes(b"old")
    (tmp_path / HASH[::-1]).mkdir()  # of an upload in progress
    own = Uploads(str(tmp_path), 1 << 20)
    os.utime(tmp_path / HASH / "a.png", (0, 0))
    own.remove_old()
    assert os.listdir(tmp_path / HASH) == []
    os.utime(tmp_path / HASH, (0, 0))
    own.remove_old()
    assert os.listdir(tmp_path) == [HASH[::-1]]
    Uploads(str(tmp_path / "none"), 1).remove_old()


# ------------------------------------------------------------------------------------------------------- requests


async def echo(scope, receive, send):
    """Answer with the body of the request."""
    body, more = b"", scope["method"] == "POST"
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


OURS, PROXY = b"127.0.0.1:7860", b"demo.example.org"
NAMES = [
    OURS,
    b"localhost:7860",
    b"[::1]:7860",
    PROXY,
    b"evil.example",
    b"evil.example:7860",
    b"null",
    b"",
    b":",
    b"127.0.0.1",
]


@pytest.fixture(scope="session")
def guard(uploads):
    slots = UploadSlots(1 << 20, 32, check_room=uploads.check_room)
    names = names_of("127.0.0.1", [PROXY.decode()])
    return Guard(echo, names, [PROXY.decode()], lambda path: slots if path == "/up" else None)


@hypothesis.given(
    hosts=st.lists(st.sampled_from(NAMES) | st.binary(max_size=8), max_size=2),
    origins=st.lists(
        st.sampled_from([b"http://", b"https://", b"", b"file://"]).flatmap(
            lambda scheme: st.sampled_from(NAMES).map(lambda name: scheme + name)
        ),
        max_size=2,
    ),
    forwarded=st.lists(st.sampled_from(NAMES), max_size=1),
    more=st.lists(
        st.tuples(
            st.sampled_from([b"content-length", b"transfer-encoding"]),
            st.sampled_from([b"-1", b"1e3", b"9" * 30, b"chunked", b"", b"99999999"]),
        ),
        max_size=1,
    ),
    method=st.sampled_from(["GET", "POST"]),
)
def test_access(guard, hosts, origins, forwarded, more, method):
    headers = [(b"host", host) for host in hosts] + [(b"origin", origin) for origin in origins]
    headers += [(b"x-forwarded-host", name) for name in forwarded] + more
    status, text = ask(guard, method, "/up", headers, b"x")
    hypothesis.event(str(status))
    assert status in (200, 403, 411, 413, 421) and (status == 200 or text.endswith("."))
    if status == 200:
        assert len(hosts) == 1 and b"evil" not in b"".join([*hosts, *origins, *forwarded]) and b"null" not in origins


@pytest.mark.parametrize(
    "host, origin, status",
    [
        *(
            (host, None, 200)
            for host in ("127.0.0.1:7860", "localhost:7860", "[::1]:7860", "LOCALHOST", "demo.example.org")
        ),
        ("127.0.0.1:7860", "http://127.0.0.1:7860", 200),
        ("127.0.0.1:7860", "https://demo.example.org", 200),
        ("127.0.0.1:7860", "http://127.0.0.1:8000", 403),  # another server on this machine
        ("127.0.0.1:7860", "null", 403),
        ("127.0.0.1:7860", "http://evil.example", 403),
        ("evil.example:7860", "http://evil.example:7860", 421),
        ("127.0.0.1.evil.example", None, 421),
        ("127.0.0.1@evil.example", None, 421),
        ("", None, 421),
    ],
)
def test_names_of_this_server(guard, host, origin, status):
    headers = [(b"host", host.encode())] + ([(b"origin", origin.encode())] if origin else [])
    assert ask(guard, "GET", "/", headers)[0] == status


@pytest.mark.parametrize(
    "forwarded, status",
    [
        ("demo.example.org, 127.0.0.1:7860", 200),  # two servers on the way
        ("demo.example.org,evil.example", 421),
        ("evil.example, demo.example.org", 421),
        ("demo.example.org,", 421),
    ],
)
def test_servers_in_front(guard, forwarded, status):
    assert ask(guard, "GET", "/", [(b"host", OURS), (b"x-forwarded-host", forwarded.encode())])[0] == status


def test_a_refusal_names_the_cure(guard):
    for headers in ([(b"host", b"seg")], [(b"host", OURS), (b"origin", b"https://seg")]):
        assert "--allowed_hosts NAME" in ask(guard, "GET", "/", headers)[1]


@pytest.mark.parametrize("name", ["https://seg.example.com", "seg.example.com:443", "*", "", "[::1]"])
def test_invalid_allowed_host(name, capsys):
    assert main(["app", "none", "--allowed_hosts", name]) == 2
    assert "only a host name" in capsys.readouterr().err


def test_no_other_site_shows_the_page_in_a_frame(guard):
    assert asked(guard, "GET", "/", [(b"host", OURS)])[1][b"x-frame-options"] == b"SAMEORIGIN"


def test_all_addresses_of_this_machine():
    assert {"localhost", "127.0.0.1"} <= names_of("0.0.0.0") and "evil.example" not in names_of("0.0.0.0")
    assert names_of("192.0.2.7", ["Demo"]) == {"192.0.2.7", "demo"}


@pytest.mark.parametrize("raises", [True, False])
def test_failing_application(raises):
    async def failing(scope, receive, send):
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"Internal Server Error"})
        if raises:
            raise KeyError("x")

    guard = Guard(failing, names_of("127.0.0.1"), [], lambda path: None)
    assert ask(guard, headers=[(b"host", OURS)]) == (400, "This request cannot be answered.")


def test_an_upload_without_room_is_refused(tmp_path):
    slots = UploadSlots(1000, 32, check_room=Uploads(str(tmp_path), 100).check_room)
    guard = Guard(echo, names_of("127.0.0.1"), [], lambda path: slots)
    assert ask(guard, "POST", "/", [(b"host", OURS)], b"x" * 100)[0] == 200
    status, text = ask(guard, "POST", "/", [(b"host", OURS)], b"x" * 101)
    assert status == 507 and "try again then" in text


def test_uploads_at_a_time():
    """One too many gets a 503, and uploads that do not arrive get a 408."""
    slots = UploadSlots(1000, 32, seconds=1)
    guard = Guard(echo, names_of("127.0.0.1"), [], lambda path: slots)

    async def gathered():
        statuses = []

        async def send(message):
            statuses.extend([message["status"]] if "status" in message else [])

        headers = [(b"host", OURS), (b"content-length", b"9")]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": headers}
        await asyncio.gather(*(guard(scope, asyncio.Event().wait, send) for _ in range(33)))
        return statuses

    assert sorted(asyncio.run(gathered())) == [408] * 32 + [503]


# ----------------------------------------------------------------------------------------------------------- calls


@pytest.fixture(scope="session")
def routes(uploads):
    pytest.importorskip("gradio", reason="pip install '.[app]'")
    from bisenetv1_plugin.app.page import build
    from bisenetv1_plugin.app.routes import RequestFilter
    from bisenetv1_plugin.app.translations import translations

    texts = translations(minutes=10, **vars(LIMITS))
    page = build("a", SimpleNamespace(names=["onnxruntime fp32"]), LIMITS, uploads, texts, threading.Event())
    guard = Guard(RequestFilter(echo, page, uploads), names_of("127.0.0.1"), [], lambda path: None)
    numbers = {event.api_name: event._id for event in page.fns.values()}

    def call(method, path, body=b"", query=b""):
        return ask(guard, method, path, [(b"host", OURS)], body, query)

    return SimpleNamespace(ask=call, page=page, own=os.path.join(uploads.folder, HASH, "a.png"), numbers=numbers)


def replaced(value, draw, hostile):
    """The JSON value with some part replaced."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        value, key = dict(value), draw(st.sampled_from(sorted(value)))
        value[key] = replaced(value[key], draw, hostile)
        if not draw(st.integers(0, 3)):
            value[draw(st.sampled_from(["path", "url", "is_stream", "batched", "video", "x", "oauth_token"]))] = draw(
                hostile
            )
        return value
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        value, at = list(value), draw(st.integers(0, len(value) - 1))
        value[at] = replaced(value[at], draw, hostile)
        return value + ([draw(hostile)] if not draw(st.integers(0, 5)) else [])
    return draw(hostile)


@hypothesis.given(st.data())
def test_calls(routes, uploads, data):
    file = {"path": routes.own, "orig_name": "a.png", "meta": {"_type": "gradio.FileData"}}
    body = {"data": [file, "onnxruntime fp32", 0.5], "session_hash": "abc", "fn_index": routes.numbers["picture"]}
    scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | hostile_paths(uploads)
    hostile = scalar | st.lists(scalar, max_size=2) | st.dictionaries(st.text(max_size=3), scalar, max_size=2)
    hostile |= hostile_paths(uploads).map(lambda path: {"path": path, "is_stream": True, "meta": file["meta"]})
    for _ in range(data.draw(st.integers(0, 3))):
        body = replaced(body, data.draw, hostile)
    content = json.dumps(body).encode()
    if data.draw(st.booleans()):
        content = data.draw(damaged([content]))
    path = data.draw(st.sampled_from(["/gradio_api/queue/join", "/gradio_api/call/picture", "/gradio_api/call/video"]))
    status, text = routes.ask("POST", path, content)
    hypothesis.event(str(status))
    assert status in (200, 400, 413, 422) and (status == 200 or text.endswith("."))
    if status == 200:
        passed = json.loads(text)
        given = passed["data"][0] if passed["data"] else None
        assert given is None or (isinstance(given, dict) and given["path"] == routes.own and "url" not in given)
        assert not passed.keys() & {"batched", "oauth_token"} and "is_stream" not in json.dumps(passed["data"])


def test_an_ordinary_call(routes):
    file = {
        "path": routes.own,
        "url": "http://127.0.0.1:7860/x",
        "is_stream": True,
        "meta": {"_type": "gradio.FileData"},
    }
    for path, more in (
        ("call/picture", {}),
        ("queue/join", {"fn_index": routes.numbers["picture"], "session_hash": "a"}),
    ):
        body = {"data": [file, "onnxruntime fp32", 0.5], **more}
        status, text = routes.ask("POST", f"/gradio_api/{path}", json.dumps(body).encode())
        clean = {"path": routes.own, "orig_name": None, "meta": {"_type": "gradio.FileData"}}
        assert status == 200
        assert json.loads(text)["data"] == [clean, "onnxruntime fp32", 0.5, 0, "overlay"], "the defaults"
    for path in ("/etc/passwd", "/dev/zero", "http://127.0.0.1:7999/x.mp4", routes.own.replace("a.png", "link.png")):
        body = {"data": [{**file, "path": path}, "onnxruntime fp32", 0.5]}
        assert routes.ask("POST", "/gradio_api/call/video", json.dumps(body).encode())[0] == 422


@pytest.mark.parametrize("value", [None, 7, -1, "0.5", True, [0.5], float("nan"), float("inf")])
def test_invalid_opacity(routes, value):
    for name, first in (("picture", [None, "onnxruntime fp32"]), ("paint", [None])):
        body = {"data": [*first, value, 0, "overlay"], "fn_index": routes.numbers[name], "session_hash": "a"}
        status, text = routes.ask("POST", "/gradio_api/queue/join", json.dumps(body).encode())
        assert status == 422 and "is not a number from 0 to 1" in text


def join(routes, name, data, session="a"):
    body = {"data": data, "fn_index": routes.numbers[name], "session_hash": session}
    return routes.ask("POST", "/gradio_api/queue/join", json.dumps(body).encode())


def test_call_of_a_cancel_event(routes):
    ends = [name for name, number in routes.numbers.items() if routes.page.fns[number].fn is None]
    assert ends
    for name in ends:
        assert join(routes, name, []) == (422, "there is no such call.")


def test_a_long_text(routes):
    assert join(routes, "picture", [None, "x" * 255, 0.5])[0] == 200
    status, text = join(routes, "picture", [None, "x" * 256, 0.5])
    assert status == 422 and "not a text of up to 255 characters" in text


def test_unfetched_results(routes):
    pending = routes.page._queue.pending_event_ids_session
    pending["busy"] = set(map(str, range(256)))
    try:
        assert "load the page again" in join(routes, "picture", [None, "x", 0.5], "busy")[1]
        assert join(routes, "picture", [None, "x", 0.5], "other")[0] == 200
    finally:
        del pending["busy"]


def test_cancel_needs_no_room(routes, tmp_path):
    from bisenetv1_plugin.app.routes import RequestFilter

    (tmp_path / "a").write_bytes(b"x")
    full = Uploads(str(tmp_path), 1)
    guard = Guard(RequestFilter(echo, routes.page, full), names_of("127.0.0.1"), [], lambda path: None)
    for name, status in (("queue/join", 507), ("call/picture", 507), ("cancel", 200), ("reset", 200)):
        body = json.dumps({"data": [None, "x", 0.5]}).encode()
        assert ask(guard, "POST", f"/gradio_api/{name}", [(b"host", OURS)], body)[0] == status


def test_upload_progress_is_forgotten(routes):
    """Gradio itself keeps it forever."""
    from gradio.routes import file_upload_statuses as known

    for number in range(300):
        known._signals[str(number)].set()
        known.track(str(number))
        assert routes.ask("GET", "/gradio_api/upload_progress", query=b"upload_id=%d" % number)[0] == 200
    assert len(known._signals) <= 256 and len(known._statuses) <= 256 and "299" in known._statuses
    assert routes.ask("GET", "/gradio_api/upload_progress", query=b"x" * 1025)[0] == 414


def test_overlay_without_room(tmp_path, monkeypatch):
    """A short file can have very many frames."""
    pytest.importorskip("gradio", reason="pip install '.[app]'")
    from bisenetv1_plugin.app import page

    monkeypatch.setattr(page, "_UPDATE_SECONDS", 0)
    folder = tmp_path / "gradio" / HASH
    folder.mkdir(parents=True)
    path = str(video(folder / "a.avi", size=(320, 240)))
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype="uint8")
    made = []

    def results(_, confidence):
        for number in range(200):
            made.append(number)
            shown = np.roll(noise, 7 * number, axis=(0, 1))
            yield Segmentation(np.zeros((240, 320), "uint8"), ["road"], np.zeros((1, 3), "uint8"), shown)

    class Segmenters(dict):
        path = "deploy.yaml"

    uploads = Uploads(str(tmp_path / "gradio"), os.path.getsize(path) + (1 << 18))
    handlers = page._Handlers(Segmenters(a=SimpleNamespace(video=results)), LIMITS, uploads, threading.Event())
    tables = [table for _, table in handlers.video({"path": path}, "a", 0.5, 0, "overlay")]
    assert "no room for more files" in tables[-1] and len(made) < 200


def test_a_header_that_names_another_server(routes, uploads):
    from bisenetv1_plugin.app.routes import RequestFilter

    seen = []

    async def record(scope, receive, send):
        seen.extend(key for key, _ in scope["headers"])
        await echo(scope, receive, send)

    filtered = RequestFilter(record, routes.page, uploads)
    assert ask(filtered, headers=[(b"x-gradio-server", b"http://evil.example")])[0] == 200
    assert seen == [b"content-length"]


OPEN = ["/", "/config", "/theme.css", "/assets/index.js", "/gradio_api/info", "/gradio_api/queue/data"]
SHUT = [
    *(
        "/gradio_api/proxy=http://127.0.0.1:7999/",
        "/gradio_api/stream/a/b/1/playlist-file",
        "/gradio_api/file/etc/passwd",
    ),
    *(
        "/gradio_api/component_server",
        "/gradio_api/process_recording",
        "/gradio_api/vibe-edit",
        "/gradio_api/app_id",
    ),
    *(
        "/gradio_api/run/picture",
        "/gradio_api/api/picture",
        "/gradio_api/login",
        "/monitoring",
        "/gradio_api/deep_link",
    ),
    *("/gradio_api/dev/reload", "/gradio_api/custom_component/1/client/component/a", "/pwa_icon/1", "/gradio_api/runs"),
    *("/gradio_api/openapi.json", "/gradio_api/token", "/gradio_api/queue/join/../../proxy=x", "//gradio_api/upload"),
]


def test_routes(routes):
    own = f"/gradio_api/file={routes.own}"
    assert [routes.ask("GET", path)[0] for path in [*OPEN, own]] == [200] * (len(OPEN) + 1)
    assert {routes.ask(method, path)[0] for path in SHUT for method in ("GET", "POST", "PUT", "DELETE")} <= {
        404,
        411,
        422,
    }
    assert routes.ask("POST", "/gradio_api/call/v2/picture", b"{}")[0] == 404
    for path in (
        "/etc/passwd",
        "http://127.0.0.1:7999/",
        f"{routes.own}/../link.png",
        f"{routes.own}/../../tmp123",
        "",
    ):
        assert routes.ask("GET", f"/gradio_api/file={path}")[0] in (403, 404)


@hypothesis.given(st.data())
def test_paths_of_requests(routes, uploads, data):
    start = data.draw(st.sampled_from([*OPEN, *SHUT, "/gradio_api/file="]))
    path = start + data.draw(hostile_paths(uploads))
    status, text = routes.ask(data.draw(st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS"])), path, b"")
    hypothesis.event(str(status))
    assert status in (200, 400, 403, 404, 422)
    if status == 200 and path.startswith("/gradio_api/file="):
        assert uploads.own(path[len("/gradio_api/file=") :]) == routes.own


# --------------------------------------------------------------------------------------------------------- the end


HANGS = """
import ctypes, sys, threading
from bisenetv1_plugin.serve import server
server._SECONDS_TO_END = 1
with server.until_signal(), server.temporary_folder("app") as folder:
    print(folder, flush=True)
    lock = ctypes.create_string_buffer(64)
    libc = ctypes.CDLL(None)
    libc.pthread_mutex_lock(lock)
    libc.pthread_mutex_lock(lock)  # hangs; no signal ends it
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs a call that hangs")
@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.slow)])
def test_signal_ends_a_hanging_server(tmp_path, name):
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", HANGS], stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stdout.readline().startswith(str(tmp_path))
        process.send_signal(getattr(signal, name))
        assert process.wait(20) == 0 and list(tmp_path.iterdir()) == []
    finally:
        process.kill()


SIGNALS = """
import os, signal, sys, time
from bisenetv1_plugin.serve import server
remove = server._remove
def signal_again(folder):
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    remove(folder)
server._remove = signal_again
with server.until_signal(), server.temporary_folder("app") as folder:
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("name", ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.slow)])
def test_second_signal_does_not_interrupt_the_removal(tmp_path, name):
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", SIGNALS, name], env=env, timeout=60, capture_output=True, text=True)
    assert done.returncode == 0 and "Traceback" not in done.stderr and list(tmp_path.iterdir()) == []


def test_a_signal_while_the_folder_is_being_made(tmp_path, monkeypatch):
    mkdir = os.mkdir

    def interrupted(path, mode=0o777):
        mkdir(path, mode)
        raise KeyboardInterrupt

    monkeypatch.setattr(server.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(server.os, "mkdir", interrupted)
    for name in ("TMPDIR", "GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    with pytest.raises(KeyboardInterrupt), server.temporary_folder("app"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_without_sighup(monkeypatch):
    """As on Windows."""
    monkeypatch.delattr(signal, "SIGHUP")
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with server.until_signal():
            pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
