"""The page of `bisenetv1 app` in a process of its own, used by a program and, if Chromium is here, in a browser."""

import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from bisenetv1_plugin import Segmenter

gradio_client = pytest.importorskip("gradio_client", reason="pip install '.[app]'")
httpx = pytest.importorskip("httpx")

NAMES = ["sky & air", "road", "<b>car</b>", "tree", "person"]  # to be escaped in HTML
RUNTIME = "onnxruntime fp32"


@pytest.fixture(scope="module")
def exported(dynamic):
    deploy = yaml.safe_load((dynamic / "deploy.yaml").read_text(encoding="utf-8"))
    deploy["Deploy"]["classes"] = NAMES
    (dynamic / "deploy.yaml").write_text(yaml.safe_dump(deploy), encoding="utf-8")
    return dynamic


@contextlib.contextmanager
def serving(exported, folder, *arguments):
    """A server with its temporary files in `folder`; Ctrl-C ends it, and no file is left."""
    folder.mkdir()
    command = [sys.executable, "-m", "bisenetv1_plugin", "app", str(exported), "--cpu_threads", "1", *arguments]
    log = folder.with_suffix(".log")
    with open(log, "w", encoding="utf-8") as output:
        # This proxy does not answer, so any request through it would fail.
        env = {**os.environ, "TMPDIR": str(folder), "http_proxy": "http://127.0.0.1:9", "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=env)
    said = lambda: log.read_text(encoding="utf-8")  # noqa: E731
    try:
        wait(lambda: "Open" in said() or process.poll() is not None, 120)
        found = re.search(r"Open (http://\S+) ", said())
        assert found, said()
        yield SimpleNamespace(url=found[1], process=process, said=said, folder=folder)
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(60)
    assert code == 0 and list(folder.iterdir()) == []


def wait(until, seconds):
    end = time.monotonic() + seconds
    while not until():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def server(exported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("app") / "tmp"
    with serving(exported, folder, "--max_megabytes", "1", "--max_megapixels", "1") as server:
        yield server


def ask(server, folder, name, path, opacity=0.5, runtime=RUNTIME, more=()):
    """The page's overlay as a file, or None, and the HTML below it. `more`: `unknown_below` and the view."""
    client = gradio_client.Client(server.url, verbose=False, download_files=str(folder))
    return client.predict(gradio_client.handle_file(str(path)), runtime, opacity, *more, api_name=f"/{name}")


@pytest.fixture
def scene(small):
    return sorted(small.images.iterdir())[0]


@pytest.mark.slow
class TestPicture:
    def test_overlay_and_shares(self, server, exported, scene, tmp_path):
        overlay, table = ask(server, tmp_path, "picture", scene, 0.7)
        result = Segmenter(exported, "onnxruntime")(scene)
        shown = np.asarray(Image.open(overlay)).astype(int)
        # JPEG loses detail, so the overlay is compared with those of other opacities.
        error = {each: np.abs(shown - result.overlay(each, legend=False)).mean() for each in (0.5, 0.6, 0.7, 0.8, 0.9)}
        assert min(error, key=error.get) == 0.7 and error[0.7] < 10
        assert re.search(rf"{RUNTIME} · \d+ ms · 96 × 64", table)
        shares = re.findall(r"([\d.]+%)</td></tr>", table)
        assert shares == [f"{share:.1%}" for share in sorted(result.shares.values(), reverse=True) if share]
        assert "<b>car" not in table and "sky &" not in table.replace("&amp;", "")

    def test_confidence(self, server, exported, scene, tmp_path):
        result = Segmenter(exported, "onnxruntime")(scene, confidence=True)
        below = round(float(np.median(result.confidence)), 2)
        overlay, table = ask(server, tmp_path, "picture", scene, more=(below, "overlay"))
        unknown = result.with_unknown(below)
        shares = re.findall(r"<td>([^<]*)</td><td><b[^>]*></b></td><td>([\d.]+%)", table)
        assert ("unknown · 未知", f"{unknown.unknown_share:.1%}") in shares and 0.3 < unknown.unknown_share < 0.7
        assert len(shares) == 1 + len([share for share in unknown.shares.values() if share])
        shown = np.asarray(Image.open(overlay)).astype(int)
        errors = [np.abs(shown - each.overlay(0.5, legend=False)).mean() for each in (unknown, result)]
        assert errors[0] < 10 and errors[0] < errors[1]
        overlay, table = ask(server, tmp_path, "picture", scene, more=(0, "confidence"))
        assert np.abs(np.asarray(Image.open(overlay).convert("L")) / 255 - result.confidence).mean() < 0.03
        assert "unknown" not in table
        overlay, sentence = ask(server, tmp_path, "picture", scene, runtime="paddle fp32", more=(below, "overlay"))
        assert overlay is None and "the export ends in argmax, and paddle fp32 cannot return the logits" in sentence
        assert str(exported) not in sentence
        overlay, sentence = ask(server, tmp_path, "picture", scene, more=(0, "picture"))
        assert overlay is None and "there is no view" in sentence

    def test_refused_pictures(self, server, scene, tmp_path):
        text, cut, wide = (tmp_path / name for name in ("text.png", "cut.jpg", "wide.png"))
        text.write_text("no picture")
        Image.open(scene).save(cut)
        cut.write_bytes(cut.read_bytes()[:900])
        Image.new("RGB", (1100, 1000)).save(wide)
        for path, why in ((text, "not an image"), (cut, "truncated"), (wide, "1100 x 1000 pixels")):
            overlay, sentence = ask(server, tmp_path, "picture", path)
            assert overlay is None and why in sentence and path.name in sentence
            assert str(server.folder) not in sentence and "Traceback" not in server.said()

    def test_odd_pictures(self, server, scene, tmp_path):
        picture = Image.open(scene)
        exif = Image.Exif()
        exif[274] = 6  # the camera was turned
        picture.save(tmp_path / "turned.jpg", exif=exif)
        picture.convert("RGBA").save(tmp_path / "clear.png")
        Image.fromarray(np.asarray(picture.convert("L")).astype("uint16") * 257).save(tmp_path / "deep.png")
        for name, size in (("turned.jpg", (64, 96)), ("clear.png", (96, 64)), ("deep.png", (96, 64))):
            overlay, table = ask(server, tmp_path, "picture", tmp_path / name)
            assert Image.open(overlay).size == size and "%" in table

    def test_offered_runtimes_run(self, server, scene, tmp_path):
        names = re.search(r"^(.*); 1 threads", server.said(), re.MULTILINE)[1].split(", ")
        assert {"openvino fp32", "onnxruntime fp32", "paddle fp32"} <= set(names)
        assert [name in ask(server, tmp_path, "picture", scene, runtime=name)[1] for name in names] == [True] * len(
            names
        )

    def test_ten_at_once(self, server, scene, tmp_path):
        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(lambda _: ask(server, tmp_path, "picture", scene), range(10)))
        assert all(overlay and "%" in table for overlay, table in answers)
        # Gradio would overwrite a file of the same content while another visitor downloads it.
        assert len({Path(overlay).read_bytes() for overlay, _ in answers}) == 10

    def test_a_large_file_is_refused(self, server):
        before = set(server.folder.rglob("*"))
        for size in ((1 << 20) + 1, 20 << 20):
            done = httpx.post(
                f"{server.url}/gradio_api/upload", files={"files": ("a.png", bytes(size))}, trust_env=False
            )
            assert done.status_code == 413 and "bytes" in done.text
        assert {path for path in server.folder.rglob("*") if path.is_file()} <= before


@pytest.mark.slow
class TestVideo:
    @pytest.fixture
    def drive(self, scene, tmp_path):
        video = cv2.VideoWriter(str(tmp_path / "drive.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
        for _ in range(6):
            video.write(cv2.imread(str(scene)))
        video.release()
        return tmp_path / "drive.avi"

    def test_overlay_is_h264(self, server, drive, tmp_path):
        overlay, table = ask(server, tmp_path, "video", drive)
        overlay = overlay["video"] if isinstance(overlay, dict) else overlay
        video = cv2.VideoCapture(overlay)
        with open(overlay, "rb") as file:
            assert b"avc1" in file.read(), "the name of H.264 in an MP4 file"
        assert overlay.endswith(".mp4") and video.get(cv2.CAP_PROP_FPS) == 10
        assert sum(video.read()[0] for _ in range(7)) == 6
        assert "96 × 64 · 6 / 6" in table and "%" in table

    def test_refused_video(self, server, tmp_path):
        (tmp_path / "text.mp4").write_text("no video")
        overlay, sentence = ask(server, tmp_path, "video", tmp_path / "text.mp4")
        assert overlay is None and "text.mp4" in sentence and str(server.folder) not in sentence


@pytest.fixture
def neighbor():
    """Another server on this machine: (its address, the paths of its requests)."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{other.server_port}", asked
        other.shutdown()


@pytest.mark.slow
class TestAttacks:
    @pytest.fixture
    def http(self, server):
        with httpx.Client(base_url=server.url, trust_env=False, timeout=20) as client:
            yield client

    def call(self, http, name, path, **more):
        """The answer to a call that names a file."""
        file = {"path": str(path), "meta": {"_type": "gradio.FileData"}, **more}
        sent = http.post(f"/gradio_api/call/{name}", json={"data": [file, RUNTIME, 0.5]})
        if sent.status_code != 200:
            return sent.text
        return http.get(f"/gradio_api/call/{name}/{sent.json()['event_id']}").text

    def upload(self, http, name, content):
        return http.post("/gradio_api/upload", files={"files": (name, content)}).json()[0]

    @pytest.mark.parametrize("name", ["picture", "video"])
    def test_files_of_the_server(self, http, scene, name):
        for path in (scene, "/dev/zero", "/dev/stdin", f"/proc/self/cwd/{scene.name}", "/etc/passwd"):
            assert "was not uploaded" in self.call(http, name, path)
        own = self.upload(http, "a.png", scene.read_bytes())
        assert "was not uploaded" in self.call(http, name, f"{own}/../../../../../..{scene}")
        assert "image.jpeg" in self.call(http, "picture", own)  # and it still answers

    @pytest.mark.parametrize("name", ["picture", "video"])
    def test_addresses(self, http, neighbor, name):
        address, asked = neighbor
        for is_stream in (False, True):
            assert "was not uploaded" in self.call(http, name, f"{address}/a.mp4", is_stream=is_stream, url=address)
        for path in (f"proxy={address}/a", f"file={address}/a", f"stream/{address}/a"):
            assert http.get(f"/gradio_api/{path}").status_code in (403, 404)
        assert asked == []

    def test_names_of_other_servers(self, http):
        evil = "evil.example:7860"
        for headers in ({"Host": evil}, {"Origin": f"http://{evil}"}, {"Origin": "null"}, {"X-Forwarded-Host": evil}):
            done = http.get("/config", headers=headers)
            assert done.status_code in (403, 421) and "evil" not in done.text
        assert http.get("/config", headers={"Origin": str(http.base_url).rstrip("/")}).status_code == 200

    def test_playlist_named_mp4(self, http, server, scene, tmp_path):
        video = cv2.VideoWriter(str(tmp_path / "secret.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 10, (96, 64))
        video.write(cv2.imread(str(scene)))
        video.release()
        lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:9", "#EXTINF:9,", f"file://{tmp_path}/secret.mp4", "#EXT-X-ENDLIST"]
        answer = self.call(http, "video", self.upload(http, "a.mp4", "\n".join(lines).encode()))
        assert "not MP4, MOV, MKV, WebM or AVI" in answer and "segmented.mp4" not in answer

    def test_uploads_run_no_scripts(self, http):
        for name in ("a.svg", "a.html", "a.js", "a.xhtml"):
            path = self.upload(http, name, b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
            self.call(http, "picture", path)
            headers = http.get(f"/gradio_api/file={path}").headers
            assert headers["content-disposition"].startswith("attachment")
            assert (
                headers["content-security-policy"].startswith("sandbox")
                and headers["x-content-type-options"] == "nosniff"
            )

    def test_invalid_requests(self, http, server):
        own = self.upload(http, "a.png", b"x")
        for done in (
            http.post("/gradio_api/upload?upload_id=x", files={"x": (None, "v")}),
            http.post("/gradio_api/queue/join", json={"data": [1], "fn_index": 99, "session_hash": "a"}),
            http.get(f"/gradio_api/file={own}", headers={"Range": "bytes=1-2-3"}),
            http.post("/gradio_api/cancel", json=[]),
            http.request("PATCH", "/config"),
        ):
            assert 400 <= done.status_code < 500 and "Traceback" not in done.text
        slow = {"Content-Type": "multipart/form-data; boundary=x; charset=punycode"}
        assert "must not name a charset" in http.post("/gradio_api/upload", content=b"--x--\r\n", headers=slow).text
        assert "Traceback" not in server.said()


def check_windows(server, exported, scene, folder):
    """The page offers only runtimes that give logits."""
    said = server.said()
    assert "; window 48 x 40, stride 32 x 24" in said and "onnxruntime" in said and "paddle" not in said
    _, table = ask(server, folder, "picture", scene)
    result = Segmenter(exported, "onnxruntime", crop_size=(48, 40), stride=(32, 24))(scene)
    shares = re.findall(r"([\d.]+%)</td></tr>", table)
    assert shares == [f"{share:.1%}" for share in sorted(result.shares.values(), reverse=True) if share]
    assert result.shares != Segmenter(exported, "onnxruntime")(scene).shares


@contextlib.contextmanager
def upload_in_progress(server):
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as sender:
        head = f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 900000\r\n"
        head += "Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
        head += 'Content-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
        before = set(server.folder.rglob("tmp*"))
        sender.sendall(head.encode() + bytes(100000))
        wait(lambda: [path for path in set(server.folder.rglob("tmp*")) - before if path.is_file()], 120)
        yield


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["SIGTERM", *(pytest.param(name, marks=pytest.mark.very_slow) for name in ("SIGINT", "SIGHUP"))]
)
def test_windows_and_no_file_is_left(exported, scene, tmp_path, name):
    """A signal ends it soon while a video is computed, and while an upload goes on."""
    video = cv2.VideoWriter(str(tmp_path / "long.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 30, (96, 64))
    for frame in [cv2.imread(str(scene))] * 2000:
        video.write(frame)
    video.release()
    window = ("--is_slide", "--crop_size", "48", "40", "--stride", "32", "24")
    with serving(exported, tmp_path / "tmp", *window) as server:
        check_windows(server, exported, scene, tmp_path)
        client = gradio_client.Client(server.url, verbose=False)
        upload = gradio_client.handle_file(str(tmp_path / "long.avi"))
        client.submit(upload, RUNTIME, 0.5, api_name="/video")
        wait(lambda: list(server.folder.rglob("segmented.mp4")), 120)
        with upload_in_progress(server):
            server.process.send_signal(getattr(signal, name))
            assert server.process.wait(20) == 0
        assert list(server.folder.iterdir()) == []
        assert "Traceback" not in server.said() and server.said().endswith(
            "Stopped; all temporary files are deleted.\n"
        )


@pytest.mark.slow
def test_no_file_is_left_while_loading(exported, tmp_path):
    command = [sys.executable, "-m", "bisenetv1_plugin", "app", str(exported)]
    process = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=subprocess.DEVNULL)
    wait(lambda: list(tmp_path.glob("bisenetv1-app-*")), 60)
    process.terminate()
    assert process.wait(20) == 0 and list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_where_it_listens(exported, server):
    """On 127.0.0.1 and no other address of this machine."""
    port = int(server.url.rpartition(":")[2])
    assert httpx.get(server.url, trust_env=False).status_code == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", port)).close()


class TestRefusals:
    @pytest.fixture
    def taken(self):
        with socket.create_server(("127.0.0.1", 0)) as other:
            yield other.getsockname()[1]

    def refused(self, *arguments):
        command = [sys.executable, "-m", "bisenetv1_plugin", "app", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2 and "Traceback" not in done.stderr
        return done.stderr

    @pytest.mark.slow
    def test_a_taken_port(self, taken):
        assert f"port {taken} is taken" in self.refused("none", "--port", taken)

    def test_the_next_free_port(self):
        from bisenetv1_plugin.serve import server

        with server.listen("127.0.0.1", None, 7860) as first, server.listen("127.0.0.1", None, 7860) as second:
            assert first.getsockname()[1] < second.getsockname()[1] <= 7959
            assert server.address(second) == f"http://127.0.0.1:{second.getsockname()[1]}"

    @pytest.mark.parametrize("host", [pytest.param("none.invalid", marks=pytest.mark.very_slow), "192.0.2.1"])
    @pytest.mark.slow
    def test_a_host_that_is_not_this_machine(self, host):
        assert f"--host {host}" in self.refused("none", "--host", host)

    @pytest.mark.parametrize("port", [-1, pytest.param(65536, marks=pytest.mark.very_slow)])
    @pytest.mark.slow
    def test_no_such_port(self, port):
        assert "from 1 to 65535" in self.refused("none", "--port", port)

    def test_limit_of_zero(self):
        assert "--max_megabytes is 0" in self.refused("none", "--max_megabytes", 0)

    @pytest.mark.very_slow
    def test_no_export(self, tmp_path):
        assert "does not exist" in self.refused(tmp_path / "none" / "deploy.yaml")

    @pytest.mark.slow
    def test_without_gradio(self, python):
        code = "import sys; sys.modules['gradio'] = None; from bisenetv1_plugin.cli import main; "
        done = python("-c", code + "sys.exit(main(['app', 'none']))")
        assert done.returncode == 2 and "pip install '.[app]'" in done.stderr

    def test_the_help_needs_no_gradio(self, python):
        code = "import sys; from bisenetv1_plugin.cli import parser; parser(); assert 'gradio' not in sys.modules"
        assert python("-c", code).returncode == 0


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A function that opens a URL in headless Chromium, in a language."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no Chromium here: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        *("headless", "no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync"),
        *("disable-background-networking", "disable-component-update", "disable-dev-shm-usage"),
        *(f"user-data-dir={tmp_path_factory.mktemp('profile')}", "no-proxy-server"),
        *("use-fake-device-for-media-stream", "use-fake-ui-for-media-stream"),
    ):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    page = webdriver.Chrome(options, webdriver.ChromeService(driver))
    agent = page.execute_script("return navigator.userAgent")

    def open_page(url, language):
        page.execute_cdp_cmd("Network.setUserAgentOverride", {"userAgent": agent, "acceptLanguage": language})
        page.get("about:blank")
        page.get(url)
        wait(lambda: page.find_elements("css selector", "input[type=file]"), 60)
        return page

    yield open_page
    page.quit()


def give(page, path):
    page.find_elements("css selector", "input[type=file]")[0].send_keys(str(path))


def shown(page, selector):
    """The text of the visible elements; '' if none is visible."""
    return "\n".join(found.text for found in page.find_elements("css selector", selector) if found.is_displayed())


def click(page, label):
    """Click a button, by its text or its name for screen readers."""
    buttons = page.find_elements("css selector", "button")
    named = [found for found in buttons if label in (found.text, found.get_attribute("aria-label"))]
    next(found for found in named if found.is_displayed()).click()


@pytest.mark.slow
class TestBrowser:
    def test_a_picture(self, server, browser, scene):
        page = browser(server.url, "en")
        give(page, scene)
        wait(lambda: shown(page, ".shares"), 60)
        assert "ms · 96 × 64" in page.page_source and "<b>car</b>" not in page.page_source
        results = lambda: [found.get_attribute("src") for found in page.find_elements("css selector", "img")]  # noqa: E731
        before = results()
        page.find_element("css selector", "input[type=range]").send_keys("\ue014" * 5)  # the right arrow: more opaque
        wait(lambda: results() != before, 60)
        assert "unknown" not in shown(page, ".shares")
        _, unknown_below = page.find_elements("css selector", "input[type=range]")
        unknown_below.send_keys("\ue014" * 20)  # to the end: 1
        wait(lambda: "unknown" in shown(page, ".shares"), 60)
        before = results()
        next(found for found in page.find_elements("css selector", "label") if "Confidence" in found.text).click()
        wait(lambda: results() != before, 60)
        own_pages = ("chrome://", "about:")
        addresses = [address for address in asked_for(page) if not address.startswith(own_pages)]
        assert addresses and [address for address in addresses if not address.startswith(server.url)] == []

    def test_refused_picture(self, server, browser, tmp_path):
        (tmp_path / "text.png").write_text("no picture")
        page = browser(server.url, "en")
        give(page, tmp_path / "text.png")
        wait(lambda: "text.png cannot be read" in shown(page, ".fault"), 60)

    def test_a_file_that_is_too_large(self, server, browser, tmp_path):
        (tmp_path / "large.jpg").write_bytes(bytes(20 << 20))
        page = browser(server.url, "en")
        give(page, tmp_path / "large.jpg")
        wait(lambda: "maximum allowed size" in shown(page, ".toast-body"), 60)

    @staticmethod
    def with_video(page, scene, tmp_path, frames):
        """The page while it segments a video of one scene."""
        video = cv2.VideoWriter(str(tmp_path / "drive.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (96, 64))
        for _ in range(frames):
            video.write(cv2.imread(str(scene)))
        video.release()
        next(tab for tab in page.find_elements("css selector", "button") if "Video" in tab.text).click()
        wait(lambda: len(page.find_elements("css selector", "input[type=file]")) > 1, 60)
        page.find_elements("css selector", "input[type=file]")[-1].send_keys(str(tmp_path / "drive.avi"))
        time.sleep(2)
        click(page, "Segment the video")
        return page

    def test_stop_video(self, server, browser, scene, tmp_path):
        page = self.with_video(browser(server.url, "en"), scene, tmp_path, frames=300)
        wait(lambda: "/ 300" in shown(page, "body"), 60)
        click(page, "Stop")
        wait(lambda: "processing" not in page.page_source, 60)
        time.sleep(2)
        before = shown(page, ".shares")
        time.sleep(2)
        assert before and shown(page, ".shares") == before and "Traceback" not in server.said()

    def test_a_video_plays(self, server, browser, scene, tmp_path):
        page = self.with_video(browser(server.url, "en"), scene, tmp_path, frames=20)
        found = "[...document.querySelectorAll('video')].find(each => each.src.includes('segmented'))"
        wait(lambda: page.execute_script(f"return Boolean({found})"), 60)
        page.execute_script(f"let film = {found}; film.muted = true; film.play()")
        wait(lambda: page.execute_script(f"return {found}.currentTime > 1"), 60)
        state = f"let film = {found}; return [film.videoWidth, film.videoHeight, film.error, film.duration]"
        assert page.execute_script(state) == [96, 64, None, 2]

    def test_chinese(self, server, browser):
        page = browser(server.url, "zh-CN")
        wait(lambda: "运行时与精度" in page.page_source, 60)
        assert "Opacity" not in shown(page, "body")


def asked_for(page):
    """The addresses that the page has loaded, except `data:` and `blob:`, which are its own."""
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return [each["request"]["url"] for each in sent if not each["request"]["url"].startswith(("data:", "blob:"))]
